"""Heads that rate attributes: linear in the features, on the scale of the labels."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from workers.nn.heads import Head


class AttributeHead(Head):
    """k ratings from one linear layer, each on its own scale: centre + spread * (W (x - mean) / scale + b).

    Outputs have shape (n, k). The reward is a weighted sum of them. `told` is kept as bytes beside the weights: the
    names of the attributes, and how the features were read. tells: whether to give ratings as parts.
    """

    weight: nn.Parameter
    bias: nn.Parameter
    centre: Tensor
    spread: Tensor
    feature_mean: Tensor
    feature_scale: Tensor
    goodness: Tensor
    is_fitted: Tensor
    about: Tensor

    def __init__(
        self, width: int, *, told: Mapping[str, Any], goodness: Sequence[float] = (), tells: bool = True
    ) -> None:
        super().__init__()
        self.names: list[str] = list(told["attributes"])
        self.tells = tells
        k = len(self.names)
        self.weight = nn.Parameter(torch.empty(k, width))
        self.bias = nn.Parameter(torch.zeros(k))
        nn.init.normal_(self.weight, std=0.02)
        self.register_buffer("centre", torch.zeros(k))
        self.register_buffer("spread", torch.ones(k))
        self.register_buffer("feature_mean", torch.zeros(width))
        self.register_buffer("feature_scale", torch.ones(width))
        self.register_buffer("is_fitted", torch.zeros(1))
        self.register_buffer("about", as_bytes(told))
        # From the configuration of the reward model, which may be given other weights without training again.
        self.register_buffer("goodness", torch.tensor(list(goodness) or [1.0] * k), persistent=False)

    def normalised(self, x: Tensor) -> Tensor:
        """Ratings in units of `spread` from `centre`, shape (n, k)."""
        return nn.functional.linear((x - self.feature_mean) / self.feature_scale, self.weight, self.bias)

    def forward(self, x: Tensor, prompt: Tensor | None = None) -> Tensor:
        return self.centre + self.spread * self.normalised(x)

    def reward(self, outputs: Tensor) -> Tensor:
        return outputs @ self.goodness

    def parts(self, outputs: Tensor) -> list[dict[str, Any]] | None:
        if not self.tells:
            return None
        return [{"attributes": named} for named in by_name(outputs, self.names)]

    @torch.no_grad()
    def set_scale(self, centre: Tensor, spread: Tensor) -> None:
        """Centre and spread of the labels, shape (k,); from here on a head of zeros says `centre`."""
        self.centre.copy_(centre)
        self.spread.copy_(spread)
        self.is_fitted.fill_(1.0)


def by_name(values: Tensor, names: Sequence[str]) -> list[dict[str, float]]:
    """Rows of a tensor (n, k) as {name: value}."""
    rows = values.detach().double().cpu().tolist()
    return [dict(zip(names, row, strict=True)) for row in rows]


def as_bytes(told: Mapping[str, Any]) -> Tensor:
    """JSON as a tensor of bytes, which the file of the weights can hold."""
    text = json.dumps(told, ensure_ascii=False, sort_keys=True)
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


def from_bytes(tensor: Tensor) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bytes(tensor.cpu().tolist()))
    return found
