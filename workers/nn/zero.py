"""DeepSpeed's ZeRO, stages 1 and 2: gradients and the optimiser's state in parts over processes, parameters whole.

accelerate reads the configuration, DeepSpeed takes the step. Every process computes its groups by itself, as many as it
has, and the gradients meet once a step. What is stored is whole and in our own files: weights as they are, moments put
together parameter by parameter. deepspeed is an optional package.
"""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from workers.accelerate_files import no_deepspeed
from workers.nn.net import Net
from workers.nn.world import World

MOMENTS = ("exp_avg", "exp_avg_sq")


def join_zero() -> World:
    """The world of processes that DeepSpeed ties together."""
    on_cpu = not torch.cuda.is_available()
    if on_cpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    try:
        import deepspeed
    except ImportError as error:
        raise no_deepspeed() from error
    if on_cpu:  # an extension that would be compiled at the first run, to talk over shared memory; gloo does without
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="gloo" if on_cpu else "nccl", auto_mpi_discovery=False, verbose=False)
    rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    device = "cpu" if on_cpu else f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    if not on_cpu:
        torch.cuda.set_device(device)
    return World(rank, size, device, is_zero=True)


class ZeroOptimizer:
    """AdamW over the parts that DeepSpeed makes of the trained parameters."""

    def __init__(self, net: Net, optimizer: Optimizer, *, max_grad_norm: float, world: World) -> None:
        import deepspeed
        from accelerate.utils import DeepSpeedPlugin

        config: dict[str, Any] = {
            **DeepSpeedPlugin().deepspeed_config,
            "train_batch_size": world.size,
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": 1,
            "managed_gradient_accumulation": False,
            "gradient_clipping": max_grad_norm,
            "zero_allow_untested_optimizer": True,
        }
        self.trained = [p for group in optimizer.param_groups for p in group["params"]]
        self.n_processes = world.size
        self.engine = deepspeed.initialize(model=net, optimizer=optimizer, config=config)[0]
        self.zero = self.engine.optimizer
        self.inner: Optimizer = self.zero.optimizer
        """Holds the learning rates, and the moments of this process's part."""

    def backward(self, loss: Tensor) -> None:
        """Add a share of the batch's gradient; DeepSpeed takes the mean over processes, so it is scaled up first."""
        self.engine.backward(loss * self.n_processes)

    def step(self) -> float:
        """Sum and clip the gradients and move the weights; the gradients' length before clipping."""
        self.engine.step()
        return float(self.engine.get_global_grad_norm() or 0.0)

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Whole moments by parameter number and name, on the CPU; all processes call this together."""
        from deepspeed.utils import safe_get_full_optimizer_state

        if not self.inner.state:
            return
        self._link()
        n_steps = next(iter(self.inner.state.values()))["step"]
        for number, parameter in enumerate(self.trained):
            yield f"{number}.step", torch.as_tensor(n_steps, dtype=torch.float32).cpu().clone()
            for name in MOMENTS:
                yield f"{number}.{name}", safe_get_full_optimizer_state(parameter, name).detach().cpu().contiguous()

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take whole moments, and the weights that the net has by now."""
        from deepspeed.utils import safe_set_full_optimizer_state

        self.zero.refresh_fp32_params()
        if not tensors:
            return
        for group in self.inner.param_groups:
            for part in group["params"]:
                fresh = {name: torch.zeros_like(part) for name in MOMENTS}
                self.inner.state[part] = {"step": tensors["0.step"].clone().to(part.device), **fresh}
        self._link()
        for number, parameter in enumerate(self.trained):
            for name in MOMENTS:
                value = tensors[f"{number}.{name}"].to(parameter.device)
                safe_set_full_optimizer_state(parameter, value, name)

    def _link(self) -> None:
        """Tie parameters to their moments anew: DeepSpeed does it after the first group's step, before the others'."""
        self.zero._hp_optimizer_states_linked = False
        self.zero._lazy_init_hp_params_optimizer_state()
