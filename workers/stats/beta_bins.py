"""P(an attribute has a level), from a predicted rating: a Beta distribution cut into equal bins."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

CONCENTRATION = 24.0
EDGE = 1e-3
MAX_TERMS = 300


def beta_cdf(x: float, a: float, b: float) -> float:
    """P(X <= x) for X from Beta(a, b), a and b > 0: the regularised incomplete beta function.

    Continued fraction of DLMF 8.17.22 by Lentz's method, on the side where it converges fast. Tested against scipy.
    """
    if not (a > 0 and b > 0):
        raise ValueError(f"a and b must be above 0, got {a} and {b}")
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1.0 - beta_cdf(1.0 - x, b, a)
    front = math.exp(a * math.log(x) + b * math.log1p(-x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b))
    return front * _fraction(x, a, b) / a


def _fraction(x: float, a: float, b: float) -> float:
    tiny = 1e-300
    c, d = 1.0, 1.0 / _away_from_zero(1.0 - (a + b) * x / (a + 1), tiny)
    value = d
    for m in range(1, MAX_TERMS):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 / _away_from_zero(1.0 + term * d, tiny)
            c = _away_from_zero(1.0 + term / c, tiny)
            value *= c * d
        if abs(c * d - 1.0) < 1e-15:
            return value
    raise ArithmeticError(f"the incomplete beta function did not converge for x={x}, a={a}, b={b}")


def _away_from_zero(value: float, tiny: float) -> float:
    return value if abs(value) > tiny else tiny


def beta_bins(
    rating: float, *, highest: float = 4.0, n_levels: int = 5, concentration: float = CONCENTRATION
) -> NDArray[np.float64]:
    """P(level) of shape (n_levels,) from a predicted rating on a scale from 0 to `highest`.

    With r = rating / highest in [0.001, 0.999], level n has the mass of Beta(c r, c (1 - r)) in the n-th of equal bins
    of [0, 1]. Sums to 1. SteerLM 2.0 (Wang et al. 2024, arXiv 2406.08673) with c = 24.
    """
    if not math.isfinite(rating) or highest <= 0 or n_levels < 2:
        raise ValueError("a finite rating, a highest level above 0 and two levels or more are needed")
    r = min(1.0 - EDGE, max(EDGE, rating / highest))
    edges = [beta_cdf(n / n_levels, concentration * r, concentration * (1.0 - r)) for n in range(n_levels + 1)]
    return np.diff(np.array(edges, dtype=np.float64))


def log_attribute_probability(
    ratings: Mapping[str, float], wanted: Mapping[str, int], *, highest: float = 4.0, n_levels: int = 5
) -> float:
    """log P(wanted levels) of a response with predicted `ratings`, attributes taken as independent; in nats."""
    missing: Sequence[str] = sorted(wanted.keys() - ratings.keys())
    if missing:
        raise ValueError(f"there is no rating of {', '.join(missing)}")
    bins = {name: beta_bins(ratings[name], highest=highest, n_levels=n_levels) for name in wanted}
    return sum(math.log(max(float(bins[name][level]), 1e-300)) for name, level in wanted.items())
