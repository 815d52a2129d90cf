"""Five Gaussian heads on MiniLM features of HH and UltraFeedback, started from a scalar head.

python -m bench.real.bayesian_ensemble [pairs of each source]
"""

import json
import sys
import time
from typing import Any

from bench.real.two_sources import MODEL, QUICK, context, job, sample
from workers.environment import peak_rss_mib

N = 400


def run(n: int = N) -> dict[str, Any]:
    """Both stages; accuracy on prompts held out from both, with Wilson intervals."""
    started, pairs = time.monotonic(), sample(n)
    spec = {"reward_model": "model", "source": {"dataset": "pairs"}, "validation_share": 0.35, **QUICK}
    first = context({"pairs": pairs}, "scalar_head", MODEL, {})
    stage1 = job("train_rm", first, **spec)
    second = context({"pairs": pairs}, "bayesian_ensemble", MODEL, first.checkpoints)
    result = job("train_rm", second, **spec, start_from=stage1["checkpoint"])
    told = result["finished"]
    mixed = told["held_out"]["mixed"]
    return {
        "family": "bayesian_ensemble",
        "data": "HH and UltraFeedback",
        "n_train": result["n_train"],
        "n_test": result["n_validation"],
        "metric": "accuracy of the mix",
        **{key: round(mixed[key], 4) for key in ("value", "low", "high")},
        "seconds": round(time.monotonic() - started, 1),
        "peak_rss_mib": round(peak_rss_mib()),
        **{name: round(told["held_out"][name]["value"], 4) for name in ("nominal", "minimum", "stage1")},
        "mean_correlation": round(told["mean_correlation"], 4),
        "mean_sigma": round(told["mean_sigma"], 4),
        "warnings": told["warnings"],
    }


if __name__ == "__main__":
    print(json.dumps(run(*map(int, sys.argv[1:2]))))
