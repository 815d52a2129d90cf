"""Are two models right on the same pairs equally often?"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class McNemar:
    """McNemar's test on discordant pairs: `n_a_only` where only A is right, `n_b_only` where only B is."""

    p_value: float
    n_a_only: int
    n_b_only: int
    n_discordant: int
    is_mid_p: bool = False


def mcnemar_exact(n_a_only: int, n_b_only: int, *, mid_p: bool = False) -> McNemar:
    """Exact two-sided McNemar test.

    Parameters
    ----------
    n_a_only, n_b_only
        Pairs that only the one or only the other gets right, >= 0. Pairs both get right or wrong carry no information.
    mid_p
        Count the observed outcome half: less cautious, closer to its level.

    Returns
    -------
    McNemar
        p_value in (0, 1]; 1 when the two never differ, as there is then nothing against equality.

    Notes
    -----
    Binomial test of n_a_only against half of the discordant pairs; McNemar (1947), mid-p of Fagerland, Lydersen and
    Laake (2013), BMC Med. Res. Methodol. 13:91. Tested against statsmodels and scipy.
    """
    if n_a_only < 0 or n_b_only < 0:
        raise ValueError(f"counts must not be negative, got {n_a_only} and {n_b_only}")
    n, k = n_a_only + n_b_only, min(n_a_only, n_b_only)
    tail = _half_binomial_tail(k, n)
    if mid_p:
        p_value = 2 * tail - math.exp(_log_pmf(k, n)) if n_a_only != n_b_only else 1 - math.exp(_log_pmf(k, n)) / 2
    else:
        p_value = 2 * tail
    return McNemar(min(1.0, p_value) if n else 1.0, n_a_only, n_b_only, n, mid_p)


def _log_pmf(k: int, n: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2)


def _half_binomial_tail(k: int, n: int) -> float:
    """P(X <= k) for X ~ Binomial(n, 1/2), k <= n/2: summed downwards from k until terms no longer count."""
    term = total = 1.0  # relative to P(X = k)
    for i in range(k, 0, -1):
        term *= i / (n - i + 1)
        total += term
        if term < total * 1e-17:
            break
    return math.exp(_log_pmf(k, n) + math.log(total))
