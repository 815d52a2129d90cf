"""Open a checkpoint for scoring: with how many processes and threads, at which token budget, in which precision."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workers.context import CheckpointRef
from workers.errors import JobError
from workers.families import FAMILIES
from workers.families.base import Scorer
from workers.specs import parse_spec


@dataclass(frozen=True, slots=True)
class Setting:
    """How a scorer uses the machine. None: what torch or the scorer takes by itself."""

    processes: int | None = None
    threads: int | None = None
    """A process."""
    token_budget: int | None = None


def open_here(family_name: str, config: dict[str, Any], path: Path | None, setting: Setting) -> Scorer:
    """A scorer in this process. What cannot be scored in 8 bits is refused, not scored in something else."""
    family: Any = FAMILIES.get(family_name)
    scorer: Any = family.open(parse_spec(family.Config, config), path, threads=setting.threads)
    if setting.token_budget and hasattr(scorer, "token_budget"):
        scorer.token_budget = setting.token_budget
    if is_int8(config):
        from workers.nn.quantised import USE_ANOTHER, is_quantised

        if not (hasattr(scorer, "net") and is_quantised(scorer.net)):
            raise JobError(f"The family {family_name} cannot be scored in int8.", USE_ANOTHER)
    found: Scorer = scorer
    return found


@contextmanager
def open_scorer(reference: CheckpointRef, processes: int, setting: Setting = Setting()) -> Iterator[Scorer]:
    if processes > 1:
        from workers.parallel import parallel_scorer

        with parallel_scorer(reference, processes, threads=setting.threads, token_budget=setting.token_budget) as many:
            yield many
        return
    yield open_here(reference.family, reference.config, reference.path, setting)


def is_int8(config: dict[str, Any]) -> bool:
    return config.get("scoring_dtype") == "int8"


def int8_error(reference: CheckpointRef, scorer: Scorer) -> dict[str, Any]:
    """How far 8 bits move the rewards of the checkpoint's probes, which are stored as float32 gave them."""
    from workers.nn.checkpoints import read_about

    if reference.path is None:
        return {}
    probes = read_about(reference.path).get("probes", [])
    if not probes:
        return {"n_probes": 0}
    exact = np.array([probe["reward"] for probe in probes], dtype=np.float64)
    items = [(probe["prompt"], probe["response"], probe.get("extra", {})) for probe in probes]
    moved = np.abs(scorer.score(items).values - exact)
    return {
        "n_probes": len(probes),
        "largest_error": float(moved.max()),
        "mean_error": float(moved.mean()),
        "spread_of_probes": float(exact.std()),
    }
