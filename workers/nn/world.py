"""Several processes that train one model: each takes part of every batch, and all take the same step.

Started by `accelerate launch`, which says who is who. Gradients of a batch's groups add up whoever computed them, so
the weights are those of one process up to the order of additions; the optimiser and its state are the same everywhere.
Where a configuration asks for FSDP each holds a part of the model instead: workers/nn/sharding.py.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """One process among `size`. The default is alone, and then nothing here costs anything."""

    rank: int = 0
    size: int = 1
    device: str = ""
    is_sharded: bool = False
    """Does every process hold a part of the model only (FSDP2)? Gradients are then summed as they are computed."""
    is_zero: bool = False
    """Does DeepSpeed split gradients and the optimiser's state, and sum the gradients?"""
    splits_whole: bool = False
    """Does the configuration ask for the model to be put together at once, not layer by layer?"""

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def is_split(self) -> bool:
        """Do all processes have to compute equally many groups?"""
        return self.is_sharded or self.is_zero

    def mine(self, parts: Sequence[T]) -> Sequence[T]:
        """This process's share of the groups of a batch; they come by falling length, so shares are alike."""
        return parts[self.rank :: self.size]

    def sum_gradients(self, net: nn.Module) -> None:
        """Make every gradient the sum over all processes."""
        if self.size == 1 or self.is_split:
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
    if is_asked("ACCELERATE_USE_DEEPSPEED"):
        from workers.nn.zero import join_zero

        return join_zero()
    is_sharded = is_asked("ACCELERATE_USE_FSDP")
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 and not is_sharded:
        return ALONE
    if is_sharded:
        # Every process reads the weights: transformers would else leave them empty on all but the first.
        os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    from accelerate import PartialState

    few_gpus = torch.cuda.device_count() < int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    state = PartialState(cpu=is_asked("ACCELERATE_USE_CPU") or few_gpus)
    splits_whole = os.environ.get("FSDP_AUTO_WRAP_POLICY", "").upper() == "NO_WRAP"
    return World(
        state.process_index, state.num_processes, str(state.device), is_sharded=is_sharded, splits_whole=splits_whole
    )


def is_asked(variable: str) -> bool:
    """Is a switch on that accelerate hands over in the environment?"""
    return os.environ.get(variable, "").lower() in ("true", "1", "yes")
