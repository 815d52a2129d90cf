"""Several texts as one item: what a head reads besides the response travels with it through the same batches.

The other texts stand before the item's own in one row of ids. Everything that counts, compares or stores ids (token
budgets, fingerprints, probes) then knows of them without being told.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from workers.data.collate import length_batches
from workers.data.render import Encoded
from workers.nn.reward_net import RewardNet

READ_AT_ONCE = 8192
"""Tokens in one pass of an item's other texts."""
KEPT_TEXTS = 4096
"""Vectors kept between batches: a person's pairs come again with every item that is scored for them."""


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


class JoinedNet(RewardNet):
    """A net whose items bring other texts. Those read last are kept while nothing is trained."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.kept: dict[tuple[bytes, int], Tensor] = {}

    def train(self, mode: bool = True) -> Self:
        self.kept.clear()
        return super().train(mode)

    def load_state_dict(self, *args: Any, **options: Any) -> Any:
        self.kept.clear()
        return super().load_state_dict(*args, **options)

    def vectors(self, texts: Sequence[Encoded]) -> Tensor:
        """Pooled vectors (n, width); a text that occurs several times is read once."""
        keys = [(text.ids.tobytes(), text.n_response) for text in texts]
        known = {key: self.kept[key] for key in keys if key in self.kept} if torch.is_inference_mode_enabled() else {}
        fresh = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        known |= dict(zip(fresh, self._read(list(fresh.values())), strict=True))
        if torch.is_inference_mode_enabled():
            self._keep(known)
        return torch.stack([known[key] for key in keys])

    def _read(self, texts: Sequence[Encoded]) -> Tensor:
        found = torch.empty(len(texts), int(self.backbone.config.hidden_size), device=self.device)
        for batch in length_batches([len(text) for text in texts], READ_AT_ONCE, is_padded=not self.is_packed()):
            read = self.pooled([texts[i] for i in batch]).float()
            found = found.index_copy(0, torch.from_numpy(batch).to(self.device), read)
        return found

    def _keep(self, vectors: Mapping[tuple[bytes, int], Tensor]) -> None:
        for key, vector in vectors.items():
            before = self.kept.pop(key, None)
            self.kept[key] = vector.clone() if before is None else before
        while len(self.kept) > KEPT_TEXTS:
            del self.kept[next(iter(self.kept))]
