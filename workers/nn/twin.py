"""Two reward heads on one backbone, which start apart and check one another's data."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from workers.nn.heads import DeepHead, Head, ScalarHead

Output = Literal["a", "b", "mean"]
NAMES = ("a", "b")


class TwinHead(Head):
    """Two heads of one shape with first weights of their own; outputs of shape (n, 2), member a first.

    `output` says what the reward is: one member, or the mean of both after each was brought to mean 0 and standard
    deviation 1 by the numbers in `centre` and `spread`, which training ends with (0 and 1 until then). While it trains
    the reward is the plain mean of the members: that is the margin by which training orders its pairs.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, width: int, *, output: Output = "a", depth: int = 1, **deep: Any) -> None:
        super().__init__()
        self.output: Output = output
        self.members = nn.ModuleList(
            [ScalarHead(width) if depth == 1 else DeepHead(width, depth=depth, **deep) for _ in NAMES]
        )
        self.register_buffer("centre", torch.zeros(2))
        self.register_buffer("spread", torch.ones(2))

    def forward(self, x: Tensor, prompt: Tensor | None = None) -> Tensor:
        return torch.stack([member(x) for member in self.members], dim=1)

    def reward(self, outputs: Tensor) -> Tensor:
        if self.training:
            return outputs.mean(dim=1)
        if self.output == "mean":
            return self.standardised(outputs).mean(dim=1)
        return outputs[:, NAMES.index(self.output)]

    def parts(self, outputs: Tensor) -> list[dict[str, Any]] | None:
        values = outputs.detach().double().cpu().tolist()
        return [{"members": dict(zip(NAMES, row, strict=True))} for row in values]

    def standardised(self, outputs: Tensor) -> Tensor:
        """Each member's rewards in standard deviations from its own mean, shape (n, 2)."""
        return (outputs - self.centre) / self.spread

    def standardise_by(self, outputs: Tensor) -> None:
        """Take mean and standard deviation of each member from rewards of shape (n, 2)."""
        self.centre.copy_(outputs.mean(dim=0))
        self.spread.copy_(outputs.std(dim=0, correction=0).clamp(min=1e-12))

    def is_split(self) -> bool:
        """Do the members differ? Two of the same weights would choose alike for ever."""
        a, b = (list(member.parameters()) for member in self.members)
        return any(not torch.equal(p, q) for p, q in zip(a, b, strict=True))
