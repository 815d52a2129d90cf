"""Several texts as one item: what a head reads besides the response travels with it through the same batches.

The other texts stand before the item's own in one row of ids. Everything that counts, compares or stores ids (token
budgets, fingerprints, probes) then knows of them without being told.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from workers.data.collate import length_batches
from workers.data.render import Encoded
from workers.nn.reward_net import RewardNet

READ_AT_ONCE = 8192
"""Tokens in one pass of an item's other texts."""


def join_texts(own: Encoded, others: Sequence[Encoded]) -> Encoded:
    """The others, then `own`. marks: for each of the others where its response begins and where it ends."""
    if not others:
        return own
    ends = np.cumsum([len(other) for other in others])
    starts = ends - [other.n_response for other in others]
    return Encoded(
        ids=np.concatenate([*(other.ids for other in others), own.ids]),
        n_response=own.n_response,
        n_prompt_dropped=own.n_prompt_dropped,
        n_response_dropped=own.n_response_dropped,
        marks=np.stack([starts, ends], axis=1).ravel().astype(np.int32),
    )


def split_texts(item: Encoded) -> tuple[Encoded, list[Encoded]]:
    """The item's own text, and the others before it."""
    if item.marks is None:
        return item, []
    pairs = item.marks.reshape(-1, 2)
    others, begin = [], 0
    for response, end in pairs:
        others.append(Encoded(ids=item.ids[begin:end], n_response=int(end - response)))
        begin = int(end)
    return Encoded(ids=item.ids[begin:], n_response=item.n_response), others


def read_once(net: RewardNet, texts: Sequence[Encoded]) -> Tensor:
    """Pooled vectors (n, width) of texts; those that occur several times are read once."""
    keys = [(text.ids.tobytes(), text.n_response) for text in texts]
    unique = list(dict(zip(keys, texts, strict=True)).values())
    place = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    found = torch.empty(len(unique), int(net.backbone.config.hidden_size), device=net.device)
    for batch in length_batches([len(text) for text in unique], READ_AT_ONCE, is_padded=not net.is_packed()):
        read = net.pooled([unique[i] for i in batch]).float()
        found = found.index_copy(0, torch.from_numpy(batch).to(net.device), read)
    return found[torch.tensor([place[key] for key in keys], device=net.device)]
