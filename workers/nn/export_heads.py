"""Heads of our families as what classes of transformers hold: linear layers, and a reward linear in what they give."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from workers.errors import JobError
from workers.jobs.export_checkpoint import PLAIN
from workers.nn.heads import ACTIVATIONS

Layer = tuple[Tensor, Tensor]
"""Weight (out, in) and bias (out,)."""


@dataclass(frozen=True)
class LinearHead:
    """Linear layers with an activation between them. Of several outputs the reward is the sum of weights * outputs."""

    layers: list[Layer]
    names: list[str]
    weights: list[float]
    activation: str = "none"

    @property
    def last(self) -> Layer:
        return self.layers[-1]

    @property
    def is_rated(self) -> bool:
        """Whether its outputs are ratings, of which the reward is made, not the reward itself."""
        return (self.names, self.weights) != (["reward"], [1.0])


def linear_head(family: str, head: Any, config: Any) -> LinearHead:
    """The head of a family of EXPORTED. JobError where it is none of linear layers."""
    builders: dict[str, Callable[[Any, Any], LinearHead]] = {
        "multi_attribute": _ratings,
        "embedding_linear": _ratings,
        "twin_head": _twins,
    }
    return builders.get(family, _scalar)(head, config)


def _scalar(head: Any, _: Any) -> LinearHead:
    return LinearHead(layers_of(head), ["reward"], [1.0], activation_of(head))


@torch.no_grad()
def _ratings(head: Any, _: Any) -> LinearHead:
    """centre + spread (W (x - mean) / scale + b), multiplied out in float64.

    The constant follows from the weights as they are after rounding, so that it cancels what they give at the mean.
    """
    spread, scale = head.spread.double(), head.feature_scale.double()
    weight = (spread[:, None] * head.weight.double() / scale).float()
    bias = head.centre.double() + spread * head.bias.double() - weight.double() @ head.feature_mean.double()
    return LinearHead([(weight, bias.float())], list(head.names), head.goodness.tolist())


@torch.no_grad()
def _twins(head: Any, config: Any) -> LinearHead:
    """One member; or the mean of both as one layer, where each is one layer: what is linear stays so."""
    if head.output != "mean":
        return _scalar(head.members[("a", "b").index(head.output)], config)
    members = [layers_of(member) for member in head.members]
    if len(members[0]) > 1:
        raise JobError(
            f"The reward is the mean of two heads of {len(members[0])} layers, and an exported model has one head.",
            f"Set output to a or b, or train with head_depth 1, whose mean is one linear layer. {PLAIN}",
        )
    pairs = list(zip(members, head.centre.double(), head.spread.double(), strict=True))
    weight = torch.stack([layers[0][0].double() / spread for layers, _, spread in pairs]).mean(dim=0)
    bias = torch.stack([(layers[0][1].double() - centre) / spread for layers, centre, spread in pairs]).mean(dim=0)
    return LinearHead([(weight.float(), bias.float())], ["reward"], [1.0])


def layers_of(head: Any) -> list[Layer]:
    """Of a ScalarHead, a DeepHead or a GoalHead."""
    found = [m for m in head.layers if isinstance(m, nn.Linear)] if hasattr(head, "layers") else [head]
    return [(m.weight.detach(), torch.zeros(len(m.weight)) if m.bias is None else m.bias.detach()) for m in found]


def activation_of(head: Any) -> str:
    """Between the layers of a head, by its name in ACTIVATIONS."""
    kinds = {kind: name for name, kind in ACTIVATIONS.items()}
    return next((kinds[type(m)] for m in getattr(head, "layers", ()) if type(m) in kinds), "none")


def named_labels(labels: list[str]) -> dict[str, Any]:
    """The outputs by name, as a config of transformers says them."""
    by_place = dict(enumerate(labels))
    return {"num_labels": len(labels), "id2label": by_place, "label2id": {name: i for i, name in by_place.items()}}
