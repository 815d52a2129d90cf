"""Checks of made-up worlds again, on seeds that nobody looked at while their settings were chosen.

    python -m bench.fresh_seeds [CHECK ...] [--seeds 11 12 13]

Settings are those of the tests, frozen; seeds 11, 12 and 13 were named before the first run. One JSON line a check and
seed, with what was measured and whether the check's limits hold, and one with the count a check. docs/methods/ quotes
the lines. Without a name every check runs, in the order of what they cost.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.workers import latent_world, mixture_world, policy_world, progression_world, robust_world, shifted_world
from workers.stats.auroc import auroc
from workers.stats.bootstrap import bootstrap_interval

SEEDS = (11, 12, 13)
Told = tuple[dict[str, Any], bool]
"""What was measured, and whether it is within the limits of the check."""


def pushed(folder: Path, seed: int) -> Told:
    """Card 17, check 5: ten worlds a seed."""
    gains, is_lowest = robust_world.pushed_hard(range(100 * seed, 100 * seed + 10))
    at = bootstrap_interval(gains, lambda v: float(v.mean()), rng=np.random.default_rng(0))
    told = {"gain": float(gains.mean()), "low": at.low, "high": at.high, "proxy is lowest at 0": is_lowest}
    return told, bool(gains.mean() >= 0.1 and at.low > 0 and is_lowest)


def best_of(folder: Path, seed: int) -> Told:
    """Card 17, check 6: ten worlds a seed."""
    curves = robust_world.best_of_n_curves(range(100 * seed, 100 * seed + 10))
    peak = {w: 2 ** int(np.argmax(curve)) for w, curve in curves.items()}
    told = {"peak, nominal": peak[1.0], "peak, 0.4": peak[0.4], "gold at 256": [float(c[-1]) for c in curves.values()]}
    return told, peak[1.0] <= peak[0.4]


def spread(folder: Path, seed: int) -> Told:
    """Card 17, checks 3 and 4."""
    world = robust_world.stage_two(folder, seed=seed)
    told: dict[str, Any] = {}
    holds = True
    for name, (near, far) in zip(("mu", "sigma"), robust_world.of_regions(world), strict=True):
        told[f"{name}, B over A"] = float(far.mean() / near.mean())
        told[f"{name}, AUROC"] = auroc(np.concatenate([near, far]), np.repeat([False, True], len(near)))
        holds &= told[f"{name}, B over A"] >= 1.5 and told[f"{name}, AUROC"] >= 0.75
    told["nominal"], told["stage 1"] = robust_world.nominal_accuracy(world)
    return told, bool(holds and abs(told["nominal"] - told["stage 1"]) <= 0.02)


def meta(folder: Path, seed: int) -> Told:
    """Card 43, check 6, by the published rule alone."""
    return _meta(folder, seed, spread_weight=0.0)


def meta_spread(folder: Path, seed: int) -> Told:
    """Card 43, check 6, with J in the loss as well."""
    return _meta(folder, seed, spread_weight=1.0)


def _meta(folder: Path, seed: int, *, spread_weight: float) -> Told:
    plain_j, plain = shifted_world.meta_training(folder / "plain", 0.0, epochs=12, seed=seed)
    j, found = shifted_world.meta_training(folder / "meta", 0.3, spread_weight=spread_weight, epochs=12, seed=seed)
    told = {"J, relative": j / plain_j - 1, "accuracy": found, "plain accuracy": plain}
    return told, j >= 1.05 * plain_j and found >= plain - 0.01


def entropy(folder: Path, seed: int) -> Told:
    """Card 45, check 4."""
    world = mixture_world.make_world(8000, degrees=110, steepness=0, seed=seed)
    kept, fallen = (
        mixture_world.best_heads(
            world,
            mixture_world.train_mixture(
                folder / str(alpha), world, mixture_world.TRAIN, n_steps=2000, alpha=alpha, seed=seed
            ),
        )[0]
        for alpha in (0.5, 0.0)
    )
    told = {"alpha 0.5": kept.tolist(), "alpha 0": fallen.tolist()}
    return told, bool(kept.min() >= 0.9 and (kept - fallen).max() >= 0.1)


def scales(folder: Path, seed: int) -> Told:
    """Card 48, check 5."""
    best, raw, comparable = latent_world.bandit(folder, seed)
    told = {"best arm": best, "regret, raw": raw, "regret, comparable": comparable}
    return told, best >= 0.9 and comparable < raw


def progression(folder: Path, seed: int) -> Told:
    """Card 5, checks 3 and 4: the values that the term gives, and voting among samples pruned by them."""
    pairs, _ = progression_world.make_progressions(4000, seed=100 * seed)
    test = progression_world.make_progressions(200, seed=100 * seed + 1)
    backbone = progression_world.make_backbone(folder / "lm", pairs, seed=seed)
    values, plain_values = (
        progression_world.train_values(folder / str(beta), backbone, pairs, beta=beta, seed=seed) for beta in (2.0, 0.0)
    )
    term, plain = (progression_world.measured(one, test) for one in (values, plain_values))
    voted = progression_world.vote(values, backbone, seed=100 * seed + 2)
    whole = min(term["whole"], plain["whole"]) >= 0.9 and term["whole"] >= plain["whole"] - 0.02
    holds = {
        "3": whole and term["tokens"] >= 0.8 > plain["tokens"],
        "4": 0.4 <= voted["all_correct"] <= 0.7
        and voted["tokens_saved"] >= 0.2
        and voted["accuracy"] >= voted["plain_accuracy"] - 0.01,
    }
    return {"term": term, "plain": plain, "voting": voted, "holds": holds}, all(holds.values())


def distance(folder: Path, seed: int) -> Told:
    """Card 24, checks 1, 3 and 4: a pool of policies of its own a seed."""
    model, backbone, policies = policy_world.first_stage(folder, seed=100 * seed)
    seen, unseen = (
        model.accuracy(policy_world.texts_after_prefixes(own, 600, seed=100 * seed + 7))
        for own in (policies[: -policy_world.HELD_OUT], policies[-policy_world.HELD_OUT :])
    )
    correlations, curves = policy_world.distance_curves(model, policies[-policy_world.HELD_OUT :])
    two = policy_world.second_stage(folder, model, backbone, policies, seed=100 * seed)
    holds = {
        "1": seen >= 0.85 and unseen >= 0.75,
        "3, each pair": bool(max(correlations) <= -0.9),
        "3, mean curve": bool((np.diff(np.mean(curves, axis=0)) < 0).all()),
        "4": two["both stages"] >= 0.8 and two["both stages"] >= two["second alone"] + 0.05,
    }
    told = {"seen": seen, "held out": unseen, "correlations": correlations, **two, "holds": holds}
    return told, all(holds.values())


CHECKS: dict[str, Callable[[Path, int], Told]] = {
    "17.5": pushed,
    "17.6": best_of,
    "17.3": spread,
    "43.6": meta,
    "43.6 spread": meta_spread,
    "45.4": entropy,
    "48.5": scales,
    "05.3": progression,
    "24": distance,
}


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return round(value, 3) if isinstance(value, float) else value


def run(names: Sequence[str], seeds: Sequence[int]) -> None:
    for name in names:
        n_held = 0
        for seed in seeds:
            started = time.process_time()
            with tempfile.TemporaryDirectory(prefix="steelyard-fresh-") as folder:
                told, holds = CHECKS[name](Path(folder), seed)
            n_held += holds
            spent = round(time.process_time() - started, 1)
            row = {"check": name, "seed": seed, "holds": holds, **told, "cpu_s": spent}
            print(json.dumps(rounded(row)), flush=True)
        print(json.dumps({"check": name, "held": n_held, "of": len(seeds)}), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("check", nargs="*", help=", ".join(CHECKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    chosen = parser.parse_args()
    if unknown := set(chosen.check) - set(CHECKS):
        parser.error(f"there is no check {', '.join(unknown)}; known: {', '.join(CHECKS)}")
    run(chosen.check or list(CHECKS), chosen.seeds)
