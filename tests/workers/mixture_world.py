"""Two groups of people with linear tastes: which group speaks may follow from the prompt, or not."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.workers.feature_training import FeatureNet, pair_data, seeded, train_head
from workers.nn.mixture import MixtureHead
from workers.nn.mixture_report import fit_linear, pair_outputs
from workers.nn.units import UnitData
from workers.nn.view import BatchView
from workers.objectives import OBJECTIVES

WIDTH, SHARPNESS = 16, 4.0
TRAIN, TEST = np.arange(6000), np.arange(6000, 8000)
BUDGET = 1 << 20
Array = np.ndarray[Any, Any]


@dataclass
class World:
    """tastes (2, d); group_share (n,): P(the second group labels pair i | its prompt)."""

    data: UnitData
    tastes: Array
    group: Array
    group_share: Array
    prompts: Array
    differences: Array

    def right_share(self, margins: Array, group: int, rows: Array) -> float:
        """How often margins r(a) - r(b) agree with what a group truly prefers."""
        return float((np.sign(margins) == np.sign(self.differences[rows] @ self.tastes[group])).mean())


def make_world(n: int, *, degrees: float, steepness: float, seed: int = 0, router_width: int = WIDTH) -> World:
    """n pairs; P(second group) = sigmoid(steepness x_0), tastes `degrees` apart, labels by Bradley-Terry."""
    rng = np.random.default_rng(seed)
    prompts = np.zeros((n, router_width))
    prompts[:, :WIDTH] = rng.normal(size=(n, WIDTH))
    a, b = rng.normal(size=(2, n, WIDTH))
    basis = np.linalg.qr(rng.normal(size=(WIDTH, 2)))[0].T
    turn = np.deg2rad(degrees)
    tastes = SHARPNESS * np.stack([basis[0], np.cos(turn) * basis[0] + np.sin(turn) * basis[1]])
    share = 1 / (1 + np.exp(-steepness * prompts[:, 0]))
    group = (rng.random(n) < share).astype(int)
    margins = ((a - b) * tastes[group]).sum(axis=1)
    is_a = rng.random(n) < 1 / (1 + np.exp(-margins))
    return World(pair_data(a, b, is_a, prompt=prompts), tastes, group, share, prompts, a - b)


def train_mixture(
    folder: Path,
    world: World,
    rows: Array,
    *,
    n_heads: int = 2,
    alpha: float = 0.5,
    n_steps: int = 700,
    seed: int = 0,
    **options: Any,
) -> FeatureNet:
    entry = OBJECTIVES.get("mixture_nll")
    prompt_width = world.prompts.shape[1]
    head = seeded(seed, lambda: MixtureHead(WIDTH, n_heads=n_heads, prompt_width=prompt_width))
    objective = entry(entry.Config(alpha=alpha))
    return train_head(folder, head, objective, world.data, rows, n_steps=n_steps, seed=seed, **options)


def best_heads(world: World, net: FeatureNet) -> tuple[Array, Array]:
    """Accuracy of the best head for each group on unseen pairs, and which head that is."""
    with torch.inference_mode():
        margins = pair_outputs(BatchView(net, world.data, TEST, budget=BUDGET))[1].numpy()
    found = np.array([[world.right_share(m, group, TEST) for group in (0, 1)] for m in margins.T])
    return found.max(axis=0), found.argmax(axis=0)


def single_reward(world: World) -> list[float]:
    """Accuracy for each group of one Bradley-Terry reward on the same pairs."""
    sign = np.sign(world.data.targets.target[TRAIN] - 0.5)[:, None]
    w = fit_linear(torch.from_numpy(world.differences[TRAIN] * sign).float(), 1e-4).numpy()
    return [world.right_share(world.differences[TEST] @ w, group, TEST) for group in (0, 1)]
