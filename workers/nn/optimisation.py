"""AdamW and its schedule."""

import math

from torch import nn
from torch.optim import AdamW, Optimizer

from workers.nn.net import Net


def make_optimizer(net: Net, learning_rate: float, *, head_learning_rate: float, weight_decay: float) -> Optimizer:
    """AdamW; matrices decay, biases and norms do not; the reward head has a rate of its own."""
    groups = []
    for module, rate in ((net.backbone, learning_rate), (net.head, head_learning_rate)):
        parameters = [p for p in module.parameters() if p.requires_grad]
        for chosen, decay in (
            ([p for p in parameters if p.ndim > 1], weight_decay),
            ([p for p in parameters if p.ndim <= 1], 0.0),
        ):
            if chosen:
                groups.append({"params": chosen, "lr": rate, "peak_lr": rate, "weight_decay": decay})
    return AdamW(groups, fused=True)


def learning_rate_share(step: int, *, n_warmup: int, n_steps: int) -> float:
    """Share of the peak rate at a step counted from 1: a straight rise, then half a cosine down to 0 after the end."""
    if step <= n_warmup:
        return step / n_warmup
    return 0.5 * (1 + math.cos(math.pi * (step - 1 - n_warmup) / max(1, n_steps - n_warmup)))


def set_learning_rates(optimizer: Optimizer, share: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * share


def n_trainable(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters() if p.requires_grad)
