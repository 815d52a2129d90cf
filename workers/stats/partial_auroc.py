"""How early a reward tells good responses from bad ones: AUROC of rewards read before the response has ended."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from workers.stats.auroc import auroc

SHARES = tuple(k / 10 for k in range(11))


def reading_place(n: int, share: float) -> int:
    """Token, from 0, at which a response of n tokens is read after `share` of it."""
    return max(int(n * share) - 1, 0)


def partial_auroc(
    rewards: Sequence[NDArray[np.float64]], is_correct: NDArray[np.bool_], *, shares: Sequence[float] = SHARES
) -> list[float]:
    """AUROC against final correctness at each share of the responses in [0, 1]; 1 reads whole responses.

    rewards: of every token of each response, lengths may differ. nan where only one kind of response is there.

    Raises
    ------
    ValueError
        A response without tokens, a share outside [0, 1], or other than one label a response.
    """
    if len(rewards) != len(is_correct) or any(len(one) == 0 for one in rewards):
        raise ValueError("every response needs a label and one token at least")
    if any(not 0 <= share <= 1 for share in shares):
        raise ValueError("shares of a response lie in [0, 1]")
    read = [np.array([one[reading_place(len(one), share)] for one in rewards]) for share in shares]
    return [auroc(values, np.asarray(is_correct, dtype=np.bool_)) for values in read]
