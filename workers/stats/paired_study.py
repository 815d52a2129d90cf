"""Two reward models of the same training on the same pairs: explicit (a head) against implicit (a policy's log-ratio).

Accuracy of both in every setting, their gap with a paired bootstrap interval, McNemar's exact test, and what the
length of responses does. Method: Lin et al. 2024 (arXiv 2409.03650).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from workers.stats.bootstrap import bootstrap_interval
from workers.stats.intervals import Interval
from workers.stats.metrics import PairwiseAccuracy, pairwise_accuracy
from workers.stats.paired import McNemar, mcnemar_exact
from workers.stats.rank_correlation import spearman

Values = NDArray[np.float64]
Kind = Literal["train", "in_distribution", "out_of_distribution"]
LIKE_LENGTH = 0.1
"""Responses whose lengths differ by at most this share of the longer one count as equally long."""


@dataclass(frozen=True)
class StudyPairs:
    """One setting: rewards of n pairs, columns (chosen, rejected), by both models. `lengths` in any one unit, > 0."""

    name: str
    kind: Kind
    pair_ids: Sequence[str]
    prompts: Sequence[str]
    explicit: Values
    implicit: Values
    lengths: Values
    n_left_out: int = 0
    """Pairs that only one model, or neither, could score."""

    def __post_init__(self) -> None:
        n = len(self.pair_ids)
        shapes = {array.shape for array in (self.explicit, self.implicit, self.lengths)}
        if shapes != {(n, 2)} or len(self.prompts) != n:
            raise ValueError(f"{self.name}: {n} pairs need arrays of shape ({n}, 2), got {sorted(shapes)}")
        if not (np.isfinite(self.explicit).all() and np.isfinite(self.implicit).all()):
            bad = int(np.argmin(np.isfinite(self.explicit).all(axis=1) & np.isfinite(self.implicit).all(axis=1)))
            raise ValueError(f"{self.name}: the reward of pair {self.pair_ids[bad]} is not a finite number")


@dataclass(frozen=True)
class ModelOutcome:
    """One model in one setting. A zero margin is wrong; `tie_rate` is their share."""

    accuracy: PairwiseAccuracy
    tie_rate: float
    length_matched: PairwiseAccuracy
    length_correlation: float
    """Spearman correlation of margin and difference in length; nan where there is nothing to correlate."""


@dataclass(frozen=True)
class SettingOutcome:
    """gap = accuracy of the explicit model - that of the implicit one, in [-1, 1]."""

    name: str
    kind: Kind
    n: int
    n_left_out: int
    explicit: ModelOutcome
    implicit: ModelOutcome
    gap: float
    gap_interval: Interval
    mcnemar: McNemar


@dataclass(frozen=True)
class StudyOutcome:
    """Mean and largest gap are over the settings out of distribution; nan where there is none."""

    settings: list[SettingOutcome]
    mean_gap: float
    max_gap: float


def exrm_vs_dporm(
    settings: Sequence[StudyPairs], *, rng: np.random.Generator, n_rounds: int = 2000, level: float = 0.95
) -> StudyOutcome:
    """Compare an explicit and an implicit reward model over settings."""
    found = [_setting(pairs, rng=rng, n_rounds=n_rounds, level=level) for pairs in settings]
    gaps = [outcome.gap for outcome in found if outcome.kind == "out_of_distribution"]
    return StudyOutcome(found, *((float(np.mean(gaps)), max(gaps)) if gaps else (math.nan, math.nan)))


def study_rows(settings: Sequence[StudyPairs]) -> Iterator[dict[str, Any]]:
    """The pair-level table: one row a pair and setting, so that every figure can be computed again outside."""
    names = ("r_ex_w", "r_ex_l", "r_dpo_w", "r_dpo_l", "len_w", "len_l")
    for pairs in settings:
        numbers = np.concatenate([pairs.explicit, pairs.implicit, pairs.lengths], axis=1).tolist()
        for pair_id, row in zip(pairs.pair_ids, numbers, strict=True):
            yield {"pair_id": pair_id, "setting": pairs.name, **dict(zip(names, row, strict=True))}


def _setting(pairs: StudyPairs, *, rng: np.random.Generator, n_rounds: int, level: float) -> SettingOutcome:
    right_ex, right_dpo = (rewards[:, 0] > rewards[:, 1] for rewards in (pairs.explicit, pairs.implicit))
    difference = right_ex.astype(np.float64) - right_dpo
    return SettingOutcome(
        name=pairs.name,
        kind=pairs.kind,
        n=len(pairs.pair_ids),
        n_left_out=pairs.n_left_out,
        explicit=_outcome(pairs, pairs.explicit, level),
        implicit=_outcome(pairs, pairs.implicit, level),
        gap=float(difference.mean()) if len(difference) else math.nan,
        gap_interval=_gap_interval(difference, pairs.prompts, rng=rng, n_rounds=n_rounds, level=level),
        mcnemar=mcnemar_exact(int((right_ex & ~right_dpo).sum()), int((right_dpo & ~right_ex).sum())),
    )


def _outcome(pairs: StudyPairs, rewards: Values, level: float) -> ModelOutcome:
    margin = rewards[:, 0] - rewards[:, 1]
    difference = pairs.lengths[:, 0] - pairs.lengths[:, 1]
    alike = np.abs(difference) <= LIKE_LENGTH * pairs.lengths.max(axis=1, initial=0.0)
    prompts = list(pairs.prompts)
    matched = [prompt for prompt, is_alike in zip(prompts, alike, strict=True) if is_alike]
    return ModelOutcome(
        accuracy=pairwise_accuracy(margin, prompts=prompts, level=level),
        tie_rate=float((margin == 0).mean()) if len(margin) else math.nan,
        length_matched=pairwise_accuracy(margin[alike], prompts=matched, level=level),
        length_correlation=spearman(margin, difference),
    )


def _gap_interval(
    difference: Values, prompts: Sequence[str], *, rng: np.random.Generator, n_rounds: int, level: float
) -> Interval:
    """Both models are right or wrong on the same pair, and the pairs of one prompt stay together in every resample."""
    _, place = np.unique(np.asarray(prompts, dtype=object).astype(str), return_inverse=True)
    sums = np.stack([np.bincount(place, weights=difference), np.bincount(place)], axis=1)
    return bootstrap_interval(sums, _ratio, n_rounds=n_rounds, level=level, rng=rng)


def _ratio(sums: Values) -> float:
    total, n = sums.sum(axis=0)
    return float(total / n)
