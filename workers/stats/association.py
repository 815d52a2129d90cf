"""How two columns of numbers go together: ranks, Pearson, Spearman and the share of variance explained."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def midranks(values: ArrayLike) -> NDArray[np.float64]:
    """Ranks of shape (n,) from 1; equal values share the mean of their ranks."""
    x = np.asarray(values, dtype=np.float64)
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    found: NDArray[np.float64] = (last - (counts - 1) / 2.0)[inverse]
    return found


def pearson(x: ArrayLike, y: ArrayLike) -> float:
    """Pearson's correlation of two arrays of shape (n,), in [-1, 1]; nan where one does not vary."""
    a, b = _pair(x, y)
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    a, b = a - a.mean(), b - b.mean()
    found = float(a @ b / math.sqrt(float(a @ a) * float(b @ b)))
    return max(-1.0, min(1.0, found))


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Spearman's rank correlation, ties by midranks; nan where one array does not vary. Tested against scipy."""
    a, b = _pair(x, y)
    return pearson(midranks(a), midranks(b))


def r_squared(truth: ArrayLike, predicted: ArrayLike) -> float:
    """1 - squared error / squared deviation of the truth from its own mean; nan where the truth does not vary.

    At most 1; 0 for one who always says the mean of these very rows, below 0 for less.
    """
    y, p = _pair(truth, predicted)
    if len(y) < 2 or np.ptp(y) == 0:
        return math.nan
    return float(1.0 - np.square(y - p).sum() / np.square(y - y.mean()).sum())


def _pair(x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"two arrays of shape (n,) are needed, got {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("there are values that are not finite numbers")
    return a, b
