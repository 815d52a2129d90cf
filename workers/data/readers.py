"""Open an uploaded file whatever its type: rows come out one by one, bad ones as RowError, in bounded memory.

The type is told by content: JSON Lines, a JSON array, CSV, TSV, Parquet, each also gzipped. Names only serve messages.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable, Iterator
from typing import BinaryIO

from workers.data.delimited import DelimitedRows
from workers.data.json_rows import array_rows, jsonl_rows
from workers.data.parquet_rows import parquet_rows
from workers.data.rows import FileError, Limits, Row, RowError, StreamBroken
from workers.data.source import GZIP_MAGIC, HEAD_BYTES, GunzipSource, Pushback, buffered, read_head, spooled

PARQUET_MAGIC = b"PAR1"
READABLE = "JSON Lines, a JSON array, CSV, TSV or Parquet, each also gzipped"
FOREIGN = (
    (b"PK\x03\x04", "a zip or Excel file", "Unzip it first, or save the sheet as CSV."),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file", "Save the sheet as CSV."),
    (b"\x89PNG", "an image", "Import a table of texts."),
    (b"\xff\xd8\xff", "an image", "Import a table of texts."),
    (b"%PDF", "a PDF", "Import a table of texts."),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "Decompress it, or use gzip."),
    (b"BZh", "a bzip2 archive", "Decompress it, or use gzip."),
    (b"\xfd7zXZ", "an xz archive", "Decompress it, or use gzip."),
    (b"ARROW1", "an Arrow file", "Write Parquet instead."),
    (b"\xff\xff\xff\xff", "an Arrow stream", "Write Parquet instead."),
    (b"\x80\x02", "a Python pickle", "Pickles are never read. Write JSON Lines or Parquet."),
    (b"\x80\x04", "a Python pickle", "Pickles are never read. Write JSON Lines or Parquet."),
    (b"\x80\x05", "a Python pickle", "Pickles are never read. Write JSON Lines or Parquet."),
    (codecs.BOM_UTF16_LE, "text in UTF-16", "Save it as UTF-8."),
    (codecs.BOM_UTF16_BE, "text in UTF-16", "Save it as UTF-8."),
)


class RowStream(Iterator[Row | RowError]):
    """Rows one by one, and in words what the file was taken for: "gzipped CSV with commas"."""

    def __init__(self, rows: Iterator[Row | RowError], read_as: str | Callable[[], str], *, is_gzipped: bool) -> None:
        self._rows, self._read_as, self._is_gzipped = rows, read_as, is_gzipped

    def __next__(self) -> Row | RowError:
        return next(self._rows)

    @property
    def read_as(self) -> str:
        """Ask after the first row: only then is the delimiter of a table known."""
        words = self._read_as if isinstance(self._read_as, str) else self._read_as()
        return f"gzipped {words}" if self._is_gzipped else words


def open_rows(stream: BinaryIO, *, name: str, limits: Limits = Limits()) -> RowStream:  # noqa: B008
    """Rows of an uploaded file.

    Parameters
    ----------
    stream
        Anything with read(n). It need not be seekable: a Parquet file that is not is copied to disk first.
    name
        The file's name, for messages.
    limits
        What may be held in memory and read in all.

    Raises
    ------
    FileError
        At once for an empty file or one of another type; while iterating when the file passes a limit.
    """
    head = read_head(stream)
    source: io.RawIOBase = Pushback(head, stream, limits)
    gzipped = head.startswith(GZIP_MAGIC)
    if gzipped:
        unzipped = GunzipSource(source, limits)
        head = read_head(unzipped)
        source = Pushback(head, unzipped, limits)
    if head.startswith(PARQUET_MAGIC):
        table = parquet_rows(_seekable(stream, source, gzipped=gzipped), limits)
        return RowStream(table, "Parquet", is_gzipped=gzipped)
    _refuse_foreign(head, name)
    reader = buffered(source)
    if head.startswith(codecs.BOM_UTF8):
        reader.read(len(codecs.BOM_UTF8))
        head = head[len(codecs.BOM_UTF8) :]
    start = head.lstrip()
    if not start and len(head) < HEAD_BYTES - len(codecs.BOM_UTF8):
        raise _nothing_in(reader, name)
    if not start or start.startswith(b"{"):
        return RowStream(_until_broken(jsonl_rows(reader, limits)), "JSON Lines", is_gzipped=gzipped)
    if start.startswith(b"["):
        return RowStream(_until_broken(array_rows(reader, limits)), "a JSON array", is_gzipped=gzipped)
    delimited = DelimitedRows(reader, limits)
    return RowStream(_until_broken(iter(delimited)), delimited.read_as, is_gzipped=gzipped)


def _nothing_in(reader: io.BufferedReader, name: str) -> FileError:
    try:
        reader.read(1)
    except StreamBroken as error:
        return FileError(error.code, error.detail)
    return FileError("empty_file", f"{name} is empty.")


def _until_broken(rows: Iterator[Row | RowError]) -> Iterator[Row | RowError]:
    """Pass rows on; where the bytes break off, say so once after the last good row."""
    line = 0
    try:
        for row in rows:
            line = row.line
            yield row
    except StreamBroken as error:
        yield RowError(line + 1, error.code, error.detail)


def _seekable(stream: BinaryIO, source: io.RawIOBase, *, gzipped: bool) -> BinaryIO:
    if not gzipped and hasattr(stream, "seekable") and stream.seekable():
        stream.seek(0)
        return stream
    return spooled(source)


def _refuse_foreign(head: bytes, name: str) -> None:
    for magic, kind, advice in FOREIGN:
        if head.startswith(magic):
            raise FileError("unknown_type", f"{name} is {kind}. {advice} What can be read: {READABLE}.")
    controls = sum(byte < 32 and byte not in b"\t\n\r\f\0" for byte in head[:4096])
    if controls * 20 > len(head[:4096]):
        raise FileError("unknown_type", f"{name} is not text and of no known type. What can be read: {READABLE}.")
