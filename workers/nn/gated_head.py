"""A gate that reads the prompt and weighs ratings into one score (ArmoRM)."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from workers.nn.attribute_heads import AttributeHead, by_name
from workers.nn.heads import Head

TOP = 3


class GatedHead(Head):
    """Score = g . (r T): ratings r of a first stage that stays as it is, a transform T against verbosity, a gate g.

    Outputs have shape (n, 2k): the normalised ratings r, then g = scale * softmax(logits / temperature), which is
    never negative and sums to the scale. The gate sees the vector of the prompt alone. What T and the temperature
    are is stored with the weights.
    """

    needs_prompt = True
    transform: Tensor
    penalties: Tensor
    temperature: Tensor

    def __init__(
        self,
        width: int,
        *,
        told: Mapping[str, Any],
        layers: int = 3,
        hidden: int = 1024,
        dropout: float = 0.2,
        temperature: float = 10.0,
        prompt_at_mark: bool = False,
    ) -> None:
        super().__init__()
        self.prompt_at_mark = prompt_at_mark
        self.stage1 = AttributeHead(width, told=told)
        self.stage1.requires_grad_(False)
        self.names = self.stage1.names
        k = len(self.names)
        sizes = [width, *[hidden] * layers]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.out = nn.Linear(sizes[-1], k)
        # Its exponential, so that no step can make the gate negative; 1 at the start.
        self.log_scale = nn.Parameter(torch.zeros(1))
        self.dropout = dropout
        self.register_buffer("transform", torch.eye(k))
        self.register_buffer("penalties", torch.zeros(k))
        self.register_buffer("temperature", torch.tensor([temperature]))

    def gate(self, prompt: Tensor) -> Tensor:
        """Weights of the attributes, shape (n, k)."""
        x = prompt
        masks = torch.Generator(device=x.device).manual_seed(torch.initial_seed()) if self.training else None
        for layer in self.hidden:
            x = _dropped(torch.relu(layer(x)), self.dropout, masks)
        shares = torch.softmax(self.out(x) / self.temperature, dim=-1)
        found: Tensor = self.log_scale.exp() * shares
        return found

    def forward(self, x: Tensor, prompt: Tensor | None = None) -> Tensor:
        if prompt is None:
            raise ValueError("a gated head needs the vectors of the prompts")
        return torch.cat([self.stage1.normalised(x), self.gate(prompt)], dim=-1)

    def reward(self, outputs: Tensor) -> Tensor:
        ratings, gating = outputs.chunk(2, dim=-1)
        return (gating * (ratings @ self.transform)).sum(dim=-1)

    def parts(self, outputs: Tensor) -> list[dict[str, Any]]:
        """score, rewards r, gating g, coefficients c = g T' (score = sum c r), top3, and the ratings on their scale."""
        ratings, gating = outputs.detach().chunk(2, dim=-1)
        coefficients = gating @ self.transform.T
        told = zip(
            self.reward(outputs).detach().double().cpu().tolist(),
            *(by_name(part, self.names) for part in (ratings, gating, coefficients)),
            by_name(self.stage1.centre + self.stage1.spread * ratings, self.names),
            strict=True,
        )
        return [
            {
                "score": score,
                "rewards": rewards,
                "gating": gate,
                "coefficients": weights,
                "top3": top3(rewards, weights, self.names),
                "attributes": on_scale,
            }
            for score, rewards, gate, weights, on_scale in told
        ]

    @torch.no_grad()
    def set_transform(self, transform: Tensor, penalties: Tensor) -> None:
        self.transform.copy_(transform)
        self.penalties.copy_(penalties)


def _dropped(x: Tensor, p: float, masks: torch.Generator | None) -> Tensor:
    """Dropout whose mask follows from the step's seed: both responses of a prompt meet the same gate.

    With masks of their own, the two would be weighed differently, and the noise would drown the margin.
    """
    if masks is None or p == 0:
        return x
    kept = torch.rand(x.shape, generator=masks, device=x.device) >= p
    return x * kept / (1 - p)


def top3(rewards: Mapping[str, float], weights: Mapping[str, float], names: Sequence[str]) -> list[dict[str, Any]]:
    """The attributes with the largest coefficients, and what each adds to the score."""
    first = sorted(names, key=lambda name: -abs(weights[name]))[:TOP]
    return [
        {"attribute": name, "coefficient": weights[name], "contribution": weights[name] * rewards[name]}
        for name in first
    ]
