"""A reward model of HH and one of UltraFeedback as an ensemble, tested on unseen prompts of both.

python -m bench.real.ensemble [pairs of each source]
"""

import json
import sys
import time
from typing import Any

from bench.real.two_sources import MODEL, QUICK, SOURCES, context, job, sample, split
from workers.context import CheckpointRef
from workers.environment import peak_rss_mib

N = 400


def run(n: int = N) -> dict[str, Any]:
    """Members are trained on one source each; the scale of each is measured on the training responses of both."""
    started = time.monotonic()
    train, test = split(sample(n))
    checkpoints: dict[str, CheckpointRef] = {}
    sources = {name: [pair for pair in train if pair.source == name] for name in SOURCES}
    uids = []
    for name in SOURCES:
        ctx = context(sources, "scalar_head", MODEL, checkpoints)
        uids.append(job("train_rm", ctx, reward_model="model", source={"dataset": name}, **QUICK)["checkpoint"])
    told: dict[str, Any] = {}
    for combine in ("standardised_mean", "mean", "vote"):
        config = {"members": uids, "combine": combine}
        ctx = context({"train": train[::2], "test": test}, "ensemble", config, checkpoints)
        uid = job("train_rm", ctx, reward_model="model", source={"dataset": "train"})["checkpoint"]
        told[combine] = job("evaluate", ctx, checkpoint=uid, source={"dataset": "test"})["accuracy"]
    for name, uid in zip(SOURCES, uids, strict=True):
        ctx = context({"test": test}, "scalar_head", MODEL, checkpoints)
        told[f"member trained on {name}"] = job("evaluate", ctx, checkpoint=uid, source={"dataset": "test"})["accuracy"]
    best = told["standardised_mean"]
    return {
        "family": "ensemble",
        "data": "HH and UltraFeedback",
        "n_train": len(train),
        "n_test": best["n"],
        "metric": "accuracy of the standardised mean",
        **{key: round(best[key], 4) for key in ("value", "low", "high")},
        "seconds": round(time.monotonic() - started, 1),
        "peak_rss_mib": round(peak_rss_mib()),
        "others": {name: round(found["value"], 4) for name, found in told.items() if found is not best},
    }


if __name__ == "__main__":
    print(json.dumps(run(*map(int, sys.argv[1:2]))))
