"""Take out of every rating what it owes to verbosity: the transform of ArmoRM (Wang et al. 2024, arXiv 2406.12845)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.stats.association import midranks, pearson

PENALTIES: tuple[float, ...] = (
    0.0, 0.01, 0.025, 0.05, 0.075, 0.1, 0.125, 0.15, *(round(0.2 + 0.05 * i, 2) for i in range(16)),
)  # fmt: skip
"""The grid up to 0.95; 1 is for attributes that never get there."""
MAX_CORRELATION = 0.03


@dataclass(frozen=True, slots=True)
class Debias:
    """r' = r @ transform, with transform (k, k) = I, less the penalties in the row of verbosity.

    penalties (k,): 1 for verbosity itself, which then contributes nothing, and for what never gets below the limit;
    before and after (k,): Spearman's correlation with verbosity on the reference set, nan where an attribute does not
    vary.
    """

    transform: NDArray[np.float64]
    penalties: NDArray[np.float64]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    reached: NDArray[np.bool_]
    """False: no penalty of the grid was enough, and 1 was taken."""


def debias(
    rewards: NDArray[np.float64],
    verbosity: int,
    *,
    penalties: Sequence[float] = PENALTIES,
    limit: float = MAX_CORRELATION,
) -> Debias:
    """The smallest penalty of each attribute for which Spearman(r_i - penalty r_v, r_v) is at most `limit`.

    Parameters
    ----------
    rewards : array of shape (n, k)
        Of single responses, both of every pair pooled; never of differences within pairs.
    verbosity
        Column of verbosity.
    limit
        One-sided: an attribute that falls with verbosity passes without a penalty.

    Raises
    ------
    ValueError
        Fewer than three responses, or verbosity does not vary among them.
    """
    n, k = rewards.shape
    wordy = rewards[:, verbosity]
    if n < 3 or not np.isfinite(rewards).all() or np.ptp(wordy) == 0:
        raise ValueError("three responses or more are needed, with finite ratings and a verbosity that varies")
    ranks = midranks(wordy)

    def correlation(column: NDArray[np.float64]) -> float:
        return pearson(midranks(column), ranks)

    chosen, reached = np.ones(k), np.ones(k, dtype=np.bool_)
    before, after = np.full(k, math.nan), np.full(k, math.nan)
    for i in range(k):
        before[i] = correlation(rewards[:, i])
        if i == verbosity:
            continue
        steps = ((penalty, correlation(rewards[:, i] - penalty * wordy)) for penalty in sorted(penalties))
        found = next(((penalty, value) for penalty, value in steps if not value > limit), None)
        reached[i] = found is not None
        chosen[i], after[i] = found or (1.0, correlation(rewards[:, i] - wordy))
    transform = np.eye(k)
    transform[verbosity] -= chosen
    return Debias(transform, chosen, before, after, reached)
