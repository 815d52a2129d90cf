"""Reads behind the pages of runs."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import QuerySet

from annotator.models import Project
from rmeval.models import Evaluation, Run, RunEvent
from rmeval.selectors.training_data import on_training_data, with_training

MAX_POINTS = 600


@dataclass(frozen=True)
class Curve:
    """One metric over the steps of a run."""

    name: str
    steps: list[int]
    values: list[float]
    times: list[datetime]

    @property
    def last(self) -> float | None:
        return self.values[-1] if self.values else None


def run_list(*, project: Project, state: str = "", kind: str = "", reward_model: str = "") -> "QuerySet[Run]":
    """Runs of a project, newest first."""
    rows = Run.objects.filter(project=project).select_related("reward_model", "created_by").order_by("-pk")
    wanted = {"state": state, "kind": kind, "reward_model__uid": reward_model}
    return rows.filter(**{name: value for name, value in wanted.items() if value})


def run_curves(*, run: Run) -> dict[str, Curve]:
    """Metric points by name. A step reported again by a later attempt replaces the earlier report."""
    points = (
        RunEvent.objects.filter(run=run, kind=RunEvent.Kind.METRIC)
        .order_by("pk")
        .values_list("step", "data", "created_at")
    )
    latest: dict[str, dict[int, tuple[float, datetime]]] = {}
    for step, data, at in points.iterator(chunk_size=5000):
        if step is None:
            continue
        for name, value in data.items():
            latest.setdefault(name, {})[step] = (value, at)
    return {name: curve_of(name, found) for name, found in latest.items()}


def curve_of(name: str, points: dict[int, tuple[float, datetime]]) -> Curve:
    """At most MAX_POINTS points, the first and the last among them."""
    steps = sorted(points)
    if len(steps) > MAX_POINTS:
        every = (len(steps) - 1) / (MAX_POINTS - 1)
        steps = sorted({steps[round(i * every)] for i in range(MAX_POINTS)})
    return Curve(name, steps, [points[s][0] for s in steps], [points[s][1] for s in steps])


def run_log(*, run: Run, limit: int = 200) -> list[RunEvent]:
    """The last lines of a run's log, oldest first."""
    lines = RunEvent.objects.filter(run=run, kind__in=[RunEvent.Kind.LOG, RunEvent.Kind.STATE]).order_by("-pk")
    return list(lines[:limit])[::-1]


def run_eta_s(*, run: Run, now: datetime) -> float | None:
    """Seconds to the end: as the job said last, else from the speed so far; None where there is nothing to go by."""
    said = RunEvent.objects.filter(run=run, kind=RunEvent.Kind.METRIC, attempt=run.attempt).order_by("-pk").first()
    if run.state == Run.State.RUNNING and said is not None and "eta_s" in said.data:
        return max(0.0, float(said.data["eta_s"]) - (now - said.created_at).total_seconds())
    started = (
        RunEvent.objects.filter(run=run, kind=RunEvent.Kind.STATE, attempt=run.attempt).order_by("pk").first()
        if run.state == Run.State.RUNNING
        else None
    )
    if started is None or not 0.02 <= run.fraction_done < 1:
        return None
    done_before = float(started.data.get("fraction_done", 0.0))
    done_now = run.fraction_done - done_before
    elapsed_s = (now - started.created_at).total_seconds()
    return elapsed_s * (1 - run.fraction_done) / done_now if done_now > 0.01 else None


def run_relatives(*, run: Run) -> dict[str, Any]:
    """What came of a run, and where it came from."""
    evaluations = list(with_training(Evaluation.objects.filter(run=run)))
    return {
        "checkpoints": list(run.checkpoints.select_related("reward_model").order_by("number")),
        "artifacts": list(run.artifacts.exclude(kind="checkpoint").order_by("pk")),
        "children": list(Run.objects.filter(parent=run).order_by("pk")),
        "evaluations": evaluations,
        "learnt": on_training_data(evaluations),
    }
