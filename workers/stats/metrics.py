"""How often a model puts the chosen response above the rejected one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from workers.stats.intervals import wilson_interval


@dataclass(frozen=True, slots=True)
class PairwiseAccuracy:
    """Accuracy on n non-tie pairs with Wilson's interval; all nan with a reason where there are none."""

    accuracy: float
    low: float
    high: float
    n: int
    n_correct: int
    n_zero: int
    mean_margin: float
    reason: str = ""


def pairwise_accuracy(margin: ArrayLike, *, level: float = 0.95) -> PairwiseAccuracy:
    """Share of pairs with a margin above zero.

    Parameters
    ----------
    margin : array of shape (n,)
        r(chosen) - r(rejected) in reward units, finite, for pairs with a verdict other than a tie.
    level
        Confidence of the interval.

    Returns
    -------
    PairwiseAccuracy
        A zero margin is wrong: a model that cannot tell the two apart earns nothing. `n_zero` says how many there were.
    """
    values = np.asarray(margin, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"margin must have shape (n,), got {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"margin holds {int((~np.isfinite(values)).sum())} values that are not finite numbers")
    n = len(values)
    if n == 0:
        return PairwiseAccuracy(math.nan, math.nan, math.nan, 0, 0, 0, math.nan, "no pairs with a chosen response")
    n_correct = int((values > 0).sum())
    interval = wilson_interval(n_correct, n, level)
    n_zero = int((values == 0).sum())
    return PairwiseAccuracy(n_correct / n, interval.low, interval.high, n, n_correct, n_zero, float(values.mean()))


def accuracy_by_slice(margin: ArrayLike, slices: Sequence[str], *, level: float = 0.95) -> dict[str, PairwiseAccuracy]:
    """pairwise_accuracy of each group of pairs; `slices` names the group of each margin. Groups come sorted by name."""
    values = np.asarray(margin, dtype=np.float64)
    if len(slices) != len(values):
        raise ValueError(f"{len(slices)} slice names for {len(values)} margins")
    names, inverse = np.unique(np.asarray(slices, dtype=object).astype(str), return_inverse=True)
    return {str(name): pairwise_accuracy(values[inverse == place], level=level) for place, name in enumerate(names)}
