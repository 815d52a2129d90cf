"""Are two models right on the same pairs equally often?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEAST = 1e-40
"""Probabilities below are left out of a distribution, so that it stays short: p-values are right down to 1e-35."""


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


@dataclass(frozen=True, slots=True)
class SignFlip:
    """The exact test by prompt: `n_informative` prompts in which the one is right more often than the other."""

    p_value: float
    n_prompts: int
    n_informative: int


def sign_flip_exact(difference: ArrayLike, clusters: Sequence[str]) -> SignFlip:
    """Exact two-sided test that two models are right equally often, where a prompt may have several pairs.

    Parameters
    ----------
    difference
        Of shape (n,), whole numbers: for each pair 1 where only B is right, -1 where only A is, else 0.
    clusters
        The prompt of each pair; prompts are independent, pairs of one prompt need not be.

    Returns
    -------
    SignFlip
        p_value in (0, 1]; 1 when no prompt tells the two apart.

    Notes
    -----
    If neither is better, a prompt's sum d_c is as likely as -d_c, whatever its pairs have to do with each other. So
    p = P(|sum of +-d_c| >= |sum of d_c|) over all 2^m choices of signs, summed exactly by convolution (randomisation
    test of Fisher, 1935). With one pair a prompt it is McNemar's exact test.
    """
    given = np.asarray(difference, dtype=np.int64)
    if len(given) != len(clusters):
        raise ValueError(f"{len(clusters)} cluster names for {len(given)} pairs")
    place: dict[str, int] = {}
    numbers = np.fromiter((place.setdefault(name, len(place)) for name in clusters), dtype=np.int64, count=len(given))
    sums = np.bincount(numbers, weights=given, minlength=len(place)).round().astype(np.int64)
    sizes = Counter(np.abs(sums[sums != 0]).tolist())
    if not sizes:
        return SignFlip(1.0, len(place), 0)
    chances, lowest = np.ones(1), 0
    for size, count in sizes.items():
        part, start = _signed_sum(size, count)
        chances, lowest = _spread(chances, part, 2 * size), lowest + start
    reached = np.abs(np.arange(lowest, lowest + len(chances))) >= abs(int(sums.sum()))
    p_value = float(chances[reached].sum())
    return SignFlip(min(1.0, max(p_value, LEAST)), len(place), sum(sizes.values()))


def _spread(chances: NDArray[np.float64], part: NDArray[np.float64], step: int) -> NDArray[np.float64]:
    """np.convolve(chances, part) for a part of which only every step-th entry is not 0, in step times fewer sums."""
    found = np.zeros(len(chances) + step * (len(part) - 1))
    for place, chance in enumerate(part):
        found[place * step : place * step + len(chances)] += chance * chances
    return found


def _signed_sum(size: int, count: int) -> tuple[NDArray[np.float64], int]:
    """Probabilities of the sum of `count` terms of +-size each, 2 * size apart, from its lowest on, and that value."""
    k = np.arange(count + 1)
    logs = np.array([_log_pmf(int(i), count) for i in k])
    kept = np.flatnonzero(logs > math.log(LEAST))
    first, last = int(kept[0]), int(kept[-1])
    return np.exp(logs[first : last + 1]), size * (2 * first - count)
