"""One reward from several uncertain heads: the most certain one mixed with the lowest.

Yan et al. (2024), Reward-Robust RLHF in LLMs. The weights have names, w_nominal and w_min, since accounts differ on
which of the two a single lambda multiplies; both forms of the minimum are reconstructed from a stated expectation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

MOST_APART = 0.5
"""Head means on a reference set may differ by this many pooled standard deviations before a minimum says nothing."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RobustMix:
    """Arrays of shape (n,), in reward units: nominal = mu of head k_star (counted from 0), minimum, and their mix."""

    nominal: Array
    minimum: Array
    k_star: NDArray[np.int64]
    mixed: Array


def robust_mix(
    mu: ArrayLike,
    sigma: ArrayLike,
    *,
    w_nominal: float,
    w_min: float,
    min_mode: Literal["per_sample", "per_batch"] = "per_sample",
) -> RobustMix:
    """w_nominal * (mu of the head with the least sigma) + w_min * (the least mu).

    Parameters
    ----------
    mu, sigma : arrays of shape (n, k)
        Mean and spread of every head, on one scale; sigma > 0.
    w_nominal, w_min
        >= 0, of sum 1. (1, 0) is the nominal reward, (0, 1) the worst case.
    min_mode
        per_sample: the least head of every response; per_batch: the head of the least mean, for all. The mean of the
        first never exceeds that of the second.
    """
    means, spreads = np.asarray(mu, dtype=np.float64), np.asarray(sigma, dtype=np.float64)
    if means.ndim != 2 or means.shape != spreads.shape or not means.shape[1]:
        raise ValueError(f"mu and sigma must have one shape (n, k) with k >= 1, got {means.shape} and {spreads.shape}")
    if not (spreads > 0).all():
        raise ValueError("sigma must be above 0 everywhere")
    check_weights(w_nominal, w_min)
    k_star = spreads.argmin(axis=1)
    nominal = np.take_along_axis(means, k_star[:, None], axis=1)[:, 0]
    lowest = means.mean(axis=0).argmin() if min_mode == "per_batch" and len(means) else None
    minimum = means.min(axis=1) if lowest is None else means[:, lowest]
    return RobustMix(nominal, minimum, k_star, w_nominal * nominal + w_min * minimum)


def check_weights(w_nominal: float, w_min: float) -> None:
    if w_nominal < 0 or w_min < 0 or not math.isclose(w_nominal + w_min, 1.0, abs_tol=1e-9):
        raise ValueError(f"w_nominal and w_min must be 0 or more and add up to 1, not {w_nominal} and {w_min}")


def means_apart(mean: ArrayLike, std: ArrayLike) -> float:
    """Largest difference of head means (k,) in pooled standard deviations; inf where heads do not vary but differ."""
    means, deviations = np.asarray(mean, dtype=np.float64), np.asarray(std, dtype=np.float64)
    gap, pooled = float(np.ptp(means)), float(np.sqrt((deviations**2).mean()))
    return gap / pooled if pooled > 0 else (math.inf if gap > 0 else 0.0)


def mean_correlation(mu: ArrayLike) -> float:
    """Mean correlation of every two heads over responses, mu (n, k); nan for one head or a head that does not vary."""
    means = np.asarray(mu, dtype=np.float64)
    if means.shape[1] < 2 or len(means) < 2 or (means.std(axis=0) == 0).any():
        return math.nan
    found = np.asarray(np.corrcoef(means.T), dtype=np.float64)
    return float(found[np.triu_indices(len(found), 1)].mean())
