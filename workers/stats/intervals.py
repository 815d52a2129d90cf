"""Confidence intervals of a share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist


@dataclass(frozen=True, slots=True)
class Interval:
    """Both ends, nan where undefined, at the confidence `level`; `reason` says why it is undefined."""

    low: float
    high: float
    level: float = 0.95
    reason: str = ""

    @property
    def is_defined(self) -> bool:
        return not math.isnan(self.low)


def undefined_interval(reason: str, level: float = 0.95) -> Interval:
    return Interval(math.nan, math.nan, level, reason)


def wilson_interval(k: float, n: float, level: float = 0.95) -> Interval:
    """Wilson's score interval for k successes in n trials.

    Parameters
    ----------
    k, n
        Successes and trials, 0 <= k <= n. An effective number of trials need not be whole (workers/stats/clusters.py).
    level
        Confidence, in (0, 1).

    Returns
    -------
    Interval
        Fractions in [0, 1]; undefined for n = 0.

    Notes
    -----
    Wilson (1927), JASA 22(158), without continuity correction. Keeps its coverage near 0 and 1, where the normal
    interval does not. Tested against statsmodels' proportion_confint.
    """
    if not 0 <= k <= n:
        raise ValueError(f"k must lie between 0 and n, got k={k}, n={n}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    if n == 0:
        return undefined_interval("no trials", level)
    z2 = NormalDist().inv_cdf(0.5 + level / 2) ** 2
    middle = (k + z2 / 2) / (n + z2)
    half = math.sqrt(z2 * (k * (n - k) / n + z2 / 4)) / (n + z2)
    # At the borders the formula gives 0 and 1 up to rounding; they are exact.
    return Interval(0.0 if k == 0 else middle - half, 1.0 if k == n else middle + half, level)
