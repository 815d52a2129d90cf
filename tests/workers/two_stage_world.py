"""Ratings and preferences of the same responses: regression on helpfulness first, then Bradley-Terry from its head."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.workers.feature_training import FeatureNet, labelled_data, pair_data, seeded, train_head
from workers.data.schema import PreferencePair
from workers.families import FAMILIES
from workers.objectives import OBJECTIVES

Array = np.ndarray[Any, Any]
WIDTH, N, N_TEST, BATCH = 24, 800, 3000, 32
FAMILY: Any = FAMILIES.get("multi_attribute")
CONFIG: Any = FAMILY.Config(attributes=["helpfulness"])


class TwoStageWorld:
    """N prompts with two responses each, rated from 0 to 4 and compared with a strength; both labels are noisy."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([seed, 40])
        weight, bend = rng.normal(size=WIDTH) / np.sqrt(WIDTH), rng.normal(size=(WIDTH, 6)) / np.sqrt(WIDTH)

        def merit(x: Array) -> Array:
            return np.asarray(x @ weight + np.tanh(2 * x @ bend).sum(axis=1) / 4)

        a, b = rng.normal(size=(2, N, WIDTH))
        ratings = [np.clip(np.rint(2 + 1.2 * merit(x) + 0.8 * rng.normal(size=N)), 0, 4) for x in (a, b)]
        said = np.clip(np.rint(1.5 * (merit(a) - merit(b)) + 1.2 * rng.normal(size=N)), -3, 3).astype(int)
        used = np.flatnonzero(said)
        prompts = [f"p{i}" for i in range(N)]
        self.pairs = pair_data(a[used], b[used], said[used] > 0, keys=[prompts[i] for i in used])
        self.pairs.targets = objective("scaled_bt").targets([_pair(s) for s in said[used]])
        self.ratings = labelled_data(np.concatenate([a, b]), np.concatenate(ratings)[:, None], keys=prompts * 2)
        self.test = rng.normal(size=(2, N_TEST, WIDTH)).astype(np.float32)
        self.is_first = merit(self.test[0]) > merit(self.test[1])

    def accuracy(self, head: Any) -> float:
        """Share of fresh pairs in the order of their true merit."""
        a, b = (rewards(head, x) for x in self.test)
        return float(((a > b) == self.is_first).mean())


def objective(name: str) -> Any:
    entry: Any = OBJECTIVES.get(name)
    made = entry(entry.Config())
    if name == "attribute_regression":
        made.meet(CONFIG)
    return made


def _pair(said: int) -> PreferencePair:
    return PreferencePair("", [], [], [], "a" if said > 0 else "b", preference_strength=abs(int(said)))


def rewards(head: Any, x: Array) -> Array:
    with torch.inference_mode():
        found: Array = head.reward(head(torch.from_numpy(x))).numpy()
    return found


def stages(folder: Path, world: TwoStageWorld, seed: int) -> dict[str, Any]:
    """The trained heads: regression (2 epochs), scaled Bradley-Terry alone (3 epochs), and both (2 epochs and 1)."""

    def fit(name: str, head: Any, data: Any, epochs: int, rate: float) -> FeatureNet:
        rows = np.arange(len(data))
        n_steps = epochs * -(-len(rows) // BATCH)
        made = objective("attribute_regression" if data is world.ratings else "scaled_bt")
        return train_head(folder / name, head, made, data, rows, n_steps=n_steps, batch=BATCH, rate=rate, seed=seed)

    def fresh() -> Any:
        return seeded(seed, lambda: FAMILY.head(CONFIG, WIDTH))

    first = fit("regression", fresh(), world.ratings, 2, 0.01).head
    return {
        "regression": first,
        "scaled alone": fit("alone", fresh(), world.pairs, 3, 0.01).head,
        "both": fit("both", deepcopy(first), world.pairs, 1, 0.005).head,
    }
