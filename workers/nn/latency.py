"""How long one response takes to score, one at a time, on this machine."""

import statistics
import time
from pathlib import Path
from typing import Any

from workers.nn.checkpoints import read_about

REPEATS = 3


def seconds_per_response(folder: Path, family: Any, config: Any) -> float | None:
    """Median seconds to score one of the checkpoint's probes by itself, after a first that is not counted."""
    items = [(p["prompt"], p["response"], p.get("extra", {})) for p in read_about(folder)["probes"]]
    if not items:
        return None
    scorer = family.open(config, folder)
    scorer.score(items[:1])
    found = []
    for item in items * REPEATS:
        started = time.perf_counter()
        scorer.score([item])
        found.append(time.perf_counter() - started)
    return statistics.median(found)
