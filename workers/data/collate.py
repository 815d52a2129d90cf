"""Batches of similar length under a budget of tokens."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Lengths = Sequence[int] | NDArray[np.int64]


def length_batches(lengths: Lengths, budget: int, *, is_padded: bool = True) -> Iterator[NDArray[np.int64]]:
    """Indices in order of falling length, in batches of at most `budget` tokens each.

    With `is_padded` every sequence counts as long as the longest of its batch. A sequence longer than the budget gets a
    batch of its own. The order depends on the lengths alone (ties by index), never on chance.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-sizes, kind="stable")
    start, used = 0, 0
    for position, index in enumerate(order):
        cost = int(sizes[order[start]] if is_padded else sizes[index])
        if position > start and used + cost > budget:
            yield order[start:position]
            start, used = position, 0
            cost = int(sizes[index])
        used += cost
    if len(order):
        yield order[start:]
