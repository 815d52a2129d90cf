"""Cohen's kappa with quadratic weights: agreement on a scale beyond chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True)
class Kappa:
    """value <= 1: 1 for agreement in everything, 0 for that of chance; None where undefined, and `reason` says why.

    n_pairs: pairs of votes it rests on (ordered ones, where votes of anonymous raters were pooled).
    """

    value: float | None
    n_pairs: int
    reason: str = ""

    def __str__(self) -> str:
        return "undefined" if self.value is None else f"{self.value:.6f}"


def kappa_of_table(observed: ArrayLike) -> Kappa:
    """Quadratic-weighted kappa of joint counts.

    Parameters
    ----------
    observed : array of shape (K, K)
        observed[i, j]: how often one said i and the other j, >= 0. Rows and columns are the levels in their order, at
        equal distances.

    Returns
    -------
    Kappa
        1 - sum w O / sum w E with w = (i - j)^2 / (K - 1)^2 and E the outer product of the margins over N. Undefined
        without votes, or when both always say the same level.

    Notes
    -----
    Cohen (1968), Psychological Bulletin 70(4). Tested against statsmodels' cohens_kappa.
    """
    table = np.asarray(observed, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or len(table) < 2:
        raise ValueError(f"a square table of two levels or more is needed, got shape {table.shape}")
    if not np.isfinite(table).all() or (table < 0).any():
        raise ValueError("counts must be finite and not negative")
    n = float(table.sum())
    if n == 0:
        return Kappa(None, 0, "undefined: there is no pair of votes")
    level = np.arange(len(table), dtype=np.float64)
    weight = np.square(level[:, None] - level[None, :]) / (len(table) - 1) ** 2
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / n
    chance = float((weight * expected).sum())
    if chance == 0:
        return Kappa(None, round(n), "undefined: every vote is the same level")
    return Kappa(1.0 - float((weight * table).sum()) / chance, round(n))


def weighted_kappa(left: ArrayLike, right: ArrayLike, *, n_levels: int = 5) -> Kappa:
    """Of two raters on the same items: votes of shape (n,), whole numbers from 0 to n_levels - 1."""
    a, b = _levels(left, n_levels), _levels(right, n_levels)
    if a.shape != b.shape:
        raise ValueError(f"both raters must vote on the same items, got {len(a)} and {len(b)} votes")
    return kappa_of_table(_counts(a, b, n_levels))


def pooled_kappa(votes: Sequence[Sequence[int]], *, n_levels: int = 5) -> Kappa:
    """Of anonymous raters: votes[i] are all votes on item i.

    Every ordered pair of votes on an item enters one table, which is symmetric then. An item with m votes has
    m (m - 1) pairs, so that items with more votes count for more; one with a single vote does not enter.
    """
    table = np.zeros((n_levels, n_levels))
    for item in votes:
        counts = np.bincount(_levels(item, n_levels), minlength=n_levels).astype(np.float64)
        table += np.outer(counts, counts) - np.diag(counts)
    return kappa_of_table(table)


def _levels(votes: ArrayLike, n_levels: int) -> NDArray[np.int64]:
    found = np.asarray(votes)
    whole = found.astype(np.int64)
    if found.ndim != 1 or (whole != found).any():
        raise ValueError("votes must be whole numbers in one row")
    if len(whole) and (whole.min() < 0 or whole.max() >= n_levels):
        raise ValueError(f"votes must lie between 0 and {n_levels - 1}, got {whole.min()} to {whole.max()}")
    return whole


def _counts(a: NDArray[np.int64], b: NDArray[np.int64], n_levels: int) -> NDArray[np.float64]:
    flat = np.bincount(a * n_levels + b, minlength=n_levels**2)
    return flat.reshape(n_levels, n_levels).astype(np.float64)
