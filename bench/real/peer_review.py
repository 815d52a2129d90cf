"""Peer review against its controls, where the truth is known: pairs of a teacher on 30 features, four seeds.

    python -m bench.real.peer_review [--seeds 4]

Prints one JSON line a setting: mean clean accuracy of member a, of the standardised mean, share of right labels among
the pairs kept, and accuracy on the hardest tenth of the clean test pairs.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.workers.noisy_world import WIDTH, NoisyWorld, make_world, rewards, train
from workers.environment import peak_rss_mib
from workers.nn.twin import TwinHead
from workers.objectives import OBJECTIVES

SETTINGS: dict[str, dict[str, Any]] = {
    "two plain models": {"noise_rate": 0.0},
    "peer review": {},
    "no exchange": {"exchange": False},
    "no curriculum": {"curriculum": False},
    "noise rate 0.1 too low": {"shift": -0.1},
    "noise rate 0.1 too high": {"shift": 0.1},
}


def twins() -> TwinHead:
    return TwinHead(WIDTH, depth=2, activation="relu", hidden=128)


def one(world: NoisyWorld, noise: float, setting: dict[str, Any], seed: int) -> dict[str, float]:
    entry: Any = OBJECTIVES.get("peer_review")
    given = dict(setting)
    rate = given.pop("noise_rate", min(noise + given.pop("shift", 0.0), 0.49))
    objective = entry(entry.Config(noise_rate=rate, centre_coefficient=0.0, **given))
    folder = Path(tempfile.mkdtemp(prefix="steelyard-peers-"))
    net = train(folder, twins, objective, world, seed=seed, rate=0.003, weight_decay=0.0, batch=64, max_grad_norm=1e9)
    found = rewards(net, np.concatenate([world.test_a, world.test_b]))
    n = len(world.test_a)
    margins = found[:n] - found[n:]
    standard = (found / found.std(axis=0)).mean(axis=1)
    x = [part.response for part in world.data.features or ()]
    targets: Any = world.data.targets
    own = np.sign(targets.target - 0.5)[:, None] * (rewards(net, x[0]) - rewards(net, x[1]))
    n_kept = round((1 - noise) * len(own))
    kept = [1 - world.is_flipped[np.argsort(-own[:, m])[:n_kept]].mean() for m in range(2)]
    lowest = np.argsort(own.mean(axis=1))[: len(own) // 10]
    hardest = np.argsort(world.test_gap)[: n // 10]
    return {
        "member a": float((margins[:, 0] > 0).mean()),
        "standardised mean": float((standard[:n] > standard[n:]).mean()),
        "clean share kept": float(np.mean(kept)),
        "flips among suspects": float(world.is_flipped[lowest].mean()),
        "hardest tenth": float((margins[hardest, 0] > 0).mean()),
    }


def run(seeds: int = 4, noises: tuple[float, ...] = (0.4, 0.2)) -> dict[str, Any]:
    started, told = time.monotonic(), {}
    for noise in noises:
        for name, setting in SETTINGS.items():
            rows = [one(make_world(s, noise=noise, gap=0.3), noise, setting, s) for s in range(seeds)]
            mean = {key: round(float(np.mean([row[key] for row in rows])), 4) for key in rows[0]}
            told[noise, name] = mean
            print(json.dumps({"noise": noise, "setting": name, "seeds": seeds, **mean}), flush=True)
    return {
        "family": "twin_head",
        "data": f"teacher on {WIDTH} features, {noises[0]:.0%} flips, {seeds} seeds",
        "n_train": 3000,
        "n_test": 2000,
        "metric": "accuracy",
        "value": told[noises[0], "peer review"]["member a"],
        "low": None,
        "high": None,
        "seconds": round(time.monotonic() - started, 1),
        "peak_rss_mib": round(peak_rss_mib()),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--noise", type=float, nargs="+", default=[0.4, 0.2])
    chosen = parser.parse_args()
    print(json.dumps(run(chosen.seeds, tuple(chosen.noise))))
