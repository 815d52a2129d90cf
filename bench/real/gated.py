"""A gate over ratings on MiniLM: ratings from UltraFeedback and MT-Bench, the gate from UltraFeedback pairs.

    python -m bench.real.gated [--pairs 500]

Both stages hold out the same prompts.
"""

import argparse
import json
from typing import Any

from bench.real import ratings

SPEC: dict[str, Any] = {
    "head_learning_rate": 1e-3,
    "weight_decay": 0.0,
    "epochs": 30,
    "batch_pairs": 64,
    "eval_every": 10,
    "checkpoint_every": 1000,
    "objective_config": {"centre_coefficient": 0.0},
}


def run(n: int = 500) -> dict[str, Any]:
    found = ratings.pairs(n)
    config = {"attributes": ratings.ATTRIBUTES}
    first, ctx = ratings.train(
        "embedding_linear",
        {**config, "weights": {ratings.OVERALL: 1.0}},
        on_ratings=ratings.rated(n),
        objective="attribute_regression",
    )
    result, _ = ratings.train(
        "gated", config, on_pairs=found, checkpoints=ctx.checkpoints, start_from=first["checkpoint"], **SPEC
    )
    penalties = {name: told["penalty"] for name, told in result["head"]["attributes"].items()}
    print(json.dumps({"stage_1": ratings.fit_of(first), "head": result["head"]}), flush=True)
    accuracy = result["validation_best"]["accuracy"]
    told = {"penalties": penalties, "kept_step": result["kept_step"], "first_stage_s": first["seconds"]}
    return ratings.line("gated", "UltraFeedback pairs over ratings", result, accuracy, **told)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=500)
    print(json.dumps(run(parser.parse_args().pairs)))
