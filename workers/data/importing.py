"""A file in, examples out: the reader, the detection and the format together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, BinaryIO

from workers.data.detection import N_LOOKED_AT, Detection, detect
from workers.data.examples import ParsedExample, RowProblem
from workers.data.formats import FORMATS
from workers.data.readers import open_rows
from workers.data.rows import Limits, Row, RowError

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class ExampleStream:
    """What the file was taken for, and its examples and errors in the order of the file. Can be walked once."""

    detection: Detection
    examples: Iterator[ParsedExample | RowError]


def open_examples(
    stream: BinaryIO,
    *,
    name: str,
    format_name: str = AUTO,
    limits: Limits = Limits(),  # noqa: B008
) -> ExampleStream:
    """Read a file in a named format, or in the one its first rows fit.

    Raises
    ------
    FileError
        The file cannot be read, or `auto` finds no format that fits.
    UnknownName
        There is no format of that name.
    """
    rows = open_rows(stream, name=name, limits=limits)
    if format_name != AUTO:
        detection = Detection(format_name, 1.0, f"{FORMATS.get(format_name).title}: chosen by hand")
        return ExampleStream(detection, parse_rows(rows, format_name))
    first = list(islice(rows, N_LOOKED_AT))
    detection = detect([row.data for row in first if isinstance(row, Row)], read_as=rows.read_as)
    return ExampleStream(detection, parse_rows(chain(first, rows), detection.format))


def parse_rows(rows: Iterable[Row | RowError], format_name: str) -> Iterator[ParsedExample | RowError]:
    """Examples of one format; rows that cannot be parsed come out as RowError with their line."""
    chosen = FORMATS.get(format_name)()
    parsed = (_parse(chosen, row) for row in rows)
    return _joined(chosen, parsed) if hasattr(chosen, "joins") else parsed


def _parse(chosen: Any, row: Row | RowError) -> ParsedExample | RowError:
    if isinstance(row, RowError):
        return row
    try:
        example: ParsedExample = chosen.parse(row)
    except RowProblem as problem:
        return RowError(row.line, problem.code, problem.detail, row_excerpt(row))
    return example


def row_excerpt(row: Row, size: int = 200) -> str:
    """The start of a row, to recognise it by."""
    parts = (f"{key}: {value[:size] if isinstance(value, str) else value!r:.{size}}" for key, value in row.data.items())
    return "; ".join(islice(parts, 8))[:size]


def _joined(chosen: Any, parsed: Iterable[ParsedExample | RowError]) -> Iterator[ParsedExample | RowError]:
    """Put rows that belong to one example together, where the format says that neighbours may."""
    held: ParsedExample | None = None
    for item in parsed:
        if isinstance(item, RowError):
            yield item
        elif held is None:
            held = item
        elif chosen.joins(held, item):
            try:
                held = chosen.join(held, item)
            except RowProblem as problem:
                yield RowError(item.line, problem.code, problem.detail)
        else:
            yield _checked(chosen, held)
            held = item
    if held is not None:
        yield _checked(chosen, held)


def _checked(chosen: Any, example: ParsedExample) -> ParsedExample | RowError:
    """An example to which no further row belongs, unless the format wants more of it."""
    try:
        chosen.check_joined(example)
    except RowProblem as problem:
        return RowError(example.line, problem.code, problem.detail)
    return example
