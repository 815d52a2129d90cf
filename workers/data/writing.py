"""Rows out as bytes, streamed: JSON Lines and Parquet with the same rows, in bounded memory."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK_BYTES = 256 * 1024
GROUP_ROWS = 5_000
GROUP_CHARACTERS = 16 * 1024 * 1024


def jsonl_chunks(rows: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """JSON Lines in chunks of about 256 KiB."""
    buffer = bytearray()
    for row in rows:
        buffer += _line(row)
        if len(buffer) >= CHUNK_BYTES:
            yield bytes(buffer)
            buffer.clear()
    if buffer:
        yield bytes(buffer)


def parquet_chunks(rows: Iterable[dict[str, Any]], schema: pa.Schema) -> Iterator[bytes]:
    """A Parquet file in pieces: one row group in memory at a time, of at most 5,000 rows or about 16 MiB of text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = _Sink()
    with pq.ParquetWriter(pa.PythonFile(sink, mode="w"), schema, compression="zstd") as writer:
        for group in row_groups(rows):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
            yield sink.drain()
    yield sink.drain()


def row_groups(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Rows in lists that are bounded in number and in text."""
    group: list[dict[str, Any]] = []
    n_characters = 0
    for row in rows:
        group.append(row)
        n_characters += sum(_weight(value) for value in row.values())
        if len(group) >= GROUP_ROWS or n_characters >= GROUP_CHARACTERS:
            yield group
            group, n_characters = [], 0
    if group:
        yield group


def _weight(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    return sum(len(turn["content"]) for turn in value) if isinstance(value, list) else 8


def _line(row: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:  # an integer beyond 64 bits
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"


class _Sink(io.RawIOBase):
    """Collects what the Parquet writer writes until it is drained; `tell` counts from the start of the file."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._n_bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._n_bytes += len(part)
        return len(part)

    def tell(self) -> int:
        return self._n_bytes

    def drain(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        return data
