"""Labelled responses of the data pack as the importer reads them, and one run of the real training job on them."""

import os
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workers.context import LocalJobContext, RewardModelRef
from workers.data.examples import ParsedExample
from workers.data.importing import open_examples
from workers.data.schema import LabelledResponse, Message
from workers.data.split import split_by_prompt
from workers.families import FAMILIES
from workers.jobs import JOBS
from workers.specs import parse_spec

DATA = Path(os.environ.get("SHARED_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
PRMBENCH = "prmbench/prm800k_test.modified.part.jsonl.gz"
MR_GSM8K = tuple(
    f"mr-gsm8k/{name}_eval_results.jsonl.gz" for name in ("Claude", "GPT3_5", "llama2_70b", "metamath_70B")
)
SHARE, SEED = 0.3, 0


def examples(*files: str) -> list[ParsedExample]:
    """Examples of the files; one that several files carry (the same id, and class of error) once."""
    kept: dict[tuple[str, str], ParsedExample] = {}
    for file in files:
        with (DATA / file).open("rb") as stream:
            for found in open_examples(stream, name=Path(file).name).examples:
                if isinstance(found, ParsedExample):
                    kept.setdefault((found.source_id, str(found.meta.get("classification"))), found)
    return list(kept.values())


def rows_of(found: Sequence[ParsedExample]) -> list[LabelledResponse]:
    """One row a response, its numbers as ratings, its steps, and the example's reference."""
    return [
        LabelledResponse(
            prompt=example.prompt,
            response=response.messages,
            ratings={k: float(v) for k, v in response.meta.items() if isinstance(v, int | float)},
            steps=response.meta.get("steps", ()),
            step_labels=response.meta.get("step_labels", ()),
            reference=reference(example.meta.get("reference")),
        )
        for example in found
        for response in example.responses
    ]


def reference(text: Any) -> list[Message] | None:
    return [{"role": "assistant", "content": text}] if isinstance(text, str) and text else None


def sample(rows: Sequence[LabelledResponse], n: int) -> list[LabelledResponse]:
    return random.Random(SEED).sample(list(rows), min(n, len(rows)))


def train(family: str, config: dict[str, Any], rows: list[LabelledResponse], **spec: Any) -> dict[str, Any]:
    """The result of the job, with the held-out rows in `test` and their scores in `scores`."""
    started = time.monotonic()
    settings = {"backbone": "minilm", **config}
    ctx = LocalJobContext(
        Path(tempfile.mkdtemp(prefix="steelyard-real-")),
        labelled={"rows": rows},
        reward_models={"model": RewardModelRef("model", family, settings)},
        reward_model="model",
    )
    job: Any = JOBS.get("train_rm")
    usual = {"reward_model": "model", "source": {"dataset": "rows"}, "validation_share": SHARE, "seed": SEED}
    result: dict[str, Any] = job().run(ctx, parse_spec(job.Spec, {**usual, **spec}))
    _, held_out = split_by_prompt([row.prompt_key for row in rows], validation_share=SHARE, seed=SEED)
    test = [rows[i] for i in held_out]
    entry: Any = FAMILIES.get(family)
    scorer = entry.open(parse_spec(entry.Config, settings), ctx.checkpoints[result["checkpoint"]].path)
    items = [(row.prompt, row.response, {"reference": row.reference, "steps": list(row.steps)}) for row in test]
    return {**result, "test": test, "scores": scorer.score(items), "total_s": time.monotonic() - started}


def line(
    family: str, data: str, result: dict[str, Any], metric: str, interval: tuple[float, float, float]
) -> dict[str, Any]:
    value, low, high = (round(number, 4) for number in interval)
    return {
        "family": family,
        "data": data,
        "n_train": result["n_train"],
        "n_test": result["n_validation"],
        "metric": metric,
        "value": value,
        "low": low,
        "high": high,
        "seconds": round(result["total_s"], 1),
        "peak_rss_mib": result["peak_rss_mib"],
    }
