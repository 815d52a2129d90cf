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
        for group in row_groups(rows, schema):
            writer.write_table(group)
            yield sink.drain()
    yield sink.drain()


def row_groups(rows: Iterable[dict[str, Any]], schema: pa.Schema) -> Iterator[pa.Table]:
    """Rows as tables that are bounded in number and in text; a number counts as 8 characters."""
    group = _Group(schema)
    for row in rows:
        group.add(row)
        if group.n_rows >= GROUP_ROWS or group.n_characters >= GROUP_CHARACTERS:
            yield group.table()
            group = _Group(schema)
    if group.n_rows:
        yield group.table()


class _Group:
    """A row group on its way into columns.

    Rows are taken apart as they come: five thousand of them kept as dicts would be walked by the garbage collector over
    and over, and pyarrow takes several times as long for lists of dicts as for flat columns.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self.n_rows = 0
        self.n_characters = 0
        self.columns: dict[str, list[Any]] = {field.name: [] for field in schema}
        self.texts, self.turns, self.others = column_kinds(schema)
        self.roles: dict[str, list[str]] = {name: [] for name in self.turns}
        self.contents: dict[str, list[str]] = {name: [] for name in self.turns}

    def add(self, row: dict[str, Any]) -> None:
        columns, size = self.columns, 8 * len(self.others)
        for name in self.texts:
            value = row[name]
            columns[name].append(value)
            size += len(value)
        for name in self.others:
            columns[name].append(row[name])
        for name in self.turns:
            roles, contents = self.roles[name], self.contents[name]
            for turn in row[name]:
                roles.append(turn["role"])
                contents.append(turn["content"])
                size += len(turn["content"])
            columns[name].append(len(contents))
        self.n_rows += 1
        self.n_characters += size

    def table(self) -> pa.Table:
        import pyarrow as pa

        arrays = [
            self.turns_array(f) if f.name in self.roles else pa.array(self.columns[f.name], f.type) for f in self.schema
        ]
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def turns_array(self, field: pa.Field) -> pa.Array:
        import pyarrow as pa

        parts = {"role": self.roles[field.name], "content": self.contents[field.name]}
        inner = list(field.type.value_type)
        turns = pa.StructArray.from_arrays([pa.array(parts[part.name], part.type) for part in inner], fields=inner)
        return pa.ListArray.from_arrays(pa.array([0, *self.columns[field.name]], pa.int32()), turns, field.type)


def column_kinds(schema: pa.Schema) -> tuple[list[str], list[str], list[str]]:
    """Names of the columns of text, of turns (lists of role and content), and of anything else."""
    import pyarrow as pa

    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    turns = [field.name for field in schema if pa.types.is_list(field.type)]
    return texts, turns, [field.name for field in schema if field.name not in (*texts, *turns)]


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
