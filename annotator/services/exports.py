"""Exports: a layout, a file type, and the bytes of a snapshot or of a dataset's known preferences."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

from django.utils.text import slugify

from annotator.errors import DomainError, FieldError, InvalidInput
from annotator.models import Dataset, Snapshot
from annotator.selectors.snapshots import dataset_records, format_counts, snapshot_records
from workers.data.card import CardFacts, dataset_card
from workers.data.exporters import Export, export_labels, export_named, export_rows
from workers.data.exporters.record import SnapshotRecord
from workers.data.writing import jsonl_chunks, parquet_chunks
from workers.registry import UnknownName

FileType = Literal["jsonl", "parquet"]
CONTENT_TYPES: dict[str, str] = {"jsonl": "application/x-ndjson", "parquet": "application/vnd.apache.parquet"}


@dataclass(frozen=True)
class ExportFile:
    """A file that is made while it is read."""

    filename: str
    content_type: str
    chunks: Callable[[], Iterator[bytes]]
    sha256: str


def parse_layout(label: str, file: str) -> tuple[Export, FileType]:
    """The layout and file type a caller named; `parquet` alone means every judgement as Parquet."""
    if label == "parquet":
        label, file = "raw", "parquet"
    if file not in CONTENT_TYPES:
        detail = f"A file is one of: {', '.join(CONTENT_TYPES)}."
        raise InvalidInput(detail, errors=[FieldError("/file", "unknown", detail)])
    try:
        return export_named(label), cast(FileType, file)
    except UnknownName as error:
        detail = f"There is no format {label!r}; known: {', '.join([*export_labels(), 'parquet'])}."
        raise InvalidInput(detail, errors=[FieldError("/format", "unknown", detail)]) from error


def snapshot_export(*, snapshot: Snapshot, label: str, file: str) -> ExportFile:
    export, file_type = parse_layout(label, file)
    require_ready(snapshot)
    name = f"{slugify(snapshot.queue.name) or 'queue'}-{snapshot.number}-{label_of(export)}"
    return export_file(export, file_type, name, snapshot.sha256, partial(snapshot_records, snapshot=snapshot))


def dataset_export(*, dataset: Dataset, label: str, file: str) -> ExportFile:
    """The preferences the dataset came with, in the layouts of snapshots."""
    export, file_type = parse_layout(label, file)
    if dataset.state != Dataset.State.READY:
        raise DomainError(f"The dataset is {dataset.state}; it can be exported once it is ready.", code="not_ready")
    if not dataset.n_preferences:
        raise DomainError(
            "This dataset came without preferences, so there are no pairs to export. Judge it in a queue first.",
            code="no_preferences",
        )
    name = f"{slugify(dataset.name) or 'dataset'}-{label_of(export)}"
    return export_file(export, file_type, name, dataset.source_sha256, partial(dataset_records, dataset=dataset))


def export_file(
    export: Export, file: FileType, name: str, sha256: str, records: Callable[..., Iterator[SnapshotRecord]]
) -> ExportFile:
    def chunks() -> Iterator[bytes]:
        rows = export_rows(export, records(with_judgements=export.reads_judgements), Counter())
        return jsonl_chunks(rows) if file == "jsonl" else parquet_chunks(rows, export.schema())

    return ExportFile(f"{name}.{file}", CONTENT_TYPES[file], chunks, sha256)


def label_of(export: Export) -> str:
    return export.name.replace("_", "-")


def require_ready(snapshot: Snapshot) -> None:
    if snapshot.state == Snapshot.State.CUTTING:
        raise DomainError("The snapshot is still being cut. Its page says when it is ready.", code="not_ready")
    if snapshot.state == Snapshot.State.FAILED:
        raise DomainError(f"The snapshot could not be cut: {snapshot.failure}", code="snapshot_failed")


def snapshot_card(*, snapshot: Snapshot, label: str, file: str) -> str:
    """README.md to put beside the exported file; the same snapshot always gives the same card."""
    export, file_type = parse_layout(label, file)
    require_ready(snapshot)
    exported = snapshot_export(snapshot=snapshot, label=label_of(export), file=file_type)
    facts = CardFacts(
        title=f"{snapshot.queue.name}, snapshot {snapshot.number}",
        snapshot_uid=str(snapshot.uid),
        sha256=snapshot.sha256,
        aggregation=snapshot.aggregation,
        created_at=snapshot.created_at.isoformat(timespec="seconds"),
        files=[exported.filename],
        tally=tally_of(snapshot, label_of(export)),
        licence=snapshot.queue.dataset.licence or "unknown",
        filters=snapshot.filter,
    )
    return dataset_card(export, facts)


def tally_of(snapshot: Snapshot, label: str) -> dict[str, int]:
    counts: dict[str, Any] = next(row for row in format_counts(snapshot=snapshot) if row["label"] == label)
    judgements = snapshot.counts.get("judgements", {})
    tally = {"n_rows": counts["n_rows"], "n_pairs": snapshot.n_rows, "n_judgements": judgements.get("used", 0)}
    tally |= {f"pairs_left_out_{verdict}": n for verdict, n in counts["left_out"].items()}
    tally |= {f"judgements_left_out_{reason}": n for reason, n in judgements.get("left_out", {}).items()}
    return tally
