"""A policy that has moved to where training pairs never were, for training that looks at its samples."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.workers.noisy_world import WIDTH, clean_accuracy, make_world, train
from workers.nn.features import Features
from workers.nn.heads import DeepHead
from workers.nn.meta_samples import SampleSet
from workers.objectives import OBJECTIVES


def shifted_samples(seed: int, *, n_prompts: int = 300, k: int = 4) -> tuple[SampleSet, Features]:
    """Samples of a policy that has moved: small features around a point that training pairs never show."""
    rng = np.random.default_rng([seed, 9])
    place = rng.normal(size=WIDTH)
    x = 0.35 * rng.normal(size=(n_prompts * k, WIDTH)) + 1.5 * place / np.linalg.norm(place)
    groups = [list(range(i * k, (i + 1) * k)) for i in range(n_prompts)]
    found = Features(x.astype(np.float32))
    return SampleSet([None] * len(x), groups, features=found), found  # type: ignore[list-item]


def meta_training(
    folder: Path, step_size: float, *, spread_weight: float = 0.0, epochs: float = 2, seed: int = 0
) -> tuple[float, float]:
    """J on new samples of the shifted policy and clean accuracy, after so many epochs; both 0 is plain training."""
    world = make_world(seed, noise=0.1, gap=0.3, n=1500)
    seen, _ = shifted_samples(seed)
    new, _ = shifted_samples(seed, n_prompts=600)
    new.groups = new.groups[300:]
    entry: Any = OBJECTIVES.get("meta_bt")
    settings = {"step_size": step_size, "spread_weight": spread_weight, "prompts_per_step": 32}
    objective = entry(entry.Config(**settings, centre_coefficient=0.0))
    objective.samples = seen if step_size or spread_weight else None

    def make() -> DeepHead:
        return DeepHead(WIDTH, depth=2, hidden=64)

    net = train(folder, make, objective, world, rate=0.001, epochs=epochs, seed=seed)
    with torch.inference_mode():
        j = float(new.mean_discrimination(net, new.groups, budget=1 << 20))
    return j, float(clean_accuracy(net, world)[0])
