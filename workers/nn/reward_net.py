"""A backbone with a float32 reward head: encoded conversations in, rewards out."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from workers.data.collate import length_batches
from workers.data.render import Encoded
from workers.nn.backbone import Backbone
from workers.nn.packed import PACKABLE, PackedBert, is_packable
from workers.nn.pooling import Pooling, pool

Dtype = Literal["float32", "bf16"]


def no_tick() -> None:
    """For callers that need no sign of life."""


class RewardNet(nn.Module):
    """Rewards of shape (n,), float32, whatever the backbone computes in."""

    def __init__(self, backbone: Backbone, pooling: Pooling, *, dropout: float = 0.0, dtype: Dtype = "float32") -> None:
        super().__init__()
        self.backbone = backbone.model
        self.head = nn.Linear(backbone.width, 1)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        self.pooling: Pooling = pooling
        self.pad_id = int(backbone.tokenizer.pad_token_id or 0)
        self.dtype: Dtype = dtype
        self.tick: Callable[[], None] = no_tick
        _set_dropout(self.backbone, dropout)
        _tick_in_layers(self)

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    def is_packed(self) -> bool:
        """Does this model, on this device, in this mode, run without padding?"""
        model = self.backbone
        return self.device.type == "cpu" and model.config.model_type in PACKABLE and is_packable(model)

    def forward(self, batch: Sequence[Encoded]) -> Tensor:
        """Rewards of one batch in one pass; the caller keeps it within memory."""
        with self._precision():
            if self.is_packed():
                vectors = PackedBert(self.backbone).pooled(batch, self.pooling, self.tick)
            else:
                vectors = self._padded(batch)
        return self._head(vectors)

    def forward_bucketed(self, batch: Sequence[Encoded], budget: int) -> Tensor:
        """The same rewards, in passes of similar length and at most `budget` tokens each where padding costs."""
        lengths = [len(item) for item in batch]
        if self.is_packed() and sum(lengths) <= budget:
            rewards: Tensor = self(batch)
            return rewards
        buckets = list(length_batches(lengths, budget, is_padded=not self.is_packed()))
        rewards = torch.cat([self([batch[i] for i in bucket]) for bucket in buckets])
        back = torch.from_numpy(np.argsort(np.concatenate(buckets), kind="stable"))
        return rewards[back.to(rewards.device)]

    def _padded(self, batch: Sequence[Encoded], side: Literal["left", "right"] = "right") -> Tensor:
        ids, mask = pad_batch(batch, self.pad_id, side)
        ids, mask = ids.to(self.device), mask.to(self.device)
        inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": None if bool(mask.all()) else mask}
        if side == "left" and self.backbone.config.model_type == "bert":
            inputs["position_ids"] = (mask.cumsum(dim=1) - 1).clamp(min=0)
        if hasattr(self.backbone.config, "use_cache"):
            inputs["use_cache"] = False
        hidden = self.backbone(**inputs).last_hidden_state
        n_response = torch.tensor([item.n_response for item in batch], device=self.device)
        return pool(hidden, mask, self.pooling, n_response)

    def _head(self, vectors: Tensor) -> Tensor:
        with torch.autocast(self.device.type, enabled=False):
            rewards: Tensor = self.head(vectors.float()).squeeze(-1)
        return rewards

    def _precision(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype == "bf16")


def pad_batch(batch: Sequence[Encoded], pad_id: int, side: Literal["left", "right"]) -> tuple[Tensor, Tensor]:
    """Ids and mask of shape (n, longest)."""
    width = max(len(item) for item in batch)
    ids = torch.full((len(batch), width), pad_id, dtype=torch.long)
    mask = torch.zeros(len(batch), width, dtype=torch.long)
    for row, item in enumerate(batch):
        where = slice(0, len(item)) if side == "right" else slice(width - len(item), width)
        ids[row, where] = torch.from_numpy(item.ids).long()
        mask[row, where] = 1
    return ids, mask


def _set_dropout(model: Any, p: float) -> None:
    """One rate everywhere. 0 is also a matter of speed: with dropout, attention on a CPU leaves its fast path."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = p
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = p
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout"):
        if hasattr(model.config, name):
            setattr(model.config, name, p)


def _tick_in_layers(net: RewardNet) -> None:
    """Call net.tick at every layer, forward and (on a CPU) backward: one pass can take seconds."""

    def after(_: nn.Module, __: Any, output: Any) -> None:
        net.tick()
        hidden = output[0] if isinstance(output, tuple) else output
        if isinstance(hidden, Tensor) and hidden.requires_grad and hidden.device.type == "cpu":
            hidden.register_hook(lambda _: net.tick())  # type: ignore[no-untyped-call]

    stacks = [m for m in net.backbone.modules() if isinstance(m, nn.ModuleList)]
    for layer in max(stacks, key=len, default=nn.ModuleList()):
        layer.register_forward_hook(after)
