"""Means of few numbers, such as one accuracy a seed, with Student's interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workers.stats.intervals import Interval, undefined_interval


@dataclass(frozen=True, slots=True)
class Mean:
    """Mean of n numbers with the ends of its interval (nan for n < 2) and their standard deviation."""

    value: float
    low: float
    high: float
    n: int
    sd: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0

    def as_json(self) -> dict[str, float | int | None]:
        ends = {"low": self.low, "high": self.high, "sd": self.sd}
        return {"value": self.value, "n": self.n, **{k: None if math.isnan(v) else v for k, v in ends.items()}}


def mean_interval(values: Sequence[float], level: float = 0.95) -> Mean:
    """Mean of independent numbers with Student's t interval.

    Raises
    ------
    ValueError
        No values, or one that is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if not len(array) or not np.isfinite(array).all():
        raise ValueError("a mean needs finite numbers, at least one")
    n, mean = len(array), float(array.mean())
    if n < 2:
        return Mean(mean, math.nan, math.nan, n, math.nan)
    sd = float(array.std(ddof=1))
    half = t_quantile(0.5 + level / 2, n - 1) * sd / math.sqrt(n)
    return Mean(mean, mean - half, mean + half, n, sd)


def paired_difference(values: Sequence[float], baseline: Sequence[float], level: float = 0.95) -> Mean:
    """Mean of values[i] - baseline[i], each pair from one seed, so that what a seed does to both cancels."""
    if len(values) != len(baseline):
        raise ValueError(f"pairs need as many values as baselines, not {len(values)} and {len(baseline)}")
    return mean_interval((np.asarray(values, float) - np.asarray(baseline, float)).tolist(), level)


def interval_of(mean: Mean, level: float = 0.95) -> Interval:
    return undefined_interval("one value alone", level) if mean.n < 2 else Interval(mean.low, mean.high, level)


def t_quantile(p: float, df: int) -> float:
    """Quantile of Student's t with df >= 1 degrees of freedom, p in (0.5, 1), to 1e-9; by bisection of its CDF."""
    if not 0.5 < p < 1 or df < 1:
        raise ValueError(f"p must lie in (0.5, 1) and df be at least 1, got {p} and {df}")
    low, high = 0.0, 1.0
    while t_cdf(high, df) < p:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        if t_cdf(middle, df) < p:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def t_cdf(t: float, df: int) -> float:
    """P(T <= t) for t >= 0 and whole degrees of freedom, by the finite series of Abramowitz and Stegun 26.7.3-4."""
    theta = math.atan(t / math.sqrt(df))
    sin, cos = math.sin(theta), math.cos(theta)
    if df % 2:
        term, total = cos, 0.0
        for k in range(1, (df - 1) // 2 + 1):
            total += term
            term *= cos * cos * 2 * k / (2 * k + 1)
        inside = 2 / math.pi * (theta + sin * total)
    else:
        term, total = 1.0, 0.0
        for k in range(1, df // 2 + 1):
            total += term
            term *= cos * cos * (2 * k - 1) / (2 * k)
        inside = sin * total
    return 0.5 + inside / 2
