"""The family latent_user on the Tulu human evaluation: evaluators never met, from eight of their pairs.

    python -m bench.real.latent_user

Sixteen evaluators are few: four splits of them are run on the same features, and low and high are the least and the
greatest accuracy over these splits, not an interval.
"""

import json
import time
from typing import Any

from bench.real.tulu import tulu_pairs
from bench.real_data import context
from bench.real_data import run as run_job
from workers.environment import peak_rss_mib

SPLITS = 4


def run() -> dict[str, Any]:
    started = time.monotonic()
    config = {"backbone": "minilm", "max_length": 256, "latent": 8, "hidden": 64}
    ctx = context({"tulu": tulu_pairs()}, "latent_user", config)
    found = [_split(ctx, seed) for seed in range(SPLITS)]
    values = [one["accuracy"]["value"] for one in found]
    return {
        "family": "latent_user",
        "data": "Tulu human evaluation, evaluators held out",
        "n_train": [one["n_train"] for one in found],
        "n_test": [one["accuracy"]["n"] for one in found],
        "metric": "accuracy on unseen evaluators from 8 pairs of theirs, mean of 4 splits",
        "value": round(sum(values) / SPLITS, 4),
        "low": round(min(values), 4),
        "high": round(max(values), 4),
        "without_context": round(sum(one["without"] for one in found) / SPLITS, 4),
        "n_active_units": [one["active"] for one in found],
        "warnings": sorted({line for one in found for line in one["warnings"]}),
        "seconds": round(time.monotonic() - started, 1),
        "peak_rss_mib": round(peak_rss_mib()),
    }


def _split(ctx: Any, seed: int) -> dict[str, Any]:
    trained = run_job(
        "train_rm",
        ctx,
        reward_model="model",
        source={"dataset": "tulu"},
        rater_key="evaluator",
        validation_share=0.3,
        epochs=15,
        batch_pairs=32,
        learning_rate=1e-4,
        weight_decay=0.1,
        token_budget=4096,
        seed=seed,
        objective_config={"anneal_steps": 40},
    )
    best, finished = trained["validation_best"], trained["finished"]
    return {
        "accuracy": best["accuracy"],
        "without": best["accuracy_without_context"],
        "n_train": trained["n_train"],
        "active": finished["n_active_units"],
        "warnings": finished["warnings"],
    }


if __name__ == "__main__":
    print(json.dumps(run()))
