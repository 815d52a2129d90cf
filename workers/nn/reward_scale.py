"""Mean and deviation of rewards that some trainers keep beside the head, and take off when the model is asked."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from workers.errors import JobError
from workers.nn.head_layouts import Layout

SCALE_BUFFERS = ("mean", "std")


@dataclass(frozen=True)
class RewardScale:
    """reward = (value - mean) / std, as OpenRLHF's reward models compute it with normalize_reward."""

    mean: float = 0.0
    std: float = 1.0
    notes: list[str] = field(default_factory=list)

    def of(self, values: Tensor) -> Tensor:
        return (values - self.mean) / self.std

    def folded(self, head: dict[str, Tensor], layout: Layout) -> dict[str, Tensor]:
        """The tensors of a head whose last layer gives the scaled rewards by itself."""
        if (self.mean, self.std) == (0.0, 1.0):
            return head
        weight, bias = head[f"{layout.last}.weight"], head.get(f"{layout.last}.bias")
        old = torch.zeros(len(weight)) if bias is None else bias
        return {
            **head,
            f"{layout.last}.weight": (weight.double() / self.std).float(),
            f"{layout.last}.bias": ((old.double() - self.mean) / self.std).float(),
        }


def reward_scale(name: str, config: Any, head: Mapping[str, Tensor]) -> RewardScale:
    """What the config says, else buffers among the tensors; it counts where the config says normalize_reward."""
    found = {n: getattr(config, n, head.get(n)) for n in SCALE_BUFFERS}
    if all(value is None for value in found.values()):
        return RewardScale()
    if not getattr(config, "normalize_reward", False):
        note = "It keeps mean and deviation of its rewards, which its config does not apply: rewards are as the head's."
        return RewardScale(notes=[note])
    numbers = {n: _number(value) for n, value in found.items()}
    mean, std = numbers["mean"], numbers["std"]
    if mean is None or std is None or not (math.isfinite(mean) and math.isfinite(std) and std > 0):
        said = ", ".join(f"{n} {found[n]}" for n in SCALE_BUFFERS)
        raise JobError(
            f"{name} says that its rewards are normalised, but not by a number and one above 0: {said}.",
            "Set normalize_reward to false in its config.json, or mean and std to those of its training.",
        )
    for told in (*SCALE_BUFFERS, "normalize_reward"):  # the checkpoint's head does it, so its config must not ask again
        if hasattr(config, told):
            delattr(config, told)
    return RewardScale(mean, std, [f"Its rewards are normalised, as its config says: less {mean:g}, by {std:g}."])


def _number(value: Any) -> float | None:
    if isinstance(value, Tensor):
        return float(value) if value.numel() == 1 else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
