"""Create runs and wake a worker. The one chain that meets Celery: view -> here -> workers.tasks -> services.runs."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction

from annotator.access import refuse_archived
from annotator.errors import DomainError, FieldError
from annotator.models import Dataset, Project, User
from rmeval.further_sources import check_further_sources
from rmeval.models import Checkpoint, RewardModel, Run
from rmeval.raters import check_person
from rmeval.services.reward_models import backbone_check
from rmeval.services.runs import run_note, run_poke
from rmeval.sources import source_of
from rmeval.specs import check_fit, check_references, check_sources, job_of, needs_preferences, spec_clean
from rmeval.starts import check_start
from workers.tasks import enqueue

SOURCE_KEYS = {"dataset", "snapshot", "queue", "edits", "strengths"}


def run_submit(
    *,
    project: Project,
    kind: str,
    spec: dict[str, Any],
    user: User | None,
    now: datetime,
    idempotency_key: str | None = None,
    parent: Run | None = None,
    enqueue: bool = True,
) -> Run:
    """Check a spec, keep it as a run, and wake a worker once it is committed.

    The same idempotency key with the same kind and spec gives the run made before; with others it is refused.
    """
    refuse_archived(project.archived_at)
    job = job_of(kind)
    spec = spec_clean(job, spec)
    if idempotency_key and (known := same_key(project, idempotency_key, kind, spec)):
        return known
    check_references(project, spec)
    check_model(project, spec)
    check_backbones(spec)
    reward_model = reward_model_of(project, spec)
    learns = needs_preferences(job, spec, reward_model)
    check_sources(project, spec, needs_preferences=learns, least_decided=getattr(job, "least_decided", 1))
    check_fit(job, spec, reward_model)
    check_start(project, spec, reward_model)
    check_further_sources(project, kind, spec, reward_model)
    check_person(project, spec)
    try:
        with transaction.atomic():
            run = Run.objects.create(
                project=project,
                kind=kind,
                spec=spec,
                created_by=user,
                parent=parent,
                reward_model=reward_model,
                idempotency_key=idempotency_key or None,
                enqueued_at=now,
                message="Waiting for a worker",
            )
            source_freeze(project, spec, now)
            by = f" by {user.username}" if user else ""
            run_note(run, f"Run submitted{by}", attempt=0)
            run_poke(run, "state")
            if enqueue:
                run_enqueue(run)
    except IntegrityError:
        if idempotency_key and (known := same_key(project, idempotency_key, kind, spec)):
            return known
        raise
    return run


def run_enqueue(run: Run) -> None:
    """Wake a worker at commit. A broker that cannot be reached is logged, not raised: the sweep enqueues again."""
    enqueue(run)


def run_retry(*, run: Run, user: User | None, now: datetime) -> Run:
    """A new run with the same spec; the old one stays as it ended."""
    if not run.has_ended:
        raise DomainError(
            f"This run is {run.state}; it can be started again once it has ended.",
            code="run_not_ended",
            run_state=run.state,
        )
    return run_submit(project=run.project, kind=run.kind, spec=run.spec, user=user, now=now, parent=run)


def same_key(project: Project, key: str, kind: str, spec: dict[str, Any]) -> Run | None:
    known = Run.objects.filter(project=project, idempotency_key=key).first()
    if known is not None and (known.kind, known.spec) != (kind, spec):
        raise DomainError(
            "This idempotency key was used for another run. Use a new key for a new run.", code="idempotency_key_reused"
        )
    return known


def reward_model_of(project: Project, spec: dict[str, Any]) -> RewardModel | None:
    """The reward model a run is about, named directly or through its checkpoint."""
    if uid := spec.get("reward_model"):
        return RewardModel.objects.filter(project=project, uid=uid).first()
    if uid := spec.get("checkpoint"):
        found = Checkpoint.objects.filter(reward_model__project=project, uid=uid).select_related("reward_model").first()
        return found.reward_model if found else None
    return None


def check_model(project: Project, spec: dict[str, Any]) -> None:
    """A model to import lies where the operator opened a folder, or on the hub; its name here is free."""
    if not spec.get("model"):
        return
    backbone_check(spec, model_dirs=settings.MODEL_DIRS, pointer="/spec", field="model")
    name = spec.get("name") or ("" if spec.get("reward_model") else spec["model"].rstrip("/").rsplit("/", 1)[-1])
    if name and RewardModel.objects.filter(project=project, name=name.strip()).exists():
        detail = f"This project already has a reward model named {name}. Give another name."
        raise DomainError(detail, code="name_taken", errors=[FieldError("/spec/name", "name_taken", detail)])


def check_backbones(spec: dict[str, Any]) -> None:
    """Backbones that the ways of training of a study name are held to the same folders as those that are registered."""
    named = [(f"/spec/arms/{i}/config", arm["config"]) for i, arm in enumerate(spec.get("arms") or [])]
    grid = (spec.get("grid") or {}).get("config.backbone") or []
    for pointer, config in [*named, *(("/spec/grid", {"backbone": value}) for value in grid)]:
        backbone_check(config, model_dirs=settings.MODEL_DIRS, pointer=pointer)


def source_freeze(project: Project, spec: dict[str, Any], now: datetime) -> None:
    """A dataset is immutable from its first use by a run."""
    homes = [source_of(project, source).home.pk for source in sources_in(spec)]
    Dataset.objects.filter(pk__in=homes, frozen_at=None).update(frozen_at=now)


def sources_in(spec: Any) -> Iterator[dict[str, Any]]:
    """Every dataset and snapshot that a spec names, whatever setting holds it: to learn from, or to look at besides."""
    if isinstance(spec, list):
        for one in spec:
            yield from sources_in(one)
    elif isinstance(spec, dict):
        own = {kind: uid for kind in ("dataset", "snapshot") if isinstance(uid := spec.get(kind), str) and uid}
        if own and spec.keys() <= SOURCE_KEYS:
            yield own
        else:
            for one in spec.values():
                yield from sources_in(one)
