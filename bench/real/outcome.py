"""Outcome reward model on PRMBench: original solutions (right) against those with injected errors (wrong).

python -m bench.real.outcome
"""

import json
from typing import Any

from bench.real.labelled import PRMBENCH, examples, line, rows_of, sample, train

N = 400


def run() -> dict[str, Any]:
    """A head on frozen MiniLM, without references; accuracy on prompts not trained on."""
    rows = sample(rows_of([e for e in examples(PRMBENCH) if len(e.responses) == 2]), N)
    result = train(
        "scalar_head", {"max_length": 384, "head_depth": 2}, rows, objective="outcome_bce", freeze_backbone=True,
        epochs=20, learning_rate=1e-3, head_learning_rate=1e-3, dtype="float32",
    )  # fmt: skip
    kept = result["validation_best"]
    rate = kept["accuracy"]
    found = line(
        "scalar_head with outcome_bce", "prmbench", result, "accuracy", (rate["value"], rate["low"], rate["high"])
    )
    return {**found, "auroc": round(kept["auroc"], 4), "share_right": round(kept["share_right"], 4)}


if __name__ == "__main__":
    print(json.dumps(run()))
