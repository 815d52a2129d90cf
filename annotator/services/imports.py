"""Importing a dataset: one streaming pipeline for the page, the API, the command line and the demo.

A batch is one transaction that holds its rows and its counters, so an import that was killed goes on after its last
batch. Whoever imports holds an advisory lock of the database, which dies with its connection: no second worker joins
in, and the sweep can tell a dead import from a slow one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import BinaryIO

from django.db import InterfaceError, OperationalError, connection, transaction

from annotator.errors import DomainError
from annotator.live import poke
from annotator.models import Dataset, Example, Response
from annotator.services.import_batches import Batch, import_batches
from annotator.services.import_copy import batch_write
from annotator.services.planner import tables_analyze
from annotator.services.prefetch import prefetched
from annotator.services.search import index_fill
from annotator.services.streams import CountingStream
from workers.data.importing import AUTO, ExampleStream, open_examples
from workers.data.rows import FileError, Limits

logger = logging.getLogger(__name__)
POKE_EVERY_S = 0.5
INDEX_AT_ONCE = 5000
Clock = Callable[[], datetime]
OnProgress = Callable[[Dataset], None]


class ImportRunning(DomainError):
    code = "import_running"
    title = "This import is running already"


def dataset_import(
    *, dataset: Dataset, stream: BinaryIO, limits: Limits, clock: Clock, on_progress: OnProgress | None = None
) -> Dataset:
    """Read a file into a dataset that is in state importing; bad rows are stored with their reasons, good ones kept.

    The dataset ends ready, failed (with the reason) or cancelled, and may be called again after a crash: rows that were
    committed are passed over. Memory does not grow with the file.

    Raises
    ------
    ImportRunning
        Somebody else is importing this dataset now.
    """
    with import_lock(dataset):
        dataset.refresh_from_db()
        if dataset.state != Dataset.State.IMPORTING:
            return dataset
        try:
            state, failure = _read_and_write(dataset, CountingStream(stream), limits, on_progress)
        except FileError as error:
            state, failure = Dataset.State.FAILED, error.detail
        except (OperationalError, InterfaceError):
            raise  # the database went away: the sweep brings this import back
        except Exception as error:
            import_finish(dataset=dataset, state=Dataset.State.FAILED, failure=describe(error), now=clock())
            raise
        import_finish(dataset=dataset, state=state, failure=failure, now=clock())
    if dataset.state == Dataset.State.READY and dataset.n_examples <= INDEX_AT_ONCE:
        index_fill(dataset=dataset)
    elif dataset.state == Dataset.State.READY:
        tables_analyze(Example, Response)
    return dataset


def _open(dataset: Dataset, counting: CountingStream, limits: Limits) -> ExampleStream:
    """Open the file in the format chosen, or tell the format and write down why."""
    opened = open_examples(
        counting.as_binary(), name=dataset.source_name or "The file", format_name=dataset.format or AUTO, limits=limits
    )
    if not dataset.format_reason:
        dataset.format, dataset.format_reason = opened.detection.format, opened.detection.reason
        dataset.save(update_fields=["format", "format_reason"])
    return opened


def _read_and_write(
    dataset: Dataset, counting: CountingStream, limits: Limits, on_progress: OnProgress | None
) -> tuple[Dataset.State, str]:
    """Write batch after batch while the next one is being parsed. Returns how the import ended."""
    if dataset.cancel_requested_at:
        return Dataset.State.CANCELLED, ""
    opened = _open(dataset, counting, limits)
    topic, poked = f"dataset.{dataset.uid}", 0.0
    made = import_batches(opened.examples, n_bytes_read=lambda: counting.n_bytes, skip=dataset.n_rows)
    batches = prefetched(made)
    try:
        for batch in batches:
            now = time.monotonic()
            _commit(dataset, batch, topic if now - poked > POKE_EVERY_S else "")
            poked = now if now - poked > POKE_EVERY_S else poked
            if on_progress:
                on_progress(dataset)
            if dataset.cancel_requested_at:
                return Dataset.State.CANCELLED, ""
    finally:
        batches.close()
    if dataset.n_examples == 0:
        return Dataset.State.FAILED, nothing_imported(dataset)
    return Dataset.State.READY, ""


@transaction.atomic
def _commit(dataset: Dataset, batch: Batch, topic: str) -> None:
    """One batch. Its commit need not wait for the disk: a crash takes back its rows and its counters together."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL synchronous_commit TO off")
    batch_write(dataset=dataset, batch=batch)
    if topic:
        poke(topic, "progress")


def nothing_imported(dataset: Dataset) -> str:
    first = dataset.problems.order_by("line").first()
    if first is None:
        return "The file has no rows."
    return (
        f"None of the {dataset.n_rows} rows could be imported as {dataset.format}. "
        f"Line {first.line}: {first.detail}. Choose another format or repair the rows."
    )


@transaction.atomic
def import_finish(*, dataset: Dataset, state: Dataset.State, failure: str, now: datetime) -> bool:
    """Move an import to its end. False when it had ended already."""
    importing = Dataset.objects.filter(pk=dataset.pk, state=Dataset.State.IMPORTING)
    won = importing.update(state=state, failure=failure.replace("\0", ""), finished_at=now) == 1
    poke(f"dataset.{dataset.uid}", "state")
    poke(f"project.{dataset.project.uid}", "dataset")
    dataset.refresh_from_db()
    return won


@contextmanager
def import_lock(dataset: Dataset) -> Iterator[None]:
    """Be the only one who imports this dataset. The lock belongs to the database connection and dies with it."""
    name = f"dataset-import:{dataset.uid}"
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [name])
        if not cursor.fetchone()[0]:
            raise ImportRunning("Another worker is importing this dataset. Its page shows how far it is.")
    try:
        yield
    finally:
        if connection.is_usable():
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [name])


def is_being_imported(dataset: Dataset) -> bool:
    """True while some process holds the lock of this import."""
    try:
        with import_lock(dataset):
            return False
    except ImportRunning:
        return True


def describe(error: Exception) -> str:
    what = f"{type(error).__name__}: {error}"
    return f"The import stopped at an error of this site ({what}). The rows read so far are kept."
