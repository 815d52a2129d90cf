"""What every reward network is to the trainer and the scorer: encoded conversations in, outputs out."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from workers.data.collate import length_batches
from workers.data.render import Encoded
from workers.nn.heads import Head, join_outputs

Dtype = Literal["float32", "bf16"]


def no_tick() -> None:
    """For callers that need no sign of life."""


class Net(nn.Module):
    """A backbone and a head. `forward(batch)` gives outputs of shape (n,) or (n, ...), float32, in one pass.

    Parameters below `backbone` and `head` get learning rates of their own.
    """

    backbone: Any
    head: Head
    is_sharded = False
    """Do its parameters lie in parts over several processes? All then pass through it equally often."""

    def __init__(self, *, pad_id: int, dtype: Dtype = "float32") -> None:
        super().__init__()
        self.pad_id = pad_id
        self.dtype: Dtype = dtype
        self.tick: Callable[[], None] = no_tick

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def is_packed(self) -> bool:
        """Does this model, on this device, in this mode, run without padding?"""
        return False

    def shares_prompts(self) -> bool:
        """Is a prompt computed once for all responses to it that stand in one batch?"""
        return False

    def models(self) -> list[nn.Module]:
        """The models that it passes through; each is put together layer by layer where the net lies in parts."""
        return [self.backbone]

    def read_directly(self) -> list[nn.Module]:
        """Modules whose weights are read without a call of theirs: they are put together with the net as a whole."""
        return []

    def forward(self, batch: Sequence[Encoded]) -> Tensor:
        raise NotImplementedError

    def reward(self, outputs: Tensor) -> Tensor:
        """Rewards of shape (n,) from the outputs."""
        return self.head.reward(outputs)

    def forward_bucketed(self, batch: Sequence[Encoded], budget: int) -> Tensor:
        """The same outputs, in passes of similar length and at most `budget` tokens each where padding costs."""
        lengths = [len(item) for item in batch]
        if (self.is_packed() and sum(lengths) <= budget) or (self.is_sharded and torch.is_grad_enabled()):
            outputs: Tensor = self(batch)
            return outputs
        buckets = list(length_batches(lengths, budget, is_padded=not self.is_packed()))
        joined = join_outputs([self([batch[i] for i in bucket]) for bucket in buckets])
        back = torch.from_numpy(np.argsort(np.concatenate(buckets), kind="stable"))
        return joined[back.to(joined.device)]

    def precision(self) -> AbstractContextManager[Any]:
        """Weights in bf16 are not kept until the end of a pass where the net lies in parts: they are a whole copy."""
        keeps = False if self.is_sharded else None
        on = self.dtype == "bf16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=on, cache_enabled=keeps)


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


def set_dropout(model: Any, p: float) -> None:
    """One rate everywhere. 0 is also a matter of speed: with dropout, attention on a CPU leaves its fast path."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = p
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = p
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout"):
        if hasattr(model.config, name):
            setattr(model.config, name, p)


def tick_in_layers(net: Net) -> None:
    """Call net.tick at every layer, forward and (on a CPU) backward: one pass can take seconds."""

    def after(_: nn.Module, __: Any, output: Any) -> None:
        net.tick()
        hidden = output[0] if isinstance(output, tuple) else output
        if isinstance(hidden, Tensor) and hidden.requires_grad and hidden.device.type == "cpu":
            hidden.register_hook(lambda _: net.tick())  # type: ignore[no-untyped-call]

    for layer in longest_stack(net.backbone):
        layer.register_forward_hook(after)


def longest_stack(model: nn.Module) -> nn.ModuleList:
    """The layers of a model."""
    stacks = [m for m in model.modules() if isinstance(m, nn.ModuleList)]
    return max(stacks, key=len, default=nn.ModuleList())
