"""A run beside the one it repeats: the same data, and the same result?"""

from dataclasses import dataclass
from typing import Any

from rmeval.models import Checkpoint, Run

#: What a result says of its own machine and moment, or names by uid.
MEASURED = frozenset({"seconds", "training_s", "peak_rss_mib", "pairs_per_s", "responses_per_s", "tokens_per_s"})
NAMED = frozenset({"checkpoint", "checkpoints", "artifact", "table", "tables", "reward_model"})
OWN = MEASURED | NAMED | {"environment", "versions", "hardware", "scoring", "setting"}
#: What a name of a result is called now, for runs of before.
RENAMED = {"data_sha256": "encoded_sha256"}


@dataclass(frozen=True)
class Compared:
    """One thing that two runs have in common or not."""

    words: str
    is_same: bool


def compared_with_parent(run: Run) -> list[Compared]:
    """Data, weights and figures of a finished repetition against the run it repeats; empty for any other run."""
    parent = run.parent
    if parent is None or parent.kind != run.kind or not run.result or not parent.result:
        return []
    found = []
    mine, theirs = (one.environment.get("data") or {} for one in (run, parent))
    if mine.get("sha256") and theirs.get("sha256") and mine.get("of", "pairs") == theirs.get("of", "pairs"):
        found.append(compared("data", mine["sha256"] == theirs["sha256"]))
    weights = [weights_of(one) for one in (run, parent)]
    if all(weights):
        found.append(compared("weights", weights[0] == weights[1]))
    found.append(compared("figures", figures_of(run.result) == figures_of(parent.result)))
    return found


def compared(what: str, is_same: bool) -> Compared:
    return Compared(f"{'same' if is_same else 'other'} {what}", is_same)


def weights_of(run: Run) -> list[str]:
    rows = Checkpoint.objects.filter(run=run).exclude(sha256="").order_by("number")
    return list(rows.values_list("sha256", flat=True))


def figures_of(result: Any) -> Any:
    """A result without what is of the machine and the moment, at any depth."""
    if isinstance(result, dict):
        return {RENAMED.get(name, name): figures_of(value) for name, value in result.items() if name not in OWN}
    return [figures_of(value) for value in result] if isinstance(result, list) else result
