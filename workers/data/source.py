"""Byte sources: a head that can be looked at, gzip with limits, and lines of bounded length."""

from __future__ import annotations

import io
import tempfile
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

from workers.data.rows import MIB, FileError, Limits, StreamBroken, size_words

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

HEAD_BYTES = 64 * 1024
GZIP_MAGIC = b"\x1f\x8b"


class Readable(Protocol):
    def read(self, size: int, /) -> bytes | None: ...


class Pushback(io.RawIOBase):
    """A stream whose first bytes were already taken and are served again; counts bytes against a limit."""

    def __init__(self, head: bytes, stream: Readable, limits: Limits) -> None:
        self._head = head
        self._stream = stream
        self._left = limits.max_bytes
        self._accepted = size_words(limits.max_bytes)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        data = self._head[: len(view)]
        self._head = self._head[len(data) :]
        if not data:
            data = self._stream.read(len(view)) or b""
        self._left -= len(data)
        if self._left < 0:
            raise FileError(
                "file_too_large",
                f"The file is larger than this site accepts, which is {self._accepted}. Split it and import the parts.",
            )
        view[: len(data)] = data
        return len(data)


class GunzipSource(io.RawIOBase):
    """Decompressed bytes of a gzip stream, several members allowed.

    Raises FileError when it grows like a decompression bomb, StreamBroken when it is cut off or damaged.
    """

    def __init__(self, stream: Readable, limits: Limits) -> None:
        self._stream = stream
        self._limits = limits
        self._inflate = zlib.decompressobj(wbits=31)
        self._pending = b""
        self._n_in = 0
        self._n_out = 0
        self._broken: StreamBroken | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        if self._broken is not None:
            raise self._broken
        try:
            return self._fill(memoryview(buffer).cast("B"))
        except StreamBroken as error:
            self._broken = error
            raise

    def _fill(self, view: memoryview) -> int:
        while True:
            if self._inflate.eof and not self._next_member():
                return 0
            if not self._pending:
                self._pending = self._stream.read(HEAD_BYTES) or b""
                self._n_in += len(self._pending)
            if not self._pending:
                raise StreamBroken(
                    "truncated_gzip", "The gzip file ends too early, as after a broken upload. Upload it again."
                )
            data = self._step(len(view))
            if data:
                view[: len(data)] = data
                return len(data)

    def _step(self, size: int) -> bytes:
        try:
            data = self._inflate.decompress(self._pending, size)
        except zlib.error as error:
            raise StreamBroken("corrupt_gzip", f"The gzip file is damaged ({error}). Upload it again.") from error
        self._pending = self._inflate.unconsumed_tail or self._inflate.unused_data
        self._n_out += len(data)
        self._check_growth()
        return data

    def _check_growth(self) -> None:
        limits = self._limits
        if self._n_out > limits.max_bytes:
            raise FileError(
                "file_too_large",
                f"The decompressed file is larger than this site accepts, which is {size_words(limits.max_bytes)}. "
                "Split it and import the parts.",
            )
        if self._n_out > limits.ratio_floor_bytes and self._n_out > limits.max_ratio * self._n_in:
            raise FileError(
                "gzip_bomb",
                f"The gzip file grows more than {limits.max_ratio:g} times when decompressed; real text does not. "
                "Upload it uncompressed if it is meant.",
            )

    def _next_member(self) -> bool:
        """Start on the next gzip member. Zero padding after the last one is legal and ignored."""
        rest = self._pending.lstrip(b"\0")
        while not rest:
            rest = self._stream.read(HEAD_BYTES) or b""
            if not rest:
                return False
            self._n_in += len(rest)
            rest = rest.lstrip(b"\0")
        self._pending = rest
        self._inflate = zlib.decompressobj(wbits=31)
        return True


def read_head(stream: Readable, size: int = HEAD_BYTES) -> bytes:
    """The first bytes, however small the pieces that come. A stream that breaks here breaks again when read on."""
    parts: list[bytes] = []
    while size > 0:
        try:
            part = stream.read(size)
        except StreamBroken:
            break
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def buffered(raw: io.RawIOBase) -> io.BufferedReader:
    return io.BufferedReader(raw, MIB)


def spooled(stream: Readable) -> BinaryIO:
    """A seekable copy on disk, for file types that are read from their end."""
    copy = tempfile.TemporaryFile()  # noqa: SIM115 (closed by whoever drops the last reference)
    while part := stream.read(MIB):
        copy.write(part)
    copy.seek(0)
    return cast(BinaryIO, copy)


class TooLong(bytes):
    """Stands for a line that was skipped because it passed the limit; `n_bytes` is what it measured."""

    n_bytes: int = 0


def bounded_lines(reader: io.BufferedReader, limits: Limits) -> Iterator[tuple[int, bytes]]:
    """(line number, line with its ending). A line over the limit comes as an empty TooLong, never in memory."""
    number = 0
    while line := reader.readline(limits.max_row_bytes + 1):
        number += 1
        if len(line) <= limits.max_row_bytes or line.endswith(b"\n"):
            yield number, line
            continue
        marker = TooLong()
        marker.n_bytes = len(line)
        while part := reader.readline(MIB):
            marker.n_bytes += len(part)
            if part.endswith(b"\n"):
                break
        yield number, marker
