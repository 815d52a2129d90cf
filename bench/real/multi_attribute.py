"""Multi-attribute regression of MiniLM on UltraFeedback scores and MT-Bench grades.

python -m bench.real.multi_attribute [--pairs 250]
"""

import argparse
import json
from typing import Any

from bench.real import ratings
from workers.data.split import split_by_prompt


def run(n: int = 250) -> dict[str, Any]:
    found = ratings.pairs(n)
    config = {"attributes": ratings.ATTRIBUTES, "weights": {ratings.OVERALL: 1.0}}
    result, ctx = ratings.train(
        "multi_attribute",
        config,
        on_ratings=ratings.rated(n),
        objective_config={"standardise": True},
        epochs=2,
        eval_every=20,
    )
    _, rows = split_by_prompt([p.prompt_key for p in found], validation_share=ratings.SHARE, seed=ratings.SEED)
    accuracy = ratings.held_out_accuracy(ctx, result["checkpoint"], [found[i] for i in rows])
    data = "UltraFeedback scores and MT-Bench grades"
    return ratings.line("multi_attribute", data, result, accuracy, **ratings.fit_of(result))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=250)
    print(json.dumps(run(parser.parse_args().pairs)))
