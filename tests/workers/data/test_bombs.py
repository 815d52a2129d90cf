"""Small files that would be large: refused in words, in bounded time and memory."""

from __future__ import annotations

import io
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.workers.data.test_readers import codes, read
from workers.data.rows import FileError, Limits

SMALL = Limits(max_row_bytes=1000, ratio_floor_bytes=100_000)


def packed(columns: dict[str, list[object]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    return sink.getvalue()


@pytest.mark.parametrize("n_columns", [5001, 200_000])
def test_a_header_of_very_many_columns(n_columns: int) -> None:
    raw = ",".join(f"c{n}" for n in range(n_columns)).encode() + b"\n"
    began = time.process_time()
    with pytest.raises(FileError, match=f"names {n_columns} columns; up to 5000"):
        read(raw, Limits())
    assert time.process_time() - began < 20  # counting each name among all of them took hours


def test_columns_named_twice_are_still_named() -> None:
    with pytest.raises(FileError, match="twice: a, b"):
        read(b"a,b,a,b,c\n")


def test_parquet_that_grows_is_refused_before_it_is_unpacked() -> None:
    raw = packed({"prompt": ["x" * 200_000], "chosen": ["a"]})
    with pytest.raises(FileError, match="grows more than 300 times") as caught:
        read(raw, SMALL)
    assert caught.value.code == "parquet_bomb"


def test_long_parquet_rows_are_left_out_as_in_text_files() -> None:
    raw = packed({"prompt": ["a", "x" * 2000, "b"], "more": [[1], [2], [3]]})
    assert codes(raw, SMALL) == [(1, "row"), (2, "row_too_long"), (3, "row")]


def test_parquet_of_very_many_columns() -> None:
    with pytest.raises(FileError, match="has 5001 columns"):
        read(packed({f"c{n}": [1] for n in range(5001)}), Limits())
