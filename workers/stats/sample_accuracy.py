"""Pairs ranked right, and samples whose every pair is ranked right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from workers.stats.intervals import Interval, wilson_interval


@dataclass(frozen=True, slots=True)
class SampleAccuracy:
    """accuracy: share of pairs with a margin above zero; accuracy_plus: share of samples with all pairs right.

    accuracy_plus never exceeds the accuracy where every sample has equally many pairs. The interval of accuracy_plus is
    Wilson's over samples.
    """

    accuracy: float
    accuracy_plus: float
    interval_plus: Interval
    n_pairs: int
    n_samples: int


def sample_accuracy(margin: ArrayLike, samples: Sequence[str]) -> SampleAccuracy:
    """Both shares for margins (n,), r(chosen) - r(rejected), finite, of pairs of the named samples; n >= 1.

    Acc and Acc+ of Zhang et al. (2025), arXiv 2509.16127. A zero margin is wrong.
    """
    values = np.asarray(margin, dtype=np.float64)
    if values.shape != (len(samples),) or not len(values) or not np.isfinite(values).all():
        raise ValueError(
            f"margin must be finite and have one entry a pair, got {values.shape} for {len(samples)} pairs"
        )
    _, place = np.unique(np.array(samples, dtype=object).astype(str), return_inverse=True)
    n_pairs = np.bincount(place)
    n_right = np.bincount(place, weights=values > 0)
    n_whole = int((n_right == n_pairs).sum())
    return SampleAccuracy(
        accuracy=float((values > 0).mean()),
        accuracy_plus=n_whole / len(n_pairs),
        interval_plus=wilson_interval(n_whole, len(n_pairs)),
        n_pairs=len(values),
        n_samples=len(n_pairs),
    )
