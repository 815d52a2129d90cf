"""A feature space with a region that training pairs come from and one that they do not."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from tests.workers.feature_training import FeatureNet, pair_data, train_head
from tests.workers.source_world import objective_of
from workers.context import LocalJobContext
from workers.data.schema import PreferencePair
from workers.families import FAMILIES
from workers.nn.gaussian_heads import GaussianHeads, fit_margins
from workers.nn.gaussian_targets import fill_margins

INPUTS, WIDTH, N = 6, 48, 1500


def features(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Random ReLU features, as the last layer of a network has them."""
    rng = np.random.default_rng(99)
    return np.maximum(x @ rng.normal(size=(INPUTS, WIDTH)) / np.sqrt(INPUTS) + 0.3 * rng.normal(size=WIDTH), 0)


def region(name: str, n: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """A: around 0. B: the same shape, three units away along every second input."""
    x = rng.normal(size=(n, INPUTS))
    return x if name == "A" else x + 3.0 * (np.arange(INPUTS) % 2)


def reward(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return 1.5 * x[:, 0] - x[:, 1] + np.abs(x[:, 2])


def stage_two(folder: Path, *, loss: str = "gauss_nll", seed: int = 0, n_steps: int = 600, **config: Any) -> Any:
    """Stage 1 and stage 2 on region A, by the parts that the job uses."""
    rng = np.random.default_rng(seed)
    a, b = region("A", N, rng), region("A", N, rng)
    is_a = rng.random(N) < 1 / (1 + np.exp(-(reward(a) - reward(b))))
    data = pair_data(features(a), features(b), is_a)
    family: Any = FAMILIES.get("bayesian_ensemble")
    settings = family.Config(**config)
    objective = objective_of("gaussian_margins", stage2_loss=loss)
    objective.meet(settings)
    data.targets = objective.targets([PreferencePair("", [], [], [], "a" if first else "b") for first in is_a])
    rows = np.arange(N - 300)
    torch.manual_seed(seed)
    net = FeatureNet(family.head(settings, WIDTH))
    difference = torch.from_numpy(data.features[0].response - data.features[1].response)
    single = fit_margins(difference[rows], data.targets.target[rows], np.ones((len(rows), 1)), ridge=0.01)[0]
    net.head.stage1.copy_(single)
    ctx = LocalJobContext(folder)
    fill_margins(ctx, settings, net=net, data=data, rows=rows)
    head: GaussianHeads = train_head(
        folder, net.head, objective, data, rows, n_steps=n_steps, rate=0.02, seed=seed
    ).head
    report = objective.finish(net, data, rows, budget=1 << 20)
    return SimpleNamespace(head=head, data=data, rows=rows, stage1=single, report=report, rng=rng)


def read(head: GaussianHeads, x: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """mu and sigma (n, K) on one scale."""
    with torch.inference_mode():
        outputs = head(torch.from_numpy(features(x).astype(np.float32)))
        mu, sigma = head.comparable(outputs)
    return mu.double().numpy(), sigma.double().numpy()
