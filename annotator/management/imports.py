"""What the commands that import share: find the project, show progress, print the outcome."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

from django.conf import settings
from django.core.management.base import CommandError, OutputWrapper
from django.utils import timezone

from annotator.errors import DomainError
from annotator.models import Dataset, Project
from annotator.services.datasets import ImportRequest
from annotator.services.search import index_fill
from annotator.services.uploads import dataset_import_file
from annotator.tasks import import_limits

MAX_ERRORS_PRINTED = 20
INTERRUPTED = "Interrupted. A worker of the site goes on with the import in a minute; its page can cancel it."


def add_import_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--project", required=True, help="name or uid of the project")
    parser.add_argument("--name", default="", help="name of the dataset (default: the file's)")
    parser.add_argument("--allow-duplicate", action="store_true", help="import although the very same file is there")


def find_project(name: str) -> Project:
    """The project of this uid or name. Raises CommandError naming what there is."""
    try:
        found = list(Project.objects.filter(uid=UUID(name)))
    except ValueError:
        found = list(Project.objects.filter(name=name, archived_at=None)[:2])
    if len(found) > 1:
        raise CommandError(f"Several projects are called {name!r}; give the uid, which is in the project's address.")
    if not found:
        names = Project.objects.filter(archived_at=None).order_by("name").values_list("name", flat=True)[:20]
        raise CommandError(f"There is no project {name!r}. Projects: {', '.join(names) or 'none yet'}.")
    return found[0]


def import_and_print(
    *, project: Project, request: ImportRequest, stream: BinaryIO, out: OutputWrapper, progress: OutputWrapper
) -> None:
    """Import through the site's service; the outcome goes to `out` as JSON, progress to `progress`."""
    try:
        dataset = dataset_import_file(
            project=project,
            user=None,
            request=request,
            stream=stream,
            limits=import_limits(),
            clock=timezone.now,
            on_progress=progress_to(progress),
            upload_dir=Path(settings.UPLOAD_DIR),
        )
    except KeyboardInterrupt as stopped:
        raise CommandError(INTERRUPTED) from stopped
    except DomainError as error:
        raise CommandError(error.detail) from error
    if progress.isatty():
        progress.write("")
    index_fill(dataset=dataset)
    out.write(json.dumps(summary(dataset), ensure_ascii=False, indent=2))
    if dataset.state != Dataset.State.READY:
        raise CommandError(dataset.failure or f"The import ended {dataset.state}.")


def progress_to(stream: OutputWrapper) -> Callable[[Dataset], None]:
    """One line rewritten on a terminal; a new line every few seconds in a log."""
    every_s = 0.5 if stream.isatty() else 5.0
    shown_at = time.monotonic()

    def show(dataset: Dataset) -> None:
        nonlocal shown_at
        if time.monotonic() - shown_at < every_s:
            return
        shown_at = time.monotonic()
        total = dataset.n_bytes_total or 0
        share = f"{100 * dataset.n_bytes_read / total:3.0f}% " if total else ""
        text = f"{share}{dataset.n_rows:,} rows, {dataset.n_examples:,} examples, {dataset.n_errors:,} refused"
        stream.write(f"\r{text}" if stream.isatty() else text, ending="" if stream.isatty() else "\n")
        stream.flush()

    return show


def summary(dataset: Dataset) -> dict[str, Any]:
    problems = dataset.problems.order_by("line").values("line", "code", "detail")[:MAX_ERRORS_PRINTED]
    names = (
        "name", "state", "format", "format_reason", "n_rows", "n_examples", "n_responses", "n_preferences",
        "n_duplicates", "n_errors",
    )  # fmt: skip
    return {"uid": str(dataset.uid), **{name: getattr(dataset, name) for name in names}, "errors": list(problems)}
