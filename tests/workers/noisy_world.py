"""Pairs from a known teacher on 30 features, of which some labels were flipped: what noise costs can be counted."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.workers.feature_training import FeatureNet, pair_data, seeded, train_head
from workers.nn.units import UnitData

Array = np.ndarray[Any, Any]
WIDTH = 30


@dataclass(frozen=True)
class NoisyWorld:
    """data: pairs with labels as given; is_flipped: whose label is wrong; test_a is always the better response."""

    data: UnitData
    is_flipped: Array
    test_a: Array
    test_b: Array
    test_gap: Array
    """How much better, in the teacher's reward."""

    @property
    def rows(self) -> Array:
        return np.arange(len(self.is_flipped))


def make_world(seed: int, *, noise: float, n: int = 3000, n_test: int = 2000, gap: float = 0.0) -> NoisyWorld:
    """A linear teacher and one bend; `gap`: pairs whose rewards differ by less are not drawn."""
    rng = np.random.default_rng([seed, 77])
    weight = rng.normal(size=WIDTH)
    bend = rng.normal(size=(WIDTH, 8)) / np.sqrt(WIDTH)

    def reward(x: Array) -> Array:
        return x @ weight / np.sqrt(WIDTH) + np.tanh(2 * x @ bend).sum(axis=1) / 4

    a, b = draw(rng, reward, n + n_test, gap)
    better = reward(a) > reward(b)
    flipped = rng.permutation(np.arange(n) < round(noise * n))
    labels = better[:n] ^ flipped
    swap = ~better[n:, None]
    first, second = np.where(swap, b[n:], a[n:]), np.where(swap, a[n:], b[n:])
    return NoisyWorld(pair_data(a[:n], b[:n], labels), flipped, first, second, reward(first) - reward(second))


def draw(rng: np.random.Generator, reward: Any, n: int, gap: float) -> tuple[Array, Array]:
    a, b = rng.normal(size=(2, 3 * n, WIDTH))
    wide = np.flatnonzero(np.abs(reward(a) - reward(b)) >= gap)[:n]
    return a[wide], b[wide]


def rewards(net: FeatureNet, x: Array) -> Array:
    """Outputs of the head, in evaluation."""
    import torch

    with torch.inference_mode():
        found: Array = net.head(torch.from_numpy(x.astype(np.float32))).numpy()
    return found


def accuracy(found: Array, n_test: int) -> float:
    """Share of test pairs with the better response first; `found` are rewards of all first, then all second."""
    return float((found[:n_test] > found[n_test:]).mean())


def clean_accuracy(net: FeatureNet, world: NoisyWorld) -> Array:
    """Accuracy of each output on the clean test pairs, shape (k,)."""
    found = rewards(net, np.concatenate([world.test_a, world.test_b])).reshape(2 * len(world.test_a), -1)
    return np.array([accuracy(column, len(world.test_a)) for column in found.T])


def train(folder: Path, make: Any, objective: Any, world: NoisyWorld, *, seed: int = 0, **options: Any) -> FeatureNet:
    """12 epochs in batches of 32 unless `options` say otherwise."""
    batch = options.pop("batch", 32)
    epochs = options.pop("epochs", 12)
    rows = options.pop("rows", world.rows)
    n_steps = round(epochs * -(-len(rows) // batch))
    head = seeded(seed, make)
    return train_head(folder, head, objective, world.data, rows, n_steps=n_steps, batch=batch, seed=seed, **options)
