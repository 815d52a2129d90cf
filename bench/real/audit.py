"""How many planted flips an audit of labels finds on real pairs.

    python -m bench.real.audit [--pairs 3000] [--share 0.2] [--folds 5]

HH pairs with 20 % of the labels turned at random, on top of the noise that they have. Prints one JSON line: the share
of planted flips among the lowest tenth and the lowest fifth by strength, and how many of all planted flips these hold.
"""

import argparse
import json
import time
from dataclasses import replace
from typing import Any

import numpy as np

from bench.real_data import context, load
from bench.real_data import run as run_job
from workers.environment import peak_rss_mib
from workers.stats.intervals import wilson_interval

OTHER = {"a": "b", "b": "a"}


def run(n: int = 3000, *, share: float = 0.2, folds: int = 5, members: int = 5) -> dict[str, Any]:
    started = time.monotonic()
    rng = np.random.default_rng(0)
    known = [pair for pair in load("hh") if pair.verdict in OTHER]
    pairs = [known[i] for i in rng.permutation(len(known))[:n]]
    flipped = set(rng.permutation(len(pairs))[: round(share * len(pairs))].tolist())
    planted = [
        replace(pair, verdict=OTHER[pair.verdict]) if i in flipped else pair  # type: ignore[arg-type]
        for i, pair in enumerate(pairs)
    ]
    ctx = context({"hh": planted}, "scalar_head", {"backbone": "minilm", "max_length": 128})
    result = run_job(
        "audit_labels",
        ctx,
        source={"dataset": "hh"},
        reward_model="model",
        head_depth=2,
        members=members,
        folds=folds,
        token_budget=8192,
    )
    strengths = table(ctx.work_dir / "strengths.csv")
    is_planted = {planted[i].pair_id for i in flipped}
    order = sorted(strengths, key=lambda pair: strengths[pair])
    told: dict[str, Any] = {"noise_rate": result["noise_rate"]["value"], "u_shape": result["u_shape"]}
    for name, part in (("lowest tenth", 0.1), ("lowest fifth", 0.2)):
        chosen = order[: round(part * len(order))]
        found = sum(pair in is_planted for pair in chosen)
        told[name] = {"share": round(found / len(chosen), 4), "of_all_flips": round(found / len(is_planted), 4)}
    lowest = order[: round(0.1 * len(order))]
    hits = sum(pair in is_planted for pair in lowest)
    interval = wilson_interval(hits, len(lowest))
    return {
        "family": "audit_labels",
        "data": f"HH, {share:.0%} planted flips, {members} members, {folds} folds",
        "n_train": result["n_audited"],
        "n_test": len(lowest),
        "metric": "planted flips among the lowest tenth",
        "value": round(hits / len(lowest), 4),
        "low": round(interval.low, 4),
        "high": round(interval.high, 4),
        **told,
        "seconds": round(time.monotonic() - started, 1),
        "peak_rss_mib": round(peak_rss_mib()),
    }


def table(path: Any) -> dict[str, float]:
    import csv

    with path.open(encoding="utf-8", newline="") as opened:
        return {row["pair_id"]: float(row["mu"]) for row in csv.DictReader(opened)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=3000)
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--folds", type=int, default=5)
    chosen = parser.parse_args()
    print(json.dumps(run(chosen.pairs, share=chosen.share, folds=chosen.folds)))
