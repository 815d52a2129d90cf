"""Datasets: made, renamed, frozen by their first use, deleted (softly)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO

from django.db import transaction

from annotator.access import refuse_archived
from annotator.errors import DomainError, FieldError, InvalidInput
from annotator.live import poke
from annotator.models import AuditEvent, Dataset, Project, User
from annotator.services.streams import fingerprint
from annotator.validation import require_storable
from workers.data.formats import FORMATS
from workers.data.importing import AUTO, open_examples
from workers.data.rows import FileError, Limits


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What somebody asks for when importing a file."""

    name: str
    source_name: str = ""
    format: str = AUTO
    licence: str = ""
    allow_duplicate: bool = False


class DuplicateUpload(DomainError):
    code = "duplicate_upload"
    title = "This file has been imported already"


class DatasetInUse(DomainError):
    code = "dataset_in_use"
    title = "This dataset is in use"


@transaction.atomic
def dataset_create(
    *, project: Project, user: User | None, request: ImportRequest, stream: BinaryIO, limits: Limits
) -> Dataset:
    """Make the dataset a file is to be imported into. The stream must be seekable; it is left at its start.

    Raises
    ------
    InvalidInput
        The file is empty or cannot be read, its format is unknown, or the name is missing.
    ProjectArchived
        The project was put away.
    DuplicateUpload
        The project has a dataset of the very same file and `allow_duplicate` is not set.
    """
    refuse_archived(project.archived_at)
    _check_request(request)
    _check_head(request, stream, limits)
    sha256, n_bytes = fingerprint(stream)
    if not request.allow_duplicate:
        _refuse_duplicate(project, sha256)
    dataset = Dataset.objects.create(
        project=project,
        name=request.name.strip(),
        format="" if request.format == AUTO else request.format,
        source_name=request.source_name[:300],
        source_sha256=sha256,
        licence=request.licence.strip(),
        n_bytes_total=n_bytes,
        imported_by=user,
    )
    AuditEvent.objects.create(
        project=project, actor=user, action="dataset.import", detail={"dataset": str(dataset.uid), "sha256": sha256}
    )
    poke(f"project.{project.uid}", "dataset")
    return dataset


def _check_request(request: ImportRequest) -> None:
    for pointer, text in (("/name", request.name), ("/licence", request.licence), ("/file", request.source_name)):
        require_storable(text, pointer)
    errors = []
    if not request.name.strip():
        errors.append(FieldError("/name", "required", "Give the dataset a name."))
    if len(request.name.strip()) > 200:
        errors.append(FieldError("/name", "too_long", "A name has up to 200 characters."))
    if len(request.licence.strip()) > 200:
        errors.append(FieldError("/licence", "too_long", "A licence has up to 200 characters."))
    if request.format != AUTO and request.format not in FORMATS.names():
        known = ", ".join([AUTO, *FORMATS.names()])
        errors.append(
            FieldError("/format", "unknown_format", f"There is no format {request.format!r}. Known: {known}.")
        )
    if errors:
        raise InvalidInput(" ".join(error.detail for error in errors), errors=errors)


def _check_head(request: ImportRequest, stream: BinaryIO, limits: Limits) -> None:
    """Refuse a file that cannot be read at all before anything is stored."""
    try:
        open_examples(stream, name=request.source_name or "The file", format_name=request.format, limits=limits)
    except FileError as error:
        errors = [FieldError("/file", error.code, error.detail)]
        raise InvalidInput(error.detail, code=error.code, errors=errors) from error
    finally:
        stream.seek(0)


def _refuse_duplicate(project: Project, sha256: str) -> None:
    same = (
        Dataset.objects.filter(project=project, source_sha256=sha256, deleted_at=None)
        .exclude(state__in=[Dataset.State.FAILED, Dataset.State.CANCELLED])
        .first()
    )
    if same is not None:
        raise DuplicateUpload(
            f'The very same file is in this project as "{same.name}". To import it once more, '
            "allow duplicates (allow_duplicate=1).",
            dataset=str(same.uid),
            name=same.name,
            url=f"/datasets/{same.uid}/",
        )


def dataset_freeze(*, dataset: Dataset, now: datetime) -> None:
    """Mark a dataset as used by a queue or run: from now on its rows stay as they are.

    Raises
    ------
    DomainError
        It was deleted, or its import has not ended well.
    """
    ready = Dataset.objects.filter(pk=dataset.pk, state=Dataset.State.READY, deleted_at=None)
    if not ready.exists():
        raise DomainError(f'The dataset "{dataset.name}" is not ready to be used.', code="dataset_not_ready")
    if ready.filter(frozen_at=None).update(frozen_at=now):
        poke(f"dataset.{dataset.uid}", "state")
    dataset.refresh_from_db(fields=["frozen_at", "state", "deleted_at"])


@transaction.atomic
def dataset_rename(*, dataset: Dataset, name: str, licence: str) -> None:
    """Change how a dataset is called; its rows are not touched."""
    _check_request(ImportRequest(name=name, licence=licence))
    dataset.name, dataset.licence = name.strip(), licence.strip()
    dataset.save(update_fields=["name", "licence"])
    poke(f"dataset.{dataset.uid}", "state")


@transaction.atomic
def dataset_delete(*, dataset: Dataset, user: User | None, now: datetime) -> None:
    """Take a dataset out of sight; its rows stay until they are purged.

    Raises
    ------
    DatasetInUse
        A queue or run uses it, or it is being imported.
    """
    if dataset.state == Dataset.State.IMPORTING:
        raise DatasetInUse("It is being imported. Cancel the import first.", code="dataset_importing")
    unused = Dataset.objects.filter(pk=dataset.pk, frozen_at=None, deleted_at=None, queues=None)
    if not unused.update(deleted_at=now):
        raise DatasetInUse("A queue or run uses this dataset, so it stays as it is. Nothing was deleted.")
    AuditEvent.objects.create(
        project=dataset.project, actor=user, action="dataset.delete", detail={"dataset": str(dataset.uid)}
    )
    poke(f"project.{dataset.project.uid}", "dataset")
