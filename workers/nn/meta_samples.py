"""Unlabelled samples of a policy, and how well rewards tell those of one prompt apart."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workers.data.render import Encoded
from workers.data.schema import LabelledResponse
from workers.errors import JobError
from workers.families.base import Item
from workers.nn.features import encode_features
from workers.nn.net import Net
from workers.nn.reward_net import RewardNet
from workers.nn.units import Features

READ_AT_ONCE = 256


def discrimination(rewards: Tensor) -> Tensor:
    """J = (2 / k^2) sum_{i<j} sigmoid(|r_i - r_j|) of the k samples of each prompt: rewards (n, k) to shape (n,).

    (k - 1) / (2 k) where all rewards are equal, below (k - 1) / k always. Two equal rewards give no gradient.
    """
    k = rewards.shape[1]
    i, j = torch.triu_indices(k, k, offset=1)
    apart = (rewards[:, i] - rewards[:, j]).abs()
    return (2 / k**2) * torch.sigmoid(apart).sum(dim=1)


@dataclass
class SampleSet:
    """Encoded samples; groups[g] are the places of the samples of prompt g, each at least two, none twice."""

    encoded: list[Encoded]
    groups: list[list[int]]
    left_out: dict[str, int] = field(default_factory=dict)
    features: Features | None = None

    def draw(self, n: int, rng: np.random.Generator) -> list[list[int]]:
        """Groups of one step."""
        chosen = rng.choice(len(self.groups), size=min(n, len(self.groups)), replace=False)
        return [self.groups[int(i)] for i in chosen]

    def mean_discrimination(self, net: Net, groups: Sequence[Sequence[int]], *, budget: int) -> Tensor:
        """J of each of these prompts, averaged; with a gradient where the net has one."""
        places = [place for group in groups for place in group]
        rewards = net.reward(self._outputs(net, places, budget))
        parts = torch.split(rewards, [len(group) for group in groups])
        return torch.stack([discrimination(part[None])[0] for part in parts]).mean()

    def _outputs(self, net: Net, places: list[int], budget: int) -> Tensor:
        if self.features is None:
            return net.forward_bucketed([self.encoded[i] for i in places], budget)
        kept = self.features
        vectors = torch.from_numpy(kept.response[places]).to(net.device)
        prompts = None if kept.prompt is None else torch.from_numpy(kept.prompt[places]).to(net.device)
        found: Tensor = net.head(vectors, prompts)
        return found

    def freeze(self, net: Net, *, budget: int) -> None:
        """Read the samples once with a frozen backbone."""
        if isinstance(net, RewardNet) and self.features is None:
            self.features = encode_features(net, self.encoded, budget=budget, on_batch=lambda _: None)


def read_samples(
    rows: Iterable[LabelledResponse], encode: Callable[[Sequence[Item]], Sequence[Encoded]], *, tick: Callable[[], None]
) -> SampleSet:
    """Responses grouped by prompt; the same text twice counts once, and a prompt with one sample is left out."""
    encoded: list[Encoded] = []
    by_prompt: dict[str, dict[str, int]] = {}
    left_out = {"same sample twice": 0, "one sample of its prompt": 0}
    for block in blocks(rows):
        fresh: list[LabelledResponse] = []
        for row in block:
            known, text = by_prompt.setdefault(row.prompt_key, {}), repr([m["content"] for m in row.response])
            if text in known:
                left_out["same sample twice"] += 1
                continue
            known[text] = len(encoded) + len(fresh)
            fresh.append(row)
        encoded += encode([(row.prompt, row.response, {}) for row in fresh])
        tick()
    groups = [list(known.values()) for known in by_prompt.values()]
    left_out["one sample of its prompt"] = sum(len(group) == 1 for group in groups)
    kept = [group for group in groups if len(group) > 1]
    if not kept:
        raise JobError(
            "The source of samples has no prompt with two different responses.",
            "Name a dataset with several responses of the policy to each prompt; they need no labels.",
        )
    return SampleSet(encoded, kept, {reason: n for reason, n in left_out.items() if n})


def blocks(rows: Iterable[Any]) -> Iterator[list[Any]]:
    stream = iter(rows)
    while block := list(islice(stream, READ_AT_ONCE)):
        yield block


@contextmanager
def moved_uphill(net: Net, value: Callable[[], Tensor], *, step_size: float, weight: float = 0.0) -> Iterator[float]:
    """Inside, the weights are theta + step_size * gradient of value(); after it they are theta again, bit for bit.

    Gradients left by what runs inside stay, and so meet theta: the first-order form. `weight` times the gradient of
    value() at theta is taken from them. The generator of random numbers goes on as if nothing had been drawn here.
    """
    trained = [p for p in net.parameters() if p.requires_grad]
    before = [p.detach().clone() for p in trained]
    devices = [net.device] if net.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        found = value()
    slopes = torch.autograd.grad(found, trained, allow_unused=True)
    with torch.no_grad():
        for parameter, slope in zip(trained, slopes, strict=True):
            if slope is not None:
                parameter.add_(slope, alpha=step_size)
    try:
        yield float(found.detach())
    finally:
        with torch.no_grad():
            for parameter, kept in zip(trained, before, strict=True):
                parameter.copy_(kept)
    if weight:
        for parameter, slope in zip(trained, slopes, strict=True):
            if slope is not None:
                parameter.grad = -weight * slope if parameter.grad is None else parameter.grad - weight * slope
