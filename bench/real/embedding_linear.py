"""The linear baseline on frozen MiniLM features: from UltraFeedback pairs, and from ratings.

python -m bench.real.embedding_linear [--pairs 748]
"""

import argparse
import json
from typing import Any

from bench.real import ratings
from workers.data.split import split_by_prompt


def run(n: int = 500) -> dict[str, Any]:
    found = ratings.pairs(n)
    result, _ = ratings.train("embedding_linear", {}, on_pairs=found)
    by_pairs = result["validation_final"]["accuracy"]
    told = {"l2": result["head"]["l2"], "n_iter": result["head"]["n_iter"], "converged": result["head"]["converged"]}
    print(json.dumps(ratings.line("embedding_linear", "UltraFeedback pairs", result, by_pairs, **told)), flush=True)

    config = {"attributes": ratings.ATTRIBUTES, "weights": {ratings.OVERALL: 1.0}}
    rated, ctx = ratings.train(
        "embedding_linear", config, on_ratings=ratings.rated(n), objective="attribute_regression"
    )
    _, rows = split_by_prompt([p.prompt_key for p in found], validation_share=ratings.SHARE, seed=ratings.SEED)
    by_ratings = ratings.held_out_accuracy(ctx, rated["checkpoint"], [found[i] for i in rows])
    data = "UltraFeedback scores and MT-Bench grades"
    print(json.dumps(ratings.line("embedding_linear", data, rated, by_ratings, **ratings.fit_of(rated))), flush=True)
    return ratings.line("embedding_linear", "UltraFeedback pairs", result, by_pairs, from_ratings=by_ratings["value"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=500)
    print(json.dumps(run(parser.parse_args().pairs)))
