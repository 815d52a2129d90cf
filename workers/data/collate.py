"""Batches of similar length under a budget of tokens."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Lengths = Sequence[int] | NDArray[np.int64]


def prompt_batches(lengths: Lengths, prompts: Sequence[tuple[bytes, int]], budget: int) -> Iterator[NDArray[np.int64]]:
    """Indices with those of one prompt together, in batches of at most `budget` tokens, a batch's prompts counted once.

    `prompts`: a key of the prompt and its length for every sequence. The longest groups come first; a group that is too
    long for one batch is cut. Ties by index, never by chance.
    """
    groups: dict[bytes, list[int]] = {}
    for index, (key, _) in enumerate(prompts):
        groups.setdefault(key, []).append(index)
    sizes = {key: sum(int(lengths[i]) for i in found) for key, found in groups.items()}
    batch: list[int] = []
    used = 0
    for key in sorted(groups, key=lambda key: -sizes[key]):
        is_new = True
        for index in groups[key]:
            whole, shared = int(lengths[index]), prompts[index][1]
            cost = whole if is_new else whole - shared
            if batch and used + cost > budget:
                yield np.array(batch, dtype=np.int64)
                batch, used, cost = [], 0, whole
            batch.append(index)
            used, is_new = used + cost, False
    if batch:
        yield np.array(batch, dtype=np.int64)


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
