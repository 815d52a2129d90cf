"""A backbone whose pooled state a head turns into rewards."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from workers.data.render import Encoded
from workers.nn.backbone import Backbone
from workers.nn.heads import Head, ScalarHead
from workers.nn.net import Dtype, Net, no_tick, pad_batch, set_dropout, tick_in_layers
from workers.nn.packed import PACKABLE, PackedBert, is_packable
from workers.nn.packed_causal import PackedCausal, is_packable_causal
from workers.nn.pooling import Pooling, pool

__all__ = ["Dtype", "RewardNet", "no_tick", "pad_batch"]


class RewardNet(Net):
    """Outputs of a head on one vector a sequence; the head is float32, whatever the backbone computes in."""

    def __init__(
        self,
        backbone: Backbone,
        pooling: Pooling,
        *,
        head: Head | None = None,
        dropout: float = 0.0,
        dtype: Dtype = "float32",
    ) -> None:
        super().__init__(pad_id=int(backbone.tokenizer.pad_token_id or 0), dtype=dtype)
        self.backbone = backbone.model
        self.head = ScalarHead(backbone.width) if head is None else head
        self.pooling: Pooling = pooling
        self.is_causal = backbone.is_causal
        set_dropout(self.backbone, dropout)
        tick_in_layers(self)

    def is_packed(self) -> bool:
        model = self.backbone
        if self.is_sharded:
            return False
        if self.shares_prompts():
            return True
        return self.device.type == "cpu" and model.config.model_type in PACKABLE and is_packable(model)

    def shares_prompts(self) -> bool:
        if self.is_sharded:
            return False
        return self.device.type == "cpu" and is_packable_causal(self.backbone)

    def forward(self, batch: Sequence[Encoded]) -> Tensor:
        """Outputs of one batch in one pass; the caller keeps it within memory."""
        return self.outputs_of(*self.features(batch))

    def outputs_of(self, vectors: Tensor, prompts: Tensor | None = None) -> Tensor:
        """The head on vectors of shape (n, width), in float32."""
        with torch.autocast(self.device.type, enabled=False):
            found: Tensor = self.head(vectors.float(), None if prompts is None else prompts.float())
        return found

    def features(self, batch: Sequence[Encoded]) -> tuple[Tensor, Tensor | None]:
        """Pooled vectors (n, width), and those of the prompts alone where the head asks for them.

        A causal model's prompt vector is the state just before the response, which cannot have seen it; an encoder
        reads the prompt once more by itself. Zeros where the response left no room for a token of the prompt.
        """
        if not self.head.needs_prompt:
            return self.pooled(batch), None
        has_prompt = torch.tensor([[len(item) > item.n_response] for item in batch], device=self.device)
        if not self.is_causal:
            return self.pooled(batch), self.pooled([prompt_of(item) for item in batch]) * has_prompt
        states = self.states(batch)
        ends = torch.stack([s[self._prompt_place(item)] for s, item in zip(states, batch, strict=True)])
        return torch.stack([self.pool_one(s, item) for s, item in zip(states, batch, strict=True)]), ends * has_prompt

    def _prompt_place(self, item: Encoded) -> int:
        if self.head.prompt_at_mark and item.marks is not None:
            return int(item.marks[0])
        return len(item) - item.n_response - 1

    def states(self, batch: Sequence[Encoded]) -> list[Tensor]:
        """Last hidden states of every token: one tensor (tokens, width) a sequence, padding left out."""
        with self.precision():
            if self.shares_prompts():
                return PackedCausal(self.backbone).states(batch, self.tick)
            if self.is_packed():
                return list(PackedBert(self.backbone).states(batch, self.tick))
            hidden, _ = self._hidden(batch)
            return [row[: len(item)] for row, item in zip(hidden, batch, strict=True)]

    def pooled(self, batch: Sequence[Encoded]) -> Tensor:
        """One vector (n, width) a sequence, in one pass."""
        with self.precision():
            if self.shares_prompts():
                return PackedCausal(self.backbone).pooled(batch, self.pooling, self.tick)
            if self.is_packed():
                return PackedBert(self.backbone).pooled(batch, self.pooling, self.tick)
            return self._padded(batch)

    def pool_one(self, states: Tensor, item: Encoded) -> Tensor:
        mask = torch.ones(1, len(states), dtype=torch.long, device=states.device)
        n_response = torch.tensor([item.n_response], device=states.device)
        return pool(states[None], mask, self.pooling, n_response)[0]

    def _padded(self, batch: Sequence[Encoded], side: Literal["left", "right"] = "right") -> Tensor:
        hidden, mask = self._hidden(batch, side)
        n_response = torch.tensor([item.n_response for item in batch], device=self.device)
        return pool(hidden, mask, self.pooling, n_response)

    def _hidden(self, batch: Sequence[Encoded], side: Literal["left", "right"] = "right") -> tuple[Tensor, Tensor]:
        ids, mask = pad_batch(batch, self.pad_id, side)
        ids, mask = ids.to(self.device), mask.to(self.device)
        inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": None if bool(mask.all()) else mask}
        if side == "left" and self.backbone.config.model_type == "bert":
            inputs["position_ids"] = (mask.cumsum(dim=1) - 1).clamp(min=0)
        if hasattr(self.backbone.config, "use_cache"):
            inputs["use_cache"] = False
        return self.backbone(**inputs).last_hidden_state, mask


def prompt_of(item: Encoded) -> Encoded:
    """The part before the response."""
    n = max(1, len(item) - item.n_response)
    return Encoded(ids=item.ids[:n], n_response=1)
