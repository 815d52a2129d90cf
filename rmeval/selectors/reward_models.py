"""Reads behind the pages of reward models."""

from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Max, OuterRef, Q, QuerySet, Subquery

from annotator.models import Dataset, Project, Snapshot
from rmeval.models import Artifact, Checkpoint, Evaluation, RewardModel, Run
from rmeval.selectors.training_data import on_training_data, with_training
from workers.families import FAMILIES

ELSEWHERE = ("endpoint", "score_file")
"""Families whose rewards are made elsewhere; where one is not installed, it is not offered."""


def is_baseline(family: str) -> bool:
    """A rule to compare with."""
    return family in FAMILIES and not FAMILIES.get(family).trainable and family not in ELSEWHERE


@dataclass(frozen=True)
class LineageRow:
    """One checkpoint with where it came from and what it was evaluated on."""

    checkpoint: Checkpoint
    run: Run | None
    data: dict[str, Any]
    evaluations: list[Evaluation]
    n_bytes: int | None
    learnt: set[int]
    """Keys of the evaluations, of any of the model's checkpoints, on what that checkpoint has learnt from."""


def reward_model_list(*, project: Project) -> "QuerySet[RewardModel]":
    """Newest first, with the number of checkpoints and runs under way."""
    live = Q(runs__state__in=[Run.State.QUEUED, Run.State.RUNNING])
    best = Evaluation.objects.filter(checkpoint__reward_model=OuterRef("pk")).order_by("-updated_at")
    return (
        RewardModel.objects.filter(project=project, deleted_at=None)
        .annotate(
            n_checkpoints=Count("checkpoints", distinct=True),
            n_live_runs=Count("runs", filter=live, distinct=True),
            last_run_at=Max("runs__created_at"),
            last_evaluation=Subquery(best.values("pk")[:1]),
            last_accuracy=Subquery(best.values("accuracy")[:1]),
            last_n_pairs=Subquery(best.values("n_pairs")[:1]),
            last_dataset=Subquery(best.values("dataset__name")[:1]),
        )
        .select_related("created_by")
        .order_by("-pk")
    )


def latest_on_training_data(reward_models: "QuerySet[Any]") -> set[int]:
    """Keys of the latest evaluations, of rows of reward_model_list(), that are on what the model has learnt from."""
    latest = [model.last_evaluation for model in reward_models]
    return on_training_data(with_training(Evaluation.objects.filter(pk__in=[pk for pk in latest if pk])))


def reward_model_lineage(*, reward_model: RewardModel) -> list[LineageRow]:
    """Checkpoints newest first: data -> run -> checkpoint -> evaluations."""
    checkpoints = list(reward_model.checkpoints.select_related("run", "reward_model").order_by("-number"))
    evaluations: dict[int, list[Evaluation]] = {}
    rows = with_training(Evaluation.objects.filter(checkpoint__in=checkpoints)).order_by("-updated_at")
    learnt = on_training_data(rows)
    for evaluation in rows:
        evaluations.setdefault(evaluation.checkpoint_id, []).append(evaluation)
    sizes = dict(
        Artifact.objects.filter(path__in=[c.path for c in checkpoints if c.path]).values_list("path", "n_bytes")
    )
    return [
        LineageRow(
            checkpoint=checkpoint,
            run=checkpoint.run,
            data=(checkpoint.run.environment.get("data") or {}) if checkpoint.run else {},
            evaluations=evaluations.get(checkpoint.pk, []),
            n_bytes=sizes.get(checkpoint.path),
            learnt=learnt,
        )
        for checkpoint in checkpoints
    ]


def reward_model_runs(*, reward_model: RewardModel, limit: int = 20) -> list[Run]:
    return list(
        Run.objects.filter(reward_model=reward_model)
        .select_related("created_by", "reward_model")
        .order_by("-pk")[:limit]
    )


def reward_model_evaluations(*, reward_model: RewardModel, limit: int = 100) -> list[Evaluation]:
    """Newest first, with what their figures need."""
    rows = Evaluation.objects.filter(checkpoint__reward_model=reward_model).select_related(
        "checkpoint__reward_model", "dataset__project", "snapshot__queue__project", "snapshot__queue__dataset", "run"
    )
    return list(rows.order_by("-updated_at")[:limit])


def source_choices(*, project: Project, limit: int = 500) -> list[tuple[str, str]]:
    """(value, label) of everything pairs can come from: "dataset:<uid>" or "snapshot:<uid>"."""
    datasets = Dataset.objects.filter(project=project, deleted_at=None, state="ready", n_preferences__gt=0)
    snapshots = Snapshot.objects.filter(
        queue__project=project, queue__deleted_at=None, state="ready", n_rows__gt=0
    ).select_related("queue")
    return [
        *((f"dataset:{d.uid}", f"{d.name} ({d.n_preferences} pairs)") for d in datasets.order_by("-pk")[:limit]),
        *(
            (f"snapshot:{s.uid}", f"{s.queue.name}, snapshot {s.number} ({s.n_rows} rows)")
            for s in snapshots.order_by("-pk")[:limit]
        ),
    ]


def response_choices(*, project: Project, limit: int = 500) -> list[tuple[str, str]]:
    """(value, label) of datasets by their responses, with preferences or without."""
    rows = Dataset.objects.filter(project=project, deleted_at=None, state="ready", n_responses__gt=0)
    return [(f"dataset:{d.uid}", f"{d.name} ({d.n_responses} responses)") for d in rows.order_by("-pk")[:limit]]


def checkpoint_choices(*, project: Project, limit: int = 500) -> list[tuple[str, str]]:
    rows = Checkpoint.objects.filter(reward_model__project=project, reward_model__deleted_at=None)
    return [(str(c.uid), str(c)) for c in rows.select_related("reward_model").order_by("-pk")[:limit]]
