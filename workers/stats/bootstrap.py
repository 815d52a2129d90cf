"""Percentile bootstrap: resample, recompute, take quantiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workers.stats.intervals import Interval, undefined_interval

MAX_CELLS = 4_000_000
MOST_UNDEFINED = 0.05


def percentile_interval(rounds: NDArray[np.float64], level: float = 0.95) -> Interval:
    """Quantiles of bootstrap rounds of shape (r,). Undefined when more than one round in twenty is (nan)."""
    defined = rounds[~np.isnan(rounds)]
    if len(defined) < (1 - MOST_UNDEFINED) * len(rounds) or len(defined) == 0:
        return undefined_interval("too many bootstrap rounds are undefined: the items are too few or too alike", level)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level)


def pattern_draws(
    frequency: NDArray[np.int64], n_rounds: int, rng: np.random.Generator
) -> Iterator[NDArray[np.float64]]:
    """Resampled items as counts of each pattern, in blocks of shape (rounds in the block, p), n_rounds rounds in all.

    One multinomial a round where patterns are few, item by item where nearly every item has its own: the same
    distribution.
    """
    n_items, n_patterns = int(frequency.sum()), len(frequency)
    block = max(1, MAX_CELLS // max(n_patterns, n_items if n_patterns > n_items // 8 else 1))
    bounds = np.cumsum(frequency)
    for start in range(0, n_rounds, block):
        size = min(block, n_rounds - start)
        if n_patterns <= n_items // 8:
            yield rng.multinomial(n_items, frequency / n_items, size=size).astype(np.float64)
            continue
        picked = rng.integers(n_items, size=(size, n_items))
        if n_patterns < n_items:
            picked = np.searchsorted(bounds, picked, side="right")
        picked += np.arange(size)[:, None] * n_patterns
        yield np.bincount(picked.ravel(), minlength=size * n_patterns).reshape(size, n_patterns).astype(np.float64)


def bootstrap_interval(
    values: ArrayLike,
    statistic: Callable[[NDArray[np.float64]], float],
    *,
    n_rounds: int = 1000,
    level: float = 0.95,
    rng: np.random.Generator,
) -> Interval:
    """Percentile interval of any statistic of a sample.

    Parameters
    ----------
    values : array of shape (n,) or (n, k)
        One row an independent unit: resample prompts, not the pairs of one prompt.
    statistic
        Takes resampled rows, gives a number (nan where undefined).
    """
    array = np.asarray(values, dtype=np.float64)
    if len(array) < 2:
        return undefined_interval("a bootstrap needs two or more units", level)
    rounds = np.array([statistic(array[rng.integers(len(array), size=len(array))]) for _ in range(n_rounds)])
    return percentile_interval(rounds, level)
