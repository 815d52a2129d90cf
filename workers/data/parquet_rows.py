"""Rows from a Parquet file, one batch in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from workers.data.rows import FileError, Limits, Row, RowError, size_words
from workers.data.values import json_ready, text_problem, value_problem

BATCH_ROWS = 256


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
    return _rows(file, limits)


def _rows(file: Any, limits: Limits) -> Iterator[Row | RowError]:
    import pyarrow as pa

    number = n_bytes = 0
    try:
        for batch in file.iter_batches(batch_size=BATCH_ROWS):
            n_bytes += batch.nbytes
            if n_bytes > limits.max_bytes:
                raise FileError(
                    "file_too_large",
                    "The decompressed file is larger than this site accepts, "
                    f"which is {size_words(limits.max_bytes)}. Split it and import the parts.",
                )
            size = batch.nbytes // max(1, batch.num_rows)
            for data in batch.to_pylist():
                number += 1
                yield _checked(number, json_ready(data), size)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        yield RowError(number + 1, "bad_parquet", f"the file is damaged from here on ({error})")


def _checked(number: int, data: dict[str, Any], size: int) -> Row | RowError:
    try:
        problem = text_problem(data) or value_problem(data)
    except RecursionError:
        problem = ("too_deep", "values are nested too deep")
    return RowError(number, *problem) if problem else Row(number, data, size)
