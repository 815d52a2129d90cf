"""A feature space with a region that training pairs come from and one that they do not."""

from collections.abc import Iterable
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
from workers.stats.over_optimisation import best_of_n, policy_curve
from workers.stats.robust_mix import RobustMix, robust_mix

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


def of_regions(world: Any, n: int = 1000) -> list[list[np.ndarray[Any, Any]]]:
    """Spread of mu over heads, and mean sigma, of responses of A and of B."""
    rng = np.random.default_rng(100)
    both = [read(world.head, region(name, n, rng)) for name in ("A", "B")]
    return [[mu.std(axis=1) for mu, _ in both], [sigma.mean(axis=1) for _, sigma in both]]


def mixed(mu: Any, sigma: Any, w: float, **options: Any) -> RobustMix:
    return robust_mix(mu, sigma, w_nominal=w, w_min=1 - w, **options)


def nominal_accuracy(world: Any) -> tuple[float, float]:
    """Of the nominal reward, and of stage 1, on 4,000 labelled pairs of region A."""
    rng = np.random.default_rng(7)
    a, b = region("A", 4000, rng), region("A", 4000, rng)
    truth = rng.random(4000) < 1 / (1 + np.exp(reward(b) - reward(a)))
    nominal = [mixed(*read(world.head, x), 1.0).nominal for x in (a, b)]
    stage1 = [features(x) @ world.stage1.double().numpy() for x in (a, b)]
    found, before = (float(((r[0] > r[1]) == truth).mean()) for r in (nominal, stage1))
    return found, before


PROMPTS, RESPONSES, HEADS = 8, 64, 5
WEIGHTS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
BETAS = np.geomspace(3, 0.02, 15)


def proxies(seed: int, *, worse: float = 0.0, share: float = 0.5) -> tuple[np.ndarray[Any, Any], dict[float, Any]]:
    """Gold rewards, and heads that are right on covered responses and wrong on the others, some of it together.

    The others, a `share` of all, are `worse` than the heads can know.
    """
    rng = np.random.default_rng(seed)
    gold = rng.normal(size=(PROMPTS, RESPONSES))
    covered = rng.random(gold.shape) > share
    size = np.where(covered, 0.2, 1.5)[..., None]
    shared = np.where(covered, 0, 0.5)[..., None] * rng.normal(size=(*gold.shape, 1))
    mu = gold[..., None] + shared + size * rng.normal(size=(*gold.shape, HEADS))
    sigma = size * np.exp(0.3 * rng.normal(size=mu.shape))
    mean, std = mu[covered].mean(axis=0), mu[covered].std(axis=0)
    flat = ((mu - mean) / std).reshape(-1, HEADS), (sigma / std).reshape(-1, HEADS)
    return gold - worse * ~covered, {w: mixed(*flat, w).mixed.reshape(gold.shape) for w in WEIGHTS}


def pushed_hard(seeds: Iterable[int]) -> tuple[np.ndarray[Any, Any], bool]:
    """Gold at weight 0.4 less gold at 1 in shares of its range, a seed each; is the proxy at weight 0 the lowest?"""
    gains, is_lowest, base = [], True, np.full((PROMPTS, RESPONSES), 1 / RESPONSES)
    for seed in seeds:
        gold, rewards = proxies(seed)
        curves = {w: policy_curve(base, rewards[w], gold, BETAS.tolist()) for w in WEIGHTS}
        assert (np.diff(curves[1.0].kl) > 0).all()
        span = (gold.max(axis=1) - gold.min(axis=1)).mean()
        gains.append((curves[0.4].gold_reward[-1] - curves[1.0].gold_reward[-1]) / span)
        is_lowest &= all(curves[0.0].proxy_reward[-1] <= curves[w].proxy_reward[-1] for w in WEIGHTS)
    return np.array(gains), is_lowest


def best_of_n_curves(seeds: Iterable[int]) -> dict[float, np.ndarray[Any, Any]]:
    """Mean gold reward at N = 1, 2, 4, ... 256, by weight; one response in five is worse than the heads can know."""
    curves: dict[float, list[list[float]]] = {1.0: [], 0.4: []}
    for seed in seeds:
        gold, rewards = proxies(seed, worse=2.0, share=0.2)
        for w, rows in curves.items():
            rows.append([best_of_n(rewards[w], gold, 2**power) for power in range(9)])
    return {w: np.mean(rows, axis=0) for w, rows in curves.items()}
