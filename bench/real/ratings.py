"""Rated responses and pairs of the data pack: UltraFeedback with its scores, MT-Bench answers as judges grade them."""

import gzip
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from workers.context import CheckpointRef, LocalJobContext, RewardModelRef
from workers.data.schema import LabelledResponse, Message, PreferencePair
from workers.environment import peak_rss_mib
from workers.jobs import JOBS
from workers.specs import parse_spec

DATA = Path(os.environ.get("SHARED_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
ULTRAFEEDBACK = "ultrafeedback-sample/pairs.part.jsonl.gz"
JUDGES = ("exaone_judge_32B", "gemma4_judge_12B", "gpt_judge_gpt4omini", "qwen_judge_14B", "qwen_judge_32B")
OVERALL, VERBOSITY = "ultrafeedback", "verbosity"
ATTRIBUTES = [OVERALL, *JUDGES, VERBOSITY]
SHARE, SEED, MAX_LENGTH = 0.25, 0, 128


def lines(file: str) -> Iterator[dict[str, Any]]:
    raw = (DATA / file).read_bytes()
    text = (gzip.decompress(raw) if file.endswith(".gz") else raw).decode()
    yield from map(json.loads, text.strip().split("\n"))


def said(role: str, text: str) -> list[Message]:
    return [{"role": role, "content": text}]


def verbosity(text: str) -> float:
    """No rater was asked, so length stands in: doublings of 100 characters."""
    return math.log2(max(1, len(text)) / 100)


def pairs(limit: int | None = None) -> list[PreferencePair]:
    """UltraFeedback pairs, the chosen response first in every other one."""
    made = []
    for i, row in enumerate(lines(ULTRAFEEDBACK)):
        if limit is not None and i >= limit:
            break
        sides = [said("assistant", row["chosen"]), said("assistant", row["rejected"])]
        verdict = "a" if i % 2 else "b"
        a, b = sides if verdict == "a" else sides[::-1]
        made.append(
            PreferencePair(
                f"uf-{i}", said("user", row["prompt"]), a, b, verdict, response_a_id=2 * i, response_b_id=2 * i + 1
            )
        )
    return made


def rated(limit: int | None = None) -> list[LabelledResponse]:
    """The responses of these pairs with their scores, and MT-Bench first turns with their grades, all from 1 to 10."""
    rows = []
    for i, row in enumerate(lines(ULTRAFEEDBACK)):
        if limit is not None and i >= limit:
            break
        for side in ("chosen", "rejected"):
            ratings = {OVERALL: float(row["metadata"][f"score_{side}"]), VERBOSITY: verbosity(row[side])}
            rows.append(LabelledResponse(said("user", row["prompt"]), said("assistant", row[side]), ratings))
    return rows + graded()


def graded() -> list[LabelledResponse]:
    """English MT-Bench: 40 questions, six models; each judge is an attribute of its own, since they differ."""
    folder = "korean-mt-bench/en"
    questions = {row["question_id"]: row["turns"][0] for row in lines(f"{folder}/questions.part.jsonl")}
    grades: dict[tuple[int, str], dict[str, float]] = {}
    for judge in JUDGES:
        for row in lines(f"{folder}/single_grade.{judge}.part.jsonl.gz"):
            if 1 <= row["score_turn1"] <= 10:
                grades.setdefault((row["question_id"], row["model_id"]), {})[judge] = float(row["score_turn1"])
    rows = []
    for row in lines(f"{folder}/answers.part.jsonl.gz"):
        text = row["choices"][0]["turns"][0]
        found = grades.get((row["question_id"], row["model_id"]), {})
        if found and text.strip():
            told = {**found, VERBOSITY: verbosity(text)}
            rows.append(LabelledResponse(said("user", questions[row["question_id"]]), said("assistant", text), told))
    return rows


def train(
    family: str,
    config: Mapping[str, Any],
    *,
    on_pairs: list[PreferencePair] | None = None,
    on_ratings: list[LabelledResponse] | None = None,
    checkpoints: dict[str, CheckpointRef] | None = None,
    **spec: Any,
) -> tuple[dict[str, Any], LocalJobContext]:
    """The real job on MiniLM. The same prompts are held out whatever is trained: the split follows from their hash."""
    ctx = LocalJobContext(
        Path(tempfile.mkdtemp(prefix="steelyard-real-")),
        pairs={"pairs": on_pairs or []},
        labelled={"pairs": on_ratings or []},
        reward_models={"model": RewardModelRef("model", family, {"max_length": MAX_LENGTH, **config})},
        checkpoints={} if checkpoints is None else checkpoints,
        reward_model="model",
    )
    job: Any = JOBS.get("train_rm")
    asked = {"reward_model": "model", "source": {"dataset": "pairs"}, "validation_share": SHARE, "seed": SEED, **spec}
    return job().run(ctx, parse_spec(job.Spec, asked)), ctx


def held_out_accuracy(ctx: LocalJobContext, checkpoint: str, held_out: list[PreferencePair]) -> dict[str, Any]:
    """Of a reward model on pairs, by the real evaluation job."""
    ctx.pairs = {**ctx.pairs, "held out": held_out}
    job: Any = JOBS.get("evaluate")
    found = job().run(ctx, parse_spec(job.Spec, {"checkpoint": checkpoint, "source": {"dataset": "held out"}}))
    told: dict[str, Any] = found["accuracy"]
    return told


def line(family: str, data: str, result: Mapping[str, Any], accuracy: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """What one run came to, with the accuracy on held-out UltraFeedback pairs."""
    return {
        "family": family,
        "data": data,
        "n_train": result["n_train"],
        "n_test": accuracy["n"],
        "metric": "accuracy on held-out UltraFeedback pairs",
        **{key: round(accuracy[key], 4) for key in ("value", "low", "high")},
        **more,
        "seconds": result["seconds"],
        "peak_rss_mib": round(peak_rss_mib()),
    }


def fit_of(result: Mapping[str, Any]) -> dict[str, float]:
    """R2 and Pearson's correlation of every attribute on held-out prompts."""
    found = result["validation_final"]
    return {key: round(value, 3) for key, value in found.items() if key.startswith(("r2_", "pearson_"))}
