"""A run of kind train_study as a page and the API tell it: arms in their order, marginals of a grid, a curve."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rmeval.models import Checkpoint, Run
from workers.stats.student import mean_interval

KIND = "train_study"
QUESTIONS = {
    "compare": "Which way of training is better?",
    "grid": "Which settings are best?",
    "learning_curve": "What would more data bring?",
}


@dataclass(frozen=True)
class ArmOutcome:
    """One way of training: mean of its runs with Student's interval, and its difference from the first arm."""

    name: str
    changes: list[tuple[str, Any]]
    mean: dict[str, Any]
    difference: dict[str, Any] | None
    values: list[float]
    n_train: float
    is_baseline: bool
    is_best: bool


@dataclass(frozen=True)
class Marginal:
    """All runs with one value of one setting, whatever the others were."""

    setting: str
    value: Any
    mean: dict[str, Any]


@dataclass(frozen=True)
class StudyOutcome:
    """What a finished study found; `metric` is accuracy, a rate, or negative loss."""

    question: str
    answer: str
    metric: str
    arms: list[ArmOutcome]
    runs: list[dict[str, Any]]
    marginals: list[Marginal] = field(default_factory=list)
    by_source: dict[str, Any] = field(default_factory=dict)

    @property
    def is_rate(self) -> bool:
        return self.metric == "accuracy"

    @property
    def shows_a_difference(self) -> bool:
        """Is any way better or worse than the first, by more than seeds explain?"""
        return any((arm.difference or {}).get("answer") in {"better", "worse"} for arm in self.arms)

    @property
    def n_seeds(self) -> int:
        return len({row["seed"] for row in self.runs})


def study_outcome(run: Run) -> StudyOutcome | None:
    """None until the study has ended well."""
    found = run.result
    if run.kind != KIND or not found or not found.get("runs"):
        return None
    rows = found["runs"]
    arms = [arm_outcome(arm, found, first=found["arms"][0]["name"]) for arm in found["arms"]]
    return StudyOutcome(
        question=found["question"],
        answer=found["answer"],
        metric=rows[0]["metric"],
        arms=[arm for arm in arms if arm.values],
        runs=with_checkpoints(run, rows),
        marginals=marginals_of(found) if found["question"] == "grid" else [],
        by_source=found.get("by_source") or {},
    )


def arm_outcome(arm: dict[str, Any], found: dict[str, Any], *, first: str) -> ArmOutcome:
    rows = [row for row in found["runs"] if row["arm"] == arm["name"]]
    return ArmOutcome(
        name=arm["name"],
        changes=changes_of(arm),
        mean=found["means"].get(arm["name"], {}),
        difference=found["differences"].get(arm["name"]),
        values=[row["value"] for row in rows],
        n_train=sum(row["n_train"] for row in rows) / len(rows) if rows else 0.0,
        is_baseline=arm["name"] == first,
        is_best=found["means"].get(arm["name"], {}).get("value") == found["means"][found["best"]]["value"],
    )


def changes_of(arm: dict[str, Any]) -> list[tuple[str, Any]]:
    """What an arm changes, settings of the reward model as config.NAME."""
    return [*arm["settings"].items(), *((f"config.{name}", value) for name, value in arm["config"].items())]


def marginals_of(found: dict[str, Any]) -> list[Marginal]:
    """For every setting that varies, the mean over all runs with each of its values, in the order of the grid."""
    changed = {arm["name"]: dict(changes_of(arm)) for arm in found["arms"]}
    settings = list(dict.fromkeys(name for changes in changed.values() for name in changes))
    made = []
    for setting in sorted(settings):
        values: list[Any] = []
        for changes in changed.values():
            if changes.get(setting) not in values:
                values.append(changes.get(setting))
        for value in values if len(values) > 1 else []:
            rows = [row["value"] for row in found["runs"] if changed.get(row["arm"], {}).get(setting) == value]
            if rows:
                made.append(Marginal(setting, value, mean_interval(rows).as_json()))
    return made


def with_checkpoints(run: Run, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows whose kept checkpoint still is there carry it as `kept`."""
    uids = [row["checkpoint"] for row in rows if row.get("checkpoint")]
    known = Checkpoint.objects.filter(reward_model__project=run.project_id, uid__in=uids)
    kept = {str(c.uid): c for c in known.select_related("reward_model")} if uids else {}
    return [{**row, "kept": kept.get(row.get("checkpoint") or "")} for row in rows]
