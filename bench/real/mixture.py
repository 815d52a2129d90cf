"""The family mixture on the Tulu human evaluation: do sixteen evaluators show several tastes?

python -m bench.real.mixture
"""

import json
import time
from typing import Any

from bench.real.tulu import tulu_pairs
from bench.real_data import context
from bench.real_data import run as run_job
from workers.environment import peak_rss_mib


def run() -> dict[str, Any]:
    started = time.monotonic()
    ctx = context({"tulu": tulu_pairs()}, "mixture", {"backbone": "minilm", "max_length": 128, "n_heads": 3})
    trained = run_job(
        "train_rm",
        ctx,
        reward_model="model",
        source={"dataset": "tulu"},
        rater_key="evaluator",
        validation_share=0.3,
        epochs=20,
        batch_pairs=32,
        learning_rate=2e-4,
        weight_decay=0.1,
        token_budget=4096,
    )
    accuracy, finished = trained["validation_best"]["accuracy"], trained["finished"]
    return {
        "family": "mixture",
        "data": "Tulu human evaluation, prompts held out",
        "n_train": trained["n_train"],
        "n_test": accuracy["n"],
        "metric": "accuracy",
        "value": round(accuracy["value"], 4),
        "low": round(accuracy["low"], 4),
        "high": round(accuracy["high"], 4),
        "gain_over_coin": finished["gain_over_coin"],
        "gain_over_one_reward": finished["gain_over_one_reward"],
        "tastes": finished["tastes"],
        "warnings": finished["warnings"],
        "seconds": round(time.monotonic() - started, 1),
        "peak_rss_mib": round(peak_rss_mib()),
    }


if __name__ == "__main__":
    print(json.dumps(run()))
