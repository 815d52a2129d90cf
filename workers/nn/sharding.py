"""One model in parts over several processes: FSDP2, as a configuration of accelerate asks for it.

Every process holds its share of each parameter, of its gradient and of the optimiser's state. A layer is put together
when it computes and let go after it, so all processes pass through the net equally often: each group is one pass, and
a process that has run out of groups computes one that counts for nothing. What is stored is always whole.
"""

import copy
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from workers.errors import JobError
from workers.nn.net import Net, longest_stack
from workers.nn.world import World

Rows = NDArray[np.int64]


class Sharded:
    """Splits a net over the world when made; `gather()` gives it back whole to the main process.

    The main process keeps a whole copy in the memory of the host, for the state that is stored in the end and checked.
    """

    def __init__(self, net: Net, world: World) -> None:
        self.net = net
        self.copy: Net = copy.deepcopy(net) if world.is_main else net
        split_net(net, world)
        self.n_held = n_held_by_each(net, world)
        """Numbers of the parameters that each process keeps."""

    def gather(self) -> Net:
        """The net as it is now, on the CPU of the main process; all processes call this together.

        What is frozen, such as a reference model, is in the copy already. One tensor at a time lies there twice.
        """
        frozen = {n for n, p in self.net.named_parameters(remove_duplicate=False) if not p.requires_grad}
        changed = ((name, tensor) for name, tensor in self.net.state_dict().items() if name not in frozen)
        is_main = self.copy is not self.net
        kept = self.copy.state_dict() if is_main else {}
        for name, tensor in whole_tensors(changed, is_kept=is_main):
            kept[name].copy_(tensor)
        return self.copy


def split_net(net: Net, world: World) -> None:
    """Turn every parameter into this process's part of it, layer by layer as the configuration says.

    What is in no layer, such as the embedding, belongs to the net: it is whole from its forward pass to the end of the
    backward, so that weights may be read there, also where something is computed once more.
    """
    # The head gives a view of its last layer's output; nothing here changes one in place.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    mesh = init_device_mesh(torch.device(world.device or "cpu").type, (world.size,))
    for model in net.models():
        is_trained = any(parameter.requires_grad for parameter in model.parameters())
        units, reshards = units_of(model, world, apart=net.read_directly())
        for module in reversed(units):  # the inner before the outer; without a backward pass nothing comes again
            fully_shard(module, mesh=mesh, reshard_after_forward=reshards or not is_trained)
    fully_shard(net, mesh=mesh)
    net.is_sharded = True


def units_of(model: nn.Module, world: World, *, apart: Sequence[nn.Module]) -> tuple[list[nn.Module], bool]:
    """What of a model is put together at once, the outer before the inner, and whether it is let go after the forward.

    Nothing that holds a module of `apart`.
    """
    from accelerate.utils import FullyShardedDataParallelPlugin
    from accelerate.utils.fsdp_utils import fsdp2_prepare_auto_wrap_policy

    try:
        asked = FullyShardedDataParallelPlugin()
        asked.set_auto_wrap_policy(model)
        chooses: Any = fsdp2_prepare_auto_wrap_policy(asked, model)
    except (ValueError, ImportError) as error:
        raise JobError(f"accelerate refuses the configuration: {error}", "Change the file, or name another.") from error
    if chooses is None:
        units: list[nn.Module] = [] if world.splits_whole else list(longest_stack(model))
    else:
        called = (module for module in model.modules() if not isinstance(module, nn.ModuleList | nn.ModuleDict))
        units = [module for module in called if module is not model and chooses(module)]
    kept = [module for module in units if not any(part in apart for part in module.modules())]
    return kept, bool(asked.reshard_after_forward)


def equal_shares(groups: Sequence[Rows], size: int) -> list[Rows]:
    """The groups cut so that every process gets equally many, as far as their units allow."""
    found = list(groups)
    while len(found) % size and len(largest := max(found, key=len)) > 1:
        place = next(i for i, group in enumerate(found) if group is largest)
        found[place : place + 1] = [largest[0::2], largest[1::2]]
    return found


def clip_gradients(net: nn.Module, most: float) -> float:
    """Scale the gradients down to the length `most`; their length before, over all processes."""
    norm = torch.nn.utils.clip_grad_norm_(net.parameters(), most)
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def whole(tensor: Tensor) -> Tensor:
    """A tensor put together from its parts; all processes call this together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_tensors(tensors: Iterable[tuple[str, Tensor]], *, is_kept: bool) -> Iterator[tuple[str, Tensor]]:
    """Whole tensors on the CPU, one after the other; nothing where they are not kept, but the talk takes place."""
    for name, tensor in tensors:
        found = whole(tensor.detach())
        if is_kept:
            yield name, found.cpu().contiguous()


def part_of(value: Tensor, own: Tensor) -> Tensor:
    """This process's part of a whole tensor, laid out like `own`."""
    if not isinstance(own, DTensor) or value.shape != own.shape:
        return value
    placed = value.to(own.device)
    return distribute_tensor(placed, own.device_mesh, own.placements, src_data_rank=None)


def n_held_by_each(net: nn.Module, world: World) -> list[int]:
    """Numbers of the net's parameters that each process keeps, by rank."""
    own = np.zeros(world.size)
    own[world.rank] = sum((p.to_local() if isinstance(p, DTensor) else p).numel() for p in net.parameters())
    return [int(n) for n in world.sum_array(own)]
