"""Rows from a Parquet file, one batch in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from workers.data.json_rows import too_long
from workers.data.rows import MIB, FileError, Limits, Row, RowError, size_words
from workers.data.values import json_ready, text_problem, value_problem

BATCH_ROWS = 256
#: A value of a dictionary may be as long as its column and stand in every row: so much is unpacked at once, or 16 rows.
BATCH_BYTES, FEWEST_ROWS = 512 * MIB, 16
MAX_COLUMNS = 5000


def parquet_rows(stream: BinaryIO, limits: Limits) -> Iterator[Row | RowError]:
    """Rows of a seekable Parquet file; `line` is the row's number, from 1."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(stream)
    except (pa.ArrowException, OSError) as error:
        raise FileError("bad_parquet", f"The Parquet file cannot be read ({error}). Write it again.") from error
    if file.metadata.num_rows == 0:
        raise FileError("empty_file", "The Parquet file has no rows.")
    if file.metadata.num_columns > MAX_COLUMNS:
        n_columns = file.metadata.num_columns
        raise FileError("too_many_columns", f"The Parquet file has {n_columns} columns; up to {MAX_COLUMNS} are read.")
    for group in range(file.num_row_groups):
        _check_growth(file.metadata.row_group(group), limits)
    return _rows(file, limits)


def _check_growth(group: Any, limits: Limits) -> None:
    """Refuse a row group that grows like a decompression bomb, before a byte of it is decompressed."""
    packed = sum(group.column(number).total_compressed_size for number in range(group.num_columns))
    if group.total_byte_size > limits.ratio_floor_bytes and group.total_byte_size > limits.max_ratio * packed:
        raise FileError(
            "parquet_bomb",
            f"The Parquet file grows more than {limits.max_ratio:g} times when decompressed; real text does not. "
            "Write it without compression if it is meant.",
        )


def _batches(file: Any) -> Iterator[Any]:
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        n_rows = min(BATCH_ROWS, max(FEWEST_ROWS, BATCH_BYTES // max(1, group.total_byte_size)))
        yield from file.iter_batches(batch_size=n_rows, row_groups=[number])


def _rows(file: Any, limits: Limits) -> Iterator[Row | RowError]:
    import pyarrow as pa

    number = n_bytes = 0
    try:
        for batch in _batches(file):
            n_bytes += batch.nbytes
            if n_bytes > limits.max_bytes:
                raise FileError(
                    "file_too_large",
                    "The decompressed file is larger than this site accepts, "
                    f"which is {size_words(limits.max_bytes)}. Split it and import the parts.",
                )
            for data in batch.to_pylist():
                number += 1
                size = batch.nbytes // batch.num_rows if batch.nbytes <= limits.max_row_bytes else _size(data)
                if size > limits.max_row_bytes:
                    yield too_long(number, size, limits)
                else:
                    yield _checked(number, json_ready(data), size)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        yield RowError(number + 1, "bad_parquet", f"the file is damaged from here on ({error})")


def _size(value: Any) -> int:
    """About how many bytes a value takes: its texts, and what holds them."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):
        return sum(len(key) + _size(inner) for key, inner in value.items())
    return sum(map(_size, value)) if isinstance(value, list | tuple) else 8


def _checked(number: int, data: dict[str, Any], size: int) -> Row | RowError:
    try:
        problem = text_problem(data) or value_problem(data)
    except RecursionError:
        problem = ("too_deep", "values are nested too deep")
    return RowError(number, *problem) if problem else Row(number, data, size)
