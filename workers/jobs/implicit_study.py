"""Compare an explicit and an implicit reward model over settings near to and far from their training pairs."""

import csv
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from workers.context import JobContext
from workers.data.schema import Message, ScoredPairs
from workers.errors import JobError
from workers.jobs import JOBS
from workers.jobs.base import Source
from workers.jobs.score import score_missing
from workers.specs import SpecModel
from workers.stats.paired_study import Kind, StudyOutcome, StudyPairs, exrm_vs_dporm, study_rows


class Setting(SpecModel):
    """Pairs under one name, and how far they are from the training pairs."""

    name: str = Field(min_length=1, max_length=100, description="Name of the setting in tables and charts.")
    kind: Kind = Field(description="train: of the training pairs. in_distribution: held out, of the same source.")
    source: Source = Field(description="Pairs with known preferences.")


@JOBS.add("implicit_study")
class ImplicitStudy:
    """Accuracy of a reward head and of a policy's implicit reward on the same pairs, setting by setting."""

    title: ClassVar[str] = "Compare explicit and implicit reward"
    queue: ClassVar[Literal["default", "gpu"]] = "gpu"

    class Spec(SpecModel):
        """Which two checkpoints, on what."""

        checkpoint: str = Field(description="uid of the explicit reward model's checkpoint: one with a reward head.")
        implicit: str = Field(description="uid of the implicit reward model's checkpoint, trained on the same pairs.")
        settings: list[Setting] = Field(
            min_length=1, max_length=20, description="Where the two are compared, each under a name of its own."
        )
        n_rounds: int = Field(default=2000, ge=100, le=100000, description="Bootstrap rounds of the gaps' intervals.")
        seed: int = Field(default=0, ge=0, lt=2**32, description="Seed of everything drawn at random.")

        @model_validator(mode="after")
        def _names_differ(self) -> "ImplicitStudy.Spec":
            names = [setting.name for setting in self.settings]
            if len(set(names)) < len(names):
                raise ValueError("Two settings have the same name.")
            if self.checkpoint == self.implicit:
                raise ValueError("Name two different checkpoints.")
            return self

    def run(self, ctx: JobContext, spec: Spec) -> dict[str, Any]:
        settings = []
        for number, setting in enumerate(spec.settings):
            ctx.progress(number, len(spec.settings), f"Scoring {setting.name}")
            for checkpoint in (spec.checkpoint, spec.implicit):
                score_missing(ctx, checkpoint, setting.source)
                ctx.checkpoint()
            settings.append(_study_pairs(ctx, spec, setting))
        found = exrm_vs_dporm(settings, rng=np.random.default_rng(spec.seed), n_rounds=spec.n_rounds)
        table = write_table(ctx.work_dir / "pairs", settings)
        uids = [ctx.save_artifact(path, kind="table", name=path.name, meta={}) for path in table]
        ctx.progress(1, 1, f"Compared on {sum(s.n for s in found.settings)} pairs")
        return {**study_json(found), "tables": uids}


def _study_pairs(ctx: JobContext, spec: Any, setting: Setting) -> StudyPairs:
    """The pairs that both models could score. JobError where there is none."""
    query = setting.source.query()
    explicit, implicit = (ctx.scored_pairs(uid, query) for uid in (spec.checkpoint, spec.implicit))
    mine, other = _by_pair(explicit), _by_pair(implicit)
    lengths, n_same = _lengths(ctx, query)
    shared = [pair_id for pair_id in mine if pair_id in other and pair_id in lengths]
    if not shared:
        raise JobError(
            f"The setting {setting.name} has no pair with a preference that both models could score.",
            "Choose a source with preferences other than ties, and responses that both models can read.",
        )
    if n_same:
        ctx.log(f"{setting.name}: {n_same} pairs of the same response twice were dropped", "warning")
    n_decided = max(len(explicit) + explicit.n_unscored, len(implicit) + implicit.n_unscored)
    return StudyPairs(
        name=setting.name,
        kind=setting.kind,
        pair_ids=shared,
        prompts=[mine[pair_id][1] for pair_id in shared],
        explicit=np.array([mine[pair_id][0] for pair_id in shared], dtype=np.float64),
        implicit=np.array([other[pair_id][0] for pair_id in shared], dtype=np.float64),
        lengths=np.array([lengths[pair_id] for pair_id in shared], dtype=np.float64),
        n_left_out=n_decided - len(shared),
    )


def _by_pair(pairs: ScoredPairs) -> dict[str, tuple[tuple[float, float], str]]:
    """(reward of chosen, of rejected) and prompt by pair."""
    rewards = zip(pairs.reward_chosen.tolist(), pairs.reward_rejected.tolist(), strict=True)
    return dict(zip(pairs.pair_ids, zip(rewards, pairs.prompt_keys, strict=True), strict=True))


def _lengths(ctx: JobContext, query: dict[str, str]) -> tuple[dict[str, tuple[int, int]], int]:
    """Characters of chosen and rejected by pair, without pairs of the same response twice, and how many these were."""
    found, n_same = {}, 0
    for pair in ctx.open_input("pairs", source=query):
        if pair.verdict not in ("a", "b"):
            continue
        if pair.response_a == pair.response_b:
            n_same += 1
            continue
        found[pair.pair_id] = (_characters(pair.chosen), _characters(pair.rejected))
    return found, n_same


def _characters(messages: Sequence[Message]) -> int:
    return max(1, sum(len(message["content"]) for message in messages))


def write_table(stem: Path, settings: Sequence[StudyPairs]) -> list[Path]:
    """The pair-level table as CSV and Parquet; where they are."""
    import pyarrow
    from pyarrow import parquet

    rows = list(study_rows(settings))
    plain, columns = stem.with_suffix(".csv"), stem.with_suffix(".parquet")
    with plain.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    parquet.write_table(pyarrow.Table.from_pylist(rows), columns)
    return [plain, columns]


def study_json(found: StudyOutcome) -> dict[str, Any]:
    """As JSON; what is undefined is None."""
    told: dict[str, Any] = _defined(asdict(found))
    return told


def _defined(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _defined(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_defined(part) for part in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
