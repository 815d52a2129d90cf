"""Fit y = coefficient * x ** exponent, such as a validation loss against the size of a model or the compute it took."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from workers.stats.student import t_quantile


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """Least squares of log y on log x over n points.

    r2: share of the variance of log y that is explained, nan where y does not vary. low, high: Student's interval of
    the exponent at 95 %, nan for two points.
    """

    coefficient: float
    exponent: float
    r2: float
    low: float
    high: float
    n: int

    def at(self, x: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
        """The curve at x > 0."""
        return np.asarray(self.coefficient * np.asarray(x, dtype=np.float64) ** self.exponent)

    def as_json(self) -> dict[str, float | int | None]:
        return {name: None if math.isnan(value) else value for name, value in asdict(self).items()}


def fit_power_law(x: Sequence[float], y: Sequence[float]) -> PowerLaw:
    """The law through n points (x, y), all above zero, with at least two different x.

    The coefficient is the curve at x = 1: far from the x that were measured it is known only as well as the exponent.

    Raises
    ------
    ValueError
        Lengths differ, a number is not finite and above zero, or all x are the same.
    """
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if xs.shape != ys.shape or xs.ndim != 1:
        raise ValueError(f"a power law needs as many y as x, not {len(ys)} and {len(xs)}")
    if not (np.isfinite(xs) & np.isfinite(ys) & (xs > 0) & (ys > 0)).all():
        raise ValueError("a power law needs finite numbers above zero")
    if len(np.unique(xs)) < 2:
        raise ValueError("a power law needs at least two different x")
    u, v = np.log(xs), np.log(ys)
    spread = float(((u - u.mean()) ** 2).sum())
    exponent = float(((u - u.mean()) * (v - v.mean())).sum() / spread)
    intercept = float(v.mean() - exponent * u.mean())
    left, total = float(((v - intercept - exponent * u) ** 2).sum()), float(((v - v.mean()) ** 2).sum())
    n = len(u)
    half = t_quantile(0.975, n - 2) * np.sqrt(left / (n - 2) / spread) if n > 2 else np.nan
    return PowerLaw(
        coefficient=float(np.exp(intercept)),
        exponent=exponent,
        r2=1.0 - left / total if total > 0 else float("nan"),
        low=float(exponent - half),
        high=float(exponent + half),
        n=n,
    )
