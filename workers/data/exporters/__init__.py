"""What leaves the site: frozen snapshot records as rows of one layout, one module each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from workers.data.exporters.record import SnapshotRecord
from workers.registry import Registry

if TYPE_CHECKING:
    import pyarrow as pa


class Export(Protocol):
    """One layout. `columns` says what each column means; `schema` gives the same columns as Parquet types.

    `reads_judgements` is False where a row is made of the texts and the verdict alone: then records come without
    judgements, shares, models and metadata, which cost more to read than the texts.

    No value is ever null and no list is ever empty: the `datasets` library takes a JSON Lines column's type from its
    first 10 MB and fails on a file whose nulls end later. No column is all dates: it would turn them into another type.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    columns: ClassVar[dict[str, str]]
    reads_judgements: ClassVar[bool]

    def schema(self) -> pa.Schema: ...

    def rows(self, record: SnapshotRecord) -> list[dict[str, Any]]: ...


EXPORTS: Registry[Export] = Registry("workers.data.exporters")


def export_named(label: str) -> Export:
    """The layout of that public name: `trl-preference` is registered as trl_preference. Raises UnknownName."""
    return EXPORTS.get(label.replace("-", "_"))()


def export_labels() -> list[str]:
    """Public names, as they stand in URLs."""
    return [name.replace("_", "-") for name in EXPORTS.names()]


def export_rows(export: Export, records: Iterable[SnapshotRecord], tally: Counter[str]) -> Iterator[dict[str, Any]]:
    """Rows of all records. `tally` counts n_records, n_rows and, for records that give no row, skipped_<verdict>."""
    for record in records:
        rows = export.rows(record)
        tally["n_records"] += 1
        tally["n_rows"] += len(rows)
        if not rows:
            tally[f"skipped_{record.verdict or 'undecided'}"] += 1
        yield from rows
