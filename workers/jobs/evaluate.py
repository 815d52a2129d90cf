"""How often a checkpoint prefers what was preferred."""

from collections import Counter
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from workers.context import JobContext
from workers.data.schema import ScoredPairs
from workers.errors import JobError
from workers.jobs import JOBS
from workers.jobs.base import Source
from workers.jobs.score import score_missing
from workers.specs import SpecModel
from workers.stats.calibration_report import calibration_report
from workers.stats.metrics import PairwiseAccuracy, accuracy_by_slice, pairwise_accuracy
from workers.stats.slices import OTHERS, slice_name

MAX_SLICES = 50


@JOBS.add("evaluate")
class Evaluate:
    """Accuracy and calibration of a checkpoint on pairs with a known preference. Scores what is missing first."""

    title: ClassVar[str] = "Evaluate a checkpoint"
    queue: ClassVar[Literal["default", "gpu"]] = "gpu"

    class Spec(SpecModel):
        """What to evaluate, and on what."""

        checkpoint: str = Field(description="uid of a checkpoint.")
        source: Source = Field(description="Pairs with known preferences.")
        slice_by: list[str] = Field(default=[], max_length=10, description="Metadata keys to show accuracy by.")
        seed: int = Field(default=0, ge=0, lt=2**32, description="Seed of everything drawn at random.")

    def run(self, ctx: JobContext, spec: Spec) -> dict[str, Any]:
        scoring = score_missing(ctx, spec.checkpoint, spec.source)
        ctx.checkpoint()
        pairs = ctx.scored_pairs(spec.checkpoint, spec.source.query())
        if not len(pairs) and pairs.n_unscored:
            raise JobError(
                f"Not one pair has a score for both responses: {pairs.n_unscored} are without.",
                "Import scores of these responses, or look into the log for why they got none; then evaluate again.",
            )
        if not len(pairs):
            raise JobError(
                "There is no pair with a chosen and a rejected response to evaluate on.",
                "Choose a source with preferences other than ties.",
            )
        prompts = prompts_of(pairs)
        ctx.progress(1, 1, f"Evaluated on {len(pairs)} pairs")
        return {
            **pair_metrics(pairwise_accuracy(pairs.margin, prompts=prompts)),
            "n_tie": pairs.n_tie,
            "n_unscored": pairs.n_unscored,
            "slices": slice_metrics(pairs, spec.slice_by),
            "calibration": calibration_report(pairs.margin, prompts, rng=np.random.default_rng(spec.seed)),
            "scoring": {key: value for key, value in scoring.items() if key != "environment"},
            "environment": scoring["environment"],
        }


def prompts_of(pairs: ScoredPairs) -> list[str]:
    """Prompt of each pair; where none are named, each pair is its own."""
    return list(pairs.prompt_keys) or [str(number) for number in range(len(pairs))]


def pair_metrics(found: PairwiseAccuracy) -> dict[str, Any]:
    """As JSON. A zero margin counts as wrong; how many there were is told."""
    return {
        "accuracy": {
            "value": found.accuracy,
            "low": found.low,
            "high": found.high,
            "n": found.n,
            "interval": found.interval,
            "n_prompts": found.n_prompts,
            "n_effective": round(found.n_effective, 1),
        },
        "n_pairs": found.n,
        "n_zero_margin": found.n_zero,
        "mean_margin": found.mean_margin,
    }


def slice_metrics(pairs: ScoredPairs, keys: list[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """Metrics by the values of each metadata key, largest slices first; beyond 50 values the rest is one slice."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for key in keys:
        names = [slice_name(meta.get(key)) for meta in pairs.meta]
        counted = Counter(names)
        largest = set(sorted(counted, key=lambda name: (-counted[name], name))[:MAX_SLICES])
        kept = [name if name in largest else OTHERS for name in names]
        slices = accuracy_by_slice(pairs.margin, kept, prompts=prompts_of(pairs))
        ordered = sorted(slices.items(), key=lambda item: (-item[1].n, item[0]))
        found[key] = {name: pair_metrics(part) for name, part in ordered}
    return found
