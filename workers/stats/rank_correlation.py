"""Spearman's rank correlation."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def ranks(values: ArrayLike) -> NDArray[np.float64]:
    """Ranks from 1; equal values share their mean rank."""
    array = np.asarray(values, dtype=np.float64)
    _, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    found: NDArray[np.float64] = (last - (counts - 1) / 2)[inverse]
    return found


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Rank correlation in [-1, 1] of two arrays of shape (n,); nan for fewer than two values or none that differ.

    Pearson's correlation of mean ranks, Spearman (1904). Tested against scipy.
    """
    a, b = ranks(x), ranks(y)
    if a.shape != b.shape:
        raise ValueError(f"two arrays of one length are needed, got {a.shape} and {b.shape}")
    if len(a) < 2 or a.min() == a.max() or b.min() == b.max():
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])
