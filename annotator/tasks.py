"""Celery entry points of imports: the slow half of a service, with nothing but a uid (docs/decisions/040)."""

from datetime import datetime
from pathlib import Path

from celery import shared_task
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from annotator.models import Dataset, Queue, Snapshot
from annotator.services.imports import ImportRunning, dataset_import
from annotator.services.queues import queue_build
from annotator.services.search import index_fill, sweep_index
from annotator.services.snapshots import snapshot_finish, sweep_snapshots
from annotator.services.uploads import sweep_imports, upload_path
from workers.data.rows import Limits


@shared_task(acks_late=True, reject_on_worker_lost=True, ignore_result=True)
def dataset_import_task(dataset_uid: str) -> None:
    """Import the stored upload of a dataset. Safe to deliver twice: one worker has the lock, ended imports are left."""
    dataset = Dataset.objects.select_related("project").get(uid=dataset_uid)
    path = upload_path(dataset, Path(settings.UPLOAD_DIR))
    if dataset.state != Dataset.State.IMPORTING or not path.exists():
        return
    try:
        with path.open("rb") as stream:
            dataset_import(dataset=dataset, stream=stream, limits=import_limits(), clock=timezone.now)
    except ImportRunning:
        return
    path.unlink(missing_ok=True)
    enqueue_index(dataset)


@shared_task(acks_late=True, reject_on_worker_lost=True, ignore_result=True)
def dataset_index_task(dataset_uid: str) -> None:
    """Fill the full-text index of a dataset."""
    index_fill(dataset=Dataset.objects.get(uid=dataset_uid))


def sweep_once(now: datetime) -> None:
    """Ask again for imports that nobody works on, and for indexes that are behind."""
    for dataset in sweep_imports(upload_dir=Path(settings.UPLOAD_DIR), now=now):
        enqueue_import(dataset)
    for dataset in sweep_index(now=now):
        enqueue_index(dataset)
    for snapshot in sweep_snapshots(now=now):
        enqueue_snapshot(snapshot)


def enqueue_import(dataset: Dataset) -> None:
    """Wake a worker at commit. A broker that cannot be reached is logged, not raised: the sweep asks again."""
    transaction.on_commit(lambda: dataset_import_task.apply_async(args=[str(dataset.uid)]), robust=True)


def enqueue_index(dataset: Dataset) -> None:
    if dataset.n_indexed < dataset.n_examples:
        transaction.on_commit(lambda: dataset_index_task.apply_async(args=[str(dataset.uid)]), robust=True)


@shared_task(acks_late=True, reject_on_worker_lost=True, ignore_result=True)
def queue_build_task(queue_uid: str) -> None:
    """Make the items of a large queue. Safe to deliver twice: each part is one transaction that locks the queue."""
    queue_build(queue=Queue.objects.get(uid=queue_uid))


def queue_enqueue_build(queue: Queue) -> None:
    """Ask a worker to build a queue that was too large for the request. A lost message is repaired by the sweep."""
    if queue.state == Queue.State.BUILDING:
        transaction.on_commit(lambda: queue_build_task.delay(str(queue.uid)), robust=True)


@shared_task(acks_late=True, reject_on_worker_lost=True, ignore_result=True)
def snapshot_cut_task(snapshot_uid: str) -> None:
    """Cut a snapshot of a large queue. Safe to deliver twice: the second waits for the first and finds it cut."""
    snapshot_finish(snapshot=Snapshot.objects.select_related("queue").get(uid=snapshot_uid))


def enqueue_snapshot(snapshot: Snapshot) -> None:
    if snapshot.state == Snapshot.State.CUTTING:
        transaction.on_commit(lambda: snapshot_cut_task.apply_async(args=[str(snapshot.uid)]), robust=True)


def import_limits() -> Limits:
    return Limits(max_bytes=settings.IMPORT_MAX_BYTES)
