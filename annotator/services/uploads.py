"""Files on their way into a dataset: measured, kept until they are imported, brought back after a crash."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from django.db import transaction

from annotator.models import Dataset, Project, User
from annotator.services.datasets import ImportRequest, dataset_create
from annotator.services.imports import (
    Clock,
    OnProgress,
    dataset_import,
    import_finish,
    import_lock,
    is_being_imported,
)
from annotator.services.streams import seekable
from workers.data.rows import MIB, Limits

ASK_AGAIN_AFTER = timedelta(seconds=60)
FORGET_PARTS_AFTER = timedelta(days=1)
INTERRUPTED = "The import was interrupted and its file is gone. The rows read so far are kept; import the file again."


@transaction.atomic
def dataset_upload(
    *,
    project: Project,
    user: User | None,
    request: ImportRequest,
    chunks: Iterable[bytes],
    upload_dir: Path,
    limits: Limits,
    now: datetime,
) -> Dataset:
    """Keep an uploaded file and make its dataset, to be imported by a worker. A refused file leaves nothing behind."""
    upload_dir.mkdir(parents=True, exist_ok=True)
    part = upload_dir / f"{uuid4()}.part"
    try:
        with part.open("wb") as out:
            for chunk in chunks:
                out.write(chunk)
        with part.open("rb") as stream:
            dataset = dataset_create(project=project, user=user, request=request, stream=stream, limits=limits)
        Dataset.objects.filter(pk=dataset.pk).update(enqueued_at=now)
        os.replace(part, upload_path(dataset, upload_dir))
    finally:
        part.unlink(missing_ok=True)
    return dataset


def dataset_import_file(
    *,
    project: Project,
    user: User | None,
    request: ImportRequest,
    stream: BinaryIO,
    limits: Limits,
    clock: Clock,
    on_progress: OnProgress | None = None,
    upload_dir: Path | None = None,
) -> Dataset:
    """Import a file here and now, as the API, the command line and the demo do. Look at `state` for how it ended.

    With `upload_dir` the file is kept there until the import has ended, as an upload by page is: when this process
    dies, the sweep finds it and a worker goes on. Without, the sweep marks what is left as failed.
    """
    if upload_dir is None:
        source = seekable(stream)
        dataset = dataset_create(project=project, user=user, request=request, stream=source, limits=limits)
        return dataset_import(dataset=dataset, stream=source, limits=limits, clock=clock, on_progress=on_progress)
    chunks = iter(partial(stream.read, MIB), b"")
    dataset = dataset_upload(
        project=project, user=user, request=request, chunks=chunks, upload_dir=upload_dir, limits=limits, now=clock()
    )
    path = upload_path(dataset, upload_dir)
    try:
        with path.open("rb") as source:
            dataset_import(dataset=dataset, stream=source, limits=limits, clock=clock, on_progress=on_progress)
    finally:
        if dataset.state != Dataset.State.IMPORTING:
            path.unlink(missing_ok=True)
    return dataset


def upload_path(dataset: Dataset, upload_dir: Path) -> Path:
    return upload_dir / str(dataset.uid)


def import_cancel(*, dataset: Dataset, upload_dir: Path, now: datetime) -> bool:
    """Stop an import after its current batch, or at once where no worker has it. False when it is over already."""
    running = Dataset.objects.filter(pk=dataset.pk, state=Dataset.State.IMPORTING)
    if not running.update(cancel_requested_at=now):
        return False
    if not is_being_imported(dataset):
        with import_lock(dataset):
            import_finish(dataset=dataset, state=Dataset.State.CANCELLED, failure="", now=now)
        upload_path(dataset, upload_dir).unlink(missing_ok=True)
    return True


def sweep_imports(*, upload_dir: Path, now: datetime) -> list[Dataset]:
    """Find imports that nobody works on. Those whose file is still here are to be asked for again; the rest fail.

    Returns the datasets to enqueue. Their rows are stamped, so a busy worker is not asked twice a minute.
    """
    to_enqueue = []
    for dataset in Dataset.objects.filter(state=Dataset.State.IMPORTING).select_related("project"):
        if now - (dataset.enqueued_at or dataset.created_at) < ASK_AGAIN_AFTER or is_being_imported(dataset):
            continue
        if upload_path(dataset, upload_dir).exists():
            Dataset.objects.filter(pk=dataset.pk).update(enqueued_at=now)
            to_enqueue.append(dataset)
        else:
            import_finish(dataset=dataset, state=Dataset.State.FAILED, failure=INTERRUPTED, now=now)
    _remove_leftovers(upload_dir, now)
    return to_enqueue


def _remove_leftovers(upload_dir: Path, now: datetime) -> None:
    """Delete files of imports that have ended and halves of uploads that never did."""
    if not upload_dir.exists():
        return
    waiting = {str(uid) for uid in Dataset.objects.filter(state=Dataset.State.IMPORTING).values_list("uid", flat=True)}
    for path in upload_dir.iterdir():
        old = now.timestamp() - path.stat().st_mtime > FORGET_PARTS_AFTER.total_seconds()
        if old and path.name not in waiting:
            path.unlink(missing_ok=True)
