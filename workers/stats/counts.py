"""Long tables of ratings as pooled count patterns: what agreement and its bootstrap need, and no more."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

MAX_DENSE_CELLS = 50_000_000


@dataclass(frozen=True, slots=True)
class RatingCounts:
    """Items pooled by how often each value was given to them.

    patterns : (p, v) counts, one row a distinct pattern, only items with two or more ratings
    frequency : (p,) items with that pattern
    values : (v,) the values, ascending
    n_single : items with one rating, which say nothing of agreement
    """

    patterns: NDArray[np.int64]
    frequency: NDArray[np.int64]
    values: NDArray[np.float64]
    n_raters: int
    n_single: int

    @property
    def n_items(self) -> int:
        return int(self.frequency.sum())

    @property
    def n_ratings(self) -> int:
        return int(self.patterns.sum(axis=1) @ self.frequency)


def codes_of(column: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.generic]]:
    """(place of each entry among the distinct ones, the distinct ones ascending). Small integers need no sort."""
    array = np.asarray(column)
    if array.dtype.kind == "O":
        array = array.astype(str)
    if array.dtype.kind in "iu" and array.size:
        low, high = int(array.min()), int(array.max())
        if high - low <= 4 * array.size + 1024:
            shifted = (array - low).astype(np.int64, copy=False)
            present = np.bincount(shifted, minlength=high - low + 1) > 0
            if present.all():
                return shifted, np.arange(low, high + 1)
            return (np.cumsum(present) - 1)[shifted], np.flatnonzero(present) + low
    distinct, inverse = np.unique(array, return_inverse=True)
    return inverse.astype(np.int64, copy=False), distinct


def rating_counts(item: ArrayLike, rater: ArrayLike, value: ArrayLike) -> RatingCounts:
    """Pool a long table of ratings.

    Parameters
    ----------
    item, rater : arrays of shape (n,)
        Who rated what: integers or texts.
    value : array of shape (n,)
        Finite numbers; for categories any numbering.

    Raises
    ------
    ValueError
        Lengths differ, a value is not finite, a rater rated an item twice, or items x values are too many to count.
    """
    items, item_names = codes_of(item)
    raters, rater_names = codes_of(rater)
    numbers = np.asarray(value)
    if not len(items) == len(raters) == len(numbers):
        raise ValueError(f"item, rater and value differ in length: {len(items)}, {len(raters)}, {len(numbers)}")
    if numbers.dtype.kind not in "iufb" or not np.isfinite(numbers).all():
        raise ValueError("value must hold finite numbers")
    _refuse_repeats(items, raters, len(item_names), len(rater_names))
    if len(items) == 0:
        return RatingCounts(np.zeros((0, 0), np.int64), np.zeros(0, np.int64), np.zeros(0), 0, 0)
    codes, values = codes_of(numbers)
    n_values = len(values)
    if len(item_names) * n_values > MAX_DENSE_CELLS:
        raise ValueError(f"{len(item_names)} items x {n_values} distinct values are too many; round the values first")
    counts = np.bincount(items * n_values + codes, minlength=len(item_names) * n_values).reshape(-1, n_values)
    per_item = counts.sum(axis=1)
    patterns, frequency = pool(counts[per_item > 1])
    n_single = int((per_item == 1).sum())
    return RatingCounts(patterns, frequency, values.astype(np.float64), len(rater_names), n_single)


def pool(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(distinct rows, how often each occurs)."""
    base = int(counts.max(initial=0)) + 1
    n_values = counts.shape[1]
    if base**n_values < 2**62:
        keys = counts @ np.array([base**place for place in range(n_values)], dtype=np.int64)
        _, first, frequency = np.unique(keys, return_index=True, return_counts=True)
        return counts[first], frequency
    if len(counts) == 0:
        return counts, np.zeros(0, dtype=np.int64)
    distinct, frequency = np.unique(counts, axis=0, return_counts=True)
    return distinct, frequency


def _refuse_repeats(items: NDArray[np.int64], raters: NDArray[np.int64], n_items: int, n_raters: int) -> None:
    keys = items * n_raters + raters
    if n_items * n_raters <= 8 * MAX_DENSE_CELLS:
        seen = np.zeros(n_items * n_raters, dtype=bool)
        seen[keys] = True
        n_distinct = int(np.count_nonzero(seen))
    else:
        n_distinct = len(np.unique(keys))
    if n_distinct != len(keys):
        raise ValueError(f"{len(keys) - n_distinct} ratings repeat an item and rater; keep one a rater and item")
