"""Several reward models as one: means of their rewards, and votes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
EQUAL = 1e-3


def standardised(rewards: ArrayLike, mean: ArrayLike, std: ArrayLike) -> Array:
    """(rewards - mean) / std for rewards (n, m) of m members; std > 0 everywhere."""
    deviations = np.asarray(std, dtype=np.float64)
    if not (deviations > 0).all():
        raise ValueError("a member whose rewards do not vary cannot be standardised")
    found: Array = (np.asarray(rewards, dtype=np.float64) - np.asarray(mean, dtype=np.float64)) / deviations
    return found


def vote_share(rewards: ArrayLike, reference: Sequence[Array]) -> Array:
    """Share of votes that each response gets against the reference responses, shape (n,), in [0, 1].

    Every member votes on every pair (response, one of its reference responses); half a vote for rewards that differ by
    less than a thousandth of the reference rewards' deviation, which is more than what else is in a batch can change.

    Parameters
    ----------
    rewards : array of shape (n, m)
    reference
        For each of the m members its rewards of the reference responses, ascending, at least one.

    Notes
    -----
    A Borda count with the reference responses as opponents: it depends on the response alone, which a rank among the
    other responses of its prompt (`rank_sums`) does not.
    """
    given = np.asarray(rewards, dtype=np.float64)
    shares = []
    for column, known in zip(given.T, reference, strict=True):
        like = EQUAL * float(known.std())
        below, upto = np.searchsorted(known, column - like), np.searchsorted(known, column + like, side="right")
        shares.append((below + upto) / (2.0 * len(known)))
    return np.asarray(np.mean(shares, axis=0), dtype=np.float64)


def pair_votes(rewards_a: ArrayLike, rewards_b: ArrayLike) -> Array:
    """Share of members that rank a above b, for rewards (n, m) of both: 0.5 is a draw, equal rewards half a vote."""
    difference = np.asarray(rewards_a, dtype=np.float64) - np.asarray(rewards_b, dtype=np.float64)
    return np.asarray(((np.sign(difference) + 1) / 2).mean(axis=1), dtype=np.float64)


def rank_sums(rewards: ArrayLike, prompts: Sequence[str]) -> Array:
    """Sum over members of each response's rank among the responses of its own prompt, shape (n,).

    rewards: (n, m). Ranks count the others a response beats, half for equal rewards; a prompt with one response has 0.
    """
    given, found = np.asarray(rewards, dtype=np.float64), np.zeros(len(prompts))
    names = np.array(prompts, dtype=object).astype(str)
    for name in np.unique(names):
        rows = np.flatnonzero(names == name)
        own = given[rows]
        won = (np.sign(own[:, None] - own[None, :]) + 1) / 2
        found[rows] = won.sum(axis=(1, 2)) - own.shape[1] / 2
    return found
