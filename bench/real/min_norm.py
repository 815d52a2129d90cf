"""Two sources on MiniLM features: mixed, weighed equally, and weighed by agreement, over five seeds.

Two gradients of one length always share the weight evenly, so the third arm leaves them as long as they are.

python -m bench.real.min_norm [pairs of each source]
"""

import json
import shutil
import sys
import time
from typing import Any

from bench.real.two_sources import MODEL, QUICK, context, job, sample
from workers.environment import peak_rss_mib

N, N_SEEDS = 300, 5
ARMS = [
    {"name": "mixed", "settings": {"objective": "bradley_terry", "objective_config": {"centre_coefficient": 0.0}}},
    {"name": "equal", "settings": {"objective": "min_norm_bt", "objective_config": {"weighting": "equal"}}},
    {"name": "min-norm", "settings": {"objective": "min_norm_bt", "objective_config": {"normalise": "none"}}},
]


def run(n: int = N) -> dict[str, Any]:
    """The job train_study on a frozen backbone, whose features are read once and given to every training."""
    started, pairs = time.monotonic(), sample(n)
    settings = {**QUICK, "validation_share": 0.35}
    spec: dict[str, Any] = {"reward_model": "model", "source": {"dataset": "pairs"}}
    first = context({"pairs": pairs}, "scalar_head", MODEL, {})
    job("train_rm", first, **spec, **settings, max_steps=1)
    ctx = context({"pairs": pairs}, "scalar_head", MODEL, {})
    for number in range(len(ARMS) * N_SEEDS):
        shutil.copytree(first.work_dir / "features", ctx.work_dir / f"arm-{number:04d}" / "features")
    found = job("train_study", ctx, **spec, arms=ARMS, settings=settings, n_seeds=N_SEEDS)
    mean = found["means"]["min-norm"]
    return {
        "family": "min_norm",
        "data": "HH and UltraFeedback",
        "n_train": found["runs"][0]["n_train"],
        "n_test": found["runs"][0]["n_validation"],
        "metric": f"accuracy, mean of {N_SEEDS} seeds",
        "value": round(mean["value"], 4),
        "low": round(mean["low"], 4),
        "high": round(mean["high"], 4),
        "seconds": round(time.monotonic() - started, 1),
        "peak_rss_mib": round(peak_rss_mib()),
        "answer": found["answer"],
        "by_source": {
            source: {
                figure: {name: _short(told) for name, told in compared["differences"].items()}
                for figure, compared in figures.items()
            }
            for source, figures in found["by_source"].items()
        },
    }


def _short(told: dict[str, Any]) -> str:
    return f"{told['value']:+.4f} [{told['low']:+.4f}, {told['high']:+.4f}] {told['answer']}"


if __name__ == "__main__":
    print(json.dumps(run(*map(int, sys.argv[1:2]))))
