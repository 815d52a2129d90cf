"""Heads trained on frozen features, apart from one another, watched pair by pair at every epoch."""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import logsigmoid

from workers.nn.heads import Head

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Recipe:
    """How each member is trained: AdamW at a constant rate."""

    epochs: int
    batch_pairs: int
    learning_rate: float
    weight_decay: float
    folds: int
    """1: every member learns from all pairs; k > 1: k heads a member, each watched on pairs that it has not seen."""


@dataclass(frozen=True)
class PairFeatures:
    """Vectors of the preferred and of the other response, (n, width), and which pairs belong to one prompt."""

    chosen: Tensor
    rejected: Tensor
    prompt_keys: Sequence[str]

    def __len__(self) -> int:
        return len(self.chosen)


def member_margins(
    make: Callable[[], Head],
    data: PairFeatures,
    recipe: Recipe,
    *,
    seed: int,
    on_step: Callable[[], None],
    watch: Callable[[Head], None] | None = None,
) -> Floats:
    """Margins towards the label after each epoch, shape (epochs, n). Seed: first weights, order and folds.

    `watch` is given the head (of the first fold) after each epoch.
    """
    found = np.empty((recipe.epochs, len(data)), dtype=np.float32)
    for number, (train, seen) in enumerate(fold_rows(data.prompt_keys, recipe.folds, seed=seed)):
        torch.manual_seed(seed * 1009 + number)
        head = make()
        for epoch in trained_epochs(head, data, train, recipe, seed=[seed, number], on_step=on_step):
            found[epoch, seen] = margins_of(head, data, seen)
            if watch is not None and number == 0:
                watch(head)
    return found


def fold_rows(prompt_keys: Sequence[str], folds: int, *, seed: int) -> Iterator[tuple[Rows, Rows]]:
    """(rows to train on, rows to watch) of each fold; pairs of one prompt are in one fold."""
    everything = np.arange(len(prompt_keys), dtype=np.int64)
    if folds < 2:
        yield everything, everything
        return
    names, inverse = np.unique(np.asarray(prompt_keys, dtype=object).astype(str), return_inverse=True)
    fold = np.random.default_rng([seed, 2]).permutation(np.arange(len(names)) % folds)[inverse]
    for number in range(folds):
        yield everything[fold != number], everything[fold == number]


def trained_epochs(
    head: Head, data: PairFeatures, rows: Rows, recipe: Recipe, *, seed: Sequence[int], on_step: Callable[[], None]
) -> Iterator[int]:
    """Train in place; the number of each epoch when it is over."""
    optimizer = torch.optim.AdamW(head.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    for epoch in range(recipe.epochs):
        order = np.random.default_rng([*seed, epoch]).permutation(rows)
        head.train()
        for start in range(0, len(order), recipe.batch_pairs):
            on_step()
            loss = -logsigmoid(_margin(head, data, order[start : start + recipe.batch_pairs])).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        head.eval()
        yield epoch


def margins_of(head: Head, data: PairFeatures, rows: Rows) -> Floats:
    with torch.inference_mode():
        return np.asarray(_margin(head, data, rows).numpy(), dtype=np.float32)


def _margin(head: Head, data: PairFeatures, rows: Rows) -> Tensor:
    index = torch.from_numpy(rows)
    joined = torch.cat([data.chosen[index], data.rejected[index]])
    chosen, rejected = head.reward(head(joined)).chunk(2)
    return chosen - rejected


class Watch:
    """Keeps the weights of a head after each epoch, for gradients by group once the groups are known."""

    def __init__(self) -> None:
        self.kept: list[Head] = []

    def __call__(self, head: Head) -> None:
        self.kept.append(deepcopy(head))

    def gradient_norms(self, data: PairFeatures, groups: dict[str, Rows]) -> dict[str, list[float]]:
        """Norm of the gradient of the mean loss of each group, after each epoch; a group without pairs is left out."""
        return {name: [_norm(head, data, rows) for head in self.kept] for name, rows in groups.items() if len(rows)}


def _norm(head: Head, data: PairFeatures, rows: Rows) -> float:
    loss: Any = -logsigmoid(_margin(head, data, rows)).mean()
    slopes = torch.autograd.grad(loss, list(head.parameters()), allow_unused=True)
    return float(torch.sqrt(sum((s.square().sum() for s in slopes if s is not None), torch.zeros(()))))
