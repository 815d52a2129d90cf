"""Agreement on 1M labels: percent, alpha at three levels and 1,000 bootstrap rounds, beside the krippendorff package.

    python bench/bench_agreement.py [--items 100000] [--per-item 10] [--repeats 5]

Target: under 0.5 s. The package has no bootstrap and no long table; it is timed on alpha alone, with and without the
value counts made for it. Prints one JSON line a row.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from workers.stats.agreement import LEVELS, PERCENT, agreement

Column = NDArray[np.int64]


def make_labels(
    n_items: int, per_item: int, n_raters: int, n_values: int, seed: int = 0
) -> tuple[Column, Column, Column]:
    """A long table whose raters confuse neighbouring values, each with a skill of their own."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(n_values, size=n_items, p=rng.dirichlet(np.full(n_values, 4.0)))
    grid = np.arange(n_values)
    skill = rng.uniform(0.4, 1.6, size=n_raters)
    confusion = np.exp(-np.abs(grid[:, None] - grid)[None] * skill[:, None, None] * 1.2)
    confusion /= confusion.sum(axis=2, keepdims=True)
    start = rng.integers(n_raters, size=n_items)
    rater = ((start[:, None] + rng.permutation(n_raters)[:per_item]) % n_raters).reshape(-1)
    item = np.repeat(np.arange(n_items), per_item)
    cumulative = confusion[rater, truth[item]].cumsum(axis=1)
    value = (rng.random(len(item))[:, None] > cumulative).sum(axis=1).clip(max=n_values - 1)
    return item, rater, value


def timed(name: str, call: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    durations, result = [], None
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        durations.append(time.perf_counter() - start)
    median = statistics.median(durations)
    print(
        json.dumps({"name": name, "median_s": round(median, 4), "best_s": round(min(durations), 4), "repeats": repeats})
    )
    return median, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--per-item", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    item, rater, value = make_labels(options.items, options.per_item, 500, 5)
    print(json.dumps({"n_labels": len(item), "n_items": options.items, "n_raters": 500, "n_values": 5}))

    def ours(n_rounds: int) -> dict[str, Any]:
        measures = (PERCENT, *LEVELS) if n_rounds else LEVELS
        return agreement(item, rater, value, measures=measures, n_rounds=n_rounds, rng=np.random.default_rng(0))

    full_s, found = timed(
        "own: percent + alpha x3 + 1000 bootstrap rounds, from the long table", lambda: ours(1000), options.repeats
    )
    alpha_s, _ = timed("own: alpha x3, from the long table", lambda: ours(0), options.repeats)
    try:
        import krippendorff
    except ImportError:
        print(json.dumps({"note": "krippendorff is not installed; nothing to compare with"}))
        return

    def theirs() -> dict[str, float]:
        counts = np.bincount(item * 5 + value, minlength=options.items * 5).reshape(-1, 5)
        domain = np.arange(5, dtype=float)
        return {
            level: float(krippendorff.alpha(value_counts=counts, value_domain=domain, level_of_measurement=level))
            for level in LEVELS
        }

    theirs_s, reference = timed("krippendorff: alpha x3, value counts made for it", theirs, options.repeats)
    matrix = np.full((500, options.items), np.nan)
    matrix[rater, item] = value
    matrix_s, _ = timed(
        "krippendorff: alpha x1, raters x items matrix",
        lambda: krippendorff.alpha(reliability_data=matrix, level_of_measurement="interval"),
        1,
    )
    gap = max(abs(found[level].value - reference[level]) for level in LEVELS)
    print(
        json.dumps(
            {
                "target_s": 0.5,
                "full_s": round(full_s, 4),
                "is_met": full_s < 0.5,
                "ratio_alpha_vs_counts": round(theirs_s / alpha_s, 1),
                "ratio_alpha_vs_matrix": round(3 * matrix_s / alpha_s, 1),
                "largest_difference": float(f"{gap:.1e}"),
            }
        )
    )


if __name__ == "__main__":
    main()
