"""The shortest convex combination of several gradients: the direction along which no loss rises, to first order.

Desideri (2012), C. R. Acad. Sci. Paris 350; Frank-Wolfe for many vectors as in Sener and Koltun (2018), arXiv
1810.04650; weights by source for reward models: Zeng et al. (2023), arXiv 2312.07401.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

MAX_ITERATIONS = 1000
TOLERANCE = 1e-5
IN_CONFLICT = 1e-3

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MinNorm:
    """weights (k,), >= 0, of sum 1; squared_norm of the combination; how the iteration ended."""

    weights: Array
    squared_norm: float
    n_iter: int
    converged: bool


def two_vector_weight(v1v1: float, v1v2: float, v2v2: float) -> float:
    """Weight in [0, 1] of v1 in the shortest combination of v1 and v2, from their inner products."""
    if v1v2 >= v1v1:
        return 1.0
    if v1v2 >= v2v2:
        return 0.0
    return (v2v2 - v1v2) / (v1v1 + v2v2 - 2.0 * v1v2)


def min_norm_weights(vectors: ArrayLike) -> MinNorm:
    """argmin over the simplex of |sum_k w_k v_k|^2.

    Parameters
    ----------
    vectors : array of shape (k, d)
        Finite, k >= 1: one gradient a source.

    Returns
    -------
    MinNorm
        Closed form for one and two vectors; else Frank-Wolfe from the best pair, until the weights move by less than
        1e-5 or 1000 iterations are over.

    Notes
    -----
    At the optimum g = sum w_k v_k satisfies v_k . g >= |g|^2 for every k; g = 0 means that the sources conflict fully.
    """
    given = np.asarray(vectors, dtype=np.float64)
    if given.ndim != 2 or not len(given) or not np.isfinite(given).all():
        raise ValueError(f"vectors must be finite and of shape (k, d) with k >= 1, got shape {given.shape}")
    gram = given @ given.T
    if len(gram) == 1:
        return MinNorm(np.ones(1), float(gram[0, 0]), 0, True)
    weights = _best_pair(gram)
    if len(gram) == 2:
        return MinNorm(weights, _squared(weights, gram), 0, True)
    return _frank_wolfe(weights, gram)


def _best_pair(gram: Array) -> Array:
    """The best combination of two vectors, as weights of shape (k,)."""
    found: list[tuple[float, Array]] = []
    for i in range(len(gram)):
        for j in range(i + 1, len(gram)):
            share = two_vector_weight(gram[i, i], gram[i, j], gram[j, j])
            weights = np.zeros(len(gram))
            weights[i], weights[j] = share, 1.0 - share
            found.append((_squared(weights, gram), weights))
    return min(found, key=lambda one: one[0])[1]


def _frank_wolfe(weights: Array, gram: Array) -> MinNorm:
    """Each step goes from the current point to the vector it agrees with least, with the exact line search."""
    for n_iter in range(1, MAX_ITERATIONS + 1):
        towards = gram @ weights
        t = int(towards.argmin())
        share = two_vector_weight(float(weights @ towards), float(towards[t]), float(gram[t, t]))
        moved = share * weights
        moved[t] += 1.0 - share
        change = float(np.abs(moved - weights).sum())
        weights = moved
        if change < TOLERANCE:
            return MinNorm(weights, _squared(weights, gram), n_iter, True)
    return MinNorm(weights, _squared(weights, gram), MAX_ITERATIONS, False)


def _squared(weights: Array, gram: Array) -> float:
    return max(0.0, float(weights @ gram @ weights))


def is_full_conflict(found: MinNorm, vectors: ArrayLike) -> bool:
    """Is the shortest combination nothing beside the vectors themselves? No step then helps every source."""
    longest = float(np.linalg.norm(np.asarray(vectors, dtype=np.float64), axis=1).max())
    return longest > 0 and found.squared_norm**0.5 < IN_CONFLICT * longest


def normalised(vectors: Array, losses: Array, how: str) -> Array:
    """Gradients (k, d) put on one scale before they are combined; every vector must be longer than 0.

    none: as they are (the longest has least say); l2: of length 1; loss: divided by the source's share
    (L_k + 1) / sum(L + 1); loss+: of length 1, divided by L_k. losses: (k,), > 0.
    """
    if how == "none":
        return vectors
    if how == "loss":
        shares = (losses + 1.0) / (losses + 1.0).sum()
        scaled: Array = vectors / shares[:, None]
        return scaled
    unit: Array = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit / losses[:, None] if how == "loss+" else unit
