"""Two policies trained from one start, each with its own log-ratio to the reference both began as."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from workers.data.render import Encoded
from workers.nn.likelihood_net import LikelihoodNet
from workers.nn.twin import Output, TwinHead


class TwinPolicies(TwinHead):
    """Holds policy b, a whole language model; outputs (n, 2) come from the net and pass through.

    Both policies begin alike. What sets them apart is dropout, whose masks are drawn for each anew.
    """

    def __init__(self, first: nn.Module, *, output: Output = "a", dropout: float = 0.0) -> None:
        super().__init__(1, output=output)
        self.members = nn.ModuleList()
        self.first = [first]  # in a list: not a part of this module, whose weights it would be stored among
        self.second = deepcopy(first)
        self.dropout = dropout

    def forward(self, x: Tensor, prompt: Tensor | None = None) -> Tensor:
        return x

    def renew(self) -> None:
        """Make policy b what policy a is now."""
        self.second.load_state_dict(self.first[0].state_dict())

    def is_split(self) -> bool:
        own, other = self.first[0].state_dict(), self.second.state_dict()
        return self.dropout > 0 or any(not torch.equal(own[name], other[name]) for name in own)


class TwinPolicyNet(LikelihoodNet):
    """beta times the log-ratio of each of two policies to one reference, summed over the response: outputs (n, 2)."""

    def __init__(self, backbone: Any, *, output: Output = "a", dropout: float = 0.0, **options: Any) -> None:
        super().__init__(backbone, dropout=dropout, **options)
        self.head: TwinPolicies = TwinPolicies(self.backbone, output=output, dropout=dropout)

    def models(self) -> list[nn.Module]:
        return [*super().models(), self.head.second]

    def forward(self, batch: Sequence[Encoded]) -> Tensor:
        with self.precision():
            both = [self.sums(model, batch) for model in (self.backbone, self.head.second)]
        rewards = torch.stack(both, dim=1)
        if self.reference is None:
            return self.beta * rewards
        with torch.no_grad(), self.precision():
            known = self.sums(self.reference, batch)
        return self.beta * (rewards - known[:, None])

    def sums(self, model: Any, batch: Sequence[Encoded]) -> Tensor:
        """log pi(response) of every item, float32 (n,)."""
        return torch.stack([part.sum() for part in self.log_probs(model, batch)])
