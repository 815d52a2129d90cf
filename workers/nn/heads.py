"""Reward heads: from a pooled vector of the backbone to outputs, and from outputs to the one reward that is stored."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

Activation = Literal["none", "tanh", "relu", "silu", "gelu"]
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "none": nn.Identity,
}


class Head(nn.Module):
    """What every head offers. Heads compute in float32.

    `forward(x, prompt)` turns vectors of shape (n, width) into outputs of shape (n,) or (n, ...); `prompt` are the
    vectors of the prompts alone, and are given only when `needs_prompt`.
    """

    needs_prompt = False
    prompt_at_mark = False
    """Of a causal model: whether the prompt is read at the first mark of a sequence, not just before the response."""
    report: Mapping[str, Any] = {}
    """What fitting or preparing the head has to tell, as JSON; it goes into the result of the run."""

    def forward(self, x: Tensor, prompt: Tensor | None = None) -> Tensor:
        raise NotImplementedError

    def reward(self, outputs: Tensor) -> Tensor:
        """The reward of each item, shape (n,), from the outputs."""
        return outputs

    def parts(self, outputs: Tensor) -> list[dict[str, Any]] | None:
        """What else to tell of each item, as JSON; None when there is nothing but the reward."""
        return None


class ScalarHead(Head):
    """One linear layer to one number."""

    def __init__(self, width: int) -> None:
        super().__init__()
        linear = nn.Linear(width, 1)
        self.weight, self.bias = linear.weight, linear.bias
        nn.init.normal_(self.weight, std=0.02)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, prompt: Tensor | None = None) -> Tensor:
        return nn.functional.linear(x, self.weight, self.bias).squeeze(-1)


class DeepHead(Head):
    """`depth` linear layers with an activation between them (never after the last) to `n_outputs` numbers.

    The last layer starts near zero, so that a fresh head says nothing loudly. With one output the shape is (n,).
    """

    def __init__(
        self,
        width: int,
        *,
        depth: int = 1,
        activation: Activation = "silu",
        hidden: int | None = None,
        n_outputs: int = 1,
    ) -> None:
        super().__init__()
        sizes = [width, *([hidden or width] * (depth - 1)), n_outputs]
        layers: list[nn.Module] = []
        for size_in, size_out in pairwise(sizes):
            layers += [nn.Linear(size_in, size_out), ACTIVATIONS[activation]()]
        self.layers = nn.Sequential(*layers[:-1])
        last = self.layers[-1]
        nn.init.normal_(last.weight, std=0.02)  # type: ignore[arg-type]
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, prompt: Tensor | None = None) -> Tensor:
        found: Tensor = self.layers(x)
        return found.squeeze(-1) if found.shape[-1] == 1 else found


def rows_of(outputs: Tensor, name: str, names: list[str]) -> list[dict[str, Any]]:
    """Outputs of shape (n, k) as {name: {names[j]: value}} an item."""
    values = outputs.detach().double().cpu().tolist()
    return [{name: dict(zip(names, row, strict=True))} for row in values]


def join_outputs(parts: list[Tensor]) -> Tensor:
    """Outputs of several passes as one. Where an item has as many outputs as steps, short rows are filled with nan."""
    if parts[0].ndim < 2 or len({p.shape[1] for p in parts}) == 1:
        return torch.cat(parts)
    widest = max(p.shape[1] for p in parts)
    return torch.cat(
        [nn.functional.pad(p, (0, widest - p.shape[1]), value=float("nan")) if p.ndim == 2 else p for p in parts]
    )
