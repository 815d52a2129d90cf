"""Two sources of pairs over the same features, whose tastes share a part and differ in the rest."""

from typing import Any

import numpy as np

from tests.workers.feature_training import pair_data
from workers.nn.units import UnitData

WIDTH = 12


def make_sources(n: int, *, degrees: float, seed: int = 0, shares: tuple[float, ...] = (0.8, 0.2)) -> UnitData:
    """n pairs; source k has the taste turned by k * degrees, labels by Bradley-Terry at a slope of 2."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, n, WIDTH))
    basis = np.linalg.qr(rng.normal(size=(WIDTH, 2)))[0].T
    turns = np.deg2rad(degrees) * np.arange(len(shares))
    tastes = 2 * (np.cos(turns)[:, None] * basis[0] + np.sin(turns)[:, None] * basis[1])
    source = rng.choice(len(shares), size=n, p=shares)
    margins = ((a - b) * tastes[source]).sum(axis=1)
    data = pair_data(a, b, rng.random(n) < 1 / (1 + np.exp(-margins)))
    data.sources = [f"source {k}" for k in source]
    return data


def objective_of(name: str, **config: Any) -> Any:
    from workers.objectives import OBJECTIVES

    entry: Any = OBJECTIVES.get(name)
    return entry(entry.Config(**config))
