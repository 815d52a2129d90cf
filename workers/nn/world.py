"""Several processes that train one model: each takes part of every batch, and all take the same step.

Started by `accelerate launch`, which says who is who. Gradients of a batch's groups add up whoever computed them, so
the weights are those of one process up to the order of additions; the optimiser and its state are the same everywhere.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from workers.errors import JobError

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """One process among `size`. The default is alone, and then nothing here costs anything."""

    rank: int = 0
    size: int = 1
    device: str = ""

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def mine(self, parts: Sequence[T]) -> Sequence[T]:
        """This process's share of the groups of a batch; they come by falling length, so shares are alike."""
        return parts[self.rank :: self.size]

    def sum_gradients(self, net: nn.Module) -> None:
        """Make every gradient the sum over all processes."""
        if self.size == 1:
            return
        trained = [p for p in net.parameters() if p.requires_grad]
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten().float() for p in trained])
        torch.distributed.all_reduce(flat)
        for parameter, part in zip(trained, torch.split(flat, [p.numel() for p in trained]), strict=True):
            parameter.grad = part.view_as(parameter).to(parameter.dtype)

    def sum_array(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """The sum over all processes of an array that has one shape everywhere."""
        if self.size == 1:
            return np.asarray(values, dtype=np.float64)
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device or "cpu")
        torch.distributed.all_reduce(tensor)
        return np.asarray(tensor.cpu().numpy())

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            torch.distributed.barrier()


ALONE = World()


def join_world() -> World:
    """The world this process was launched into by `accelerate launch`, or ALONE."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return ALONE
    for name in ("FSDP", "DEEPSPEED"):
        if os.environ.get(f"ACCELERATE_USE_{name}", "").lower() == "true":
            raise JobError(
                f"The configuration of accelerate asks for {name}, which would split the model over processes.",
                "Here every process holds the whole model: use a configuration without it, or LoRA for large models.",
            )
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available())
    return World(state.process_index, state.num_processes, str(state.device))
