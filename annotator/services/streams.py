"""Byte streams of uploads: seekable ones made of any, a fingerprint, and a count of what was read."""

from __future__ import annotations

import hashlib
import io
import os
from typing import Any, BinaryIO, cast

from workers.data.rows import MIB
from workers.data.source import spooled


def seekable(stream: Any) -> BinaryIO:
    """The stream itself, or a copy on disk where it cannot be walked twice."""
    can_seek = getattr(stream, "seekable", None)
    return cast(BinaryIO, stream) if can_seek and can_seek() else spooled(stream)


def fingerprint(stream: BinaryIO) -> tuple[str, int]:
    """(SHA-256 in hex, number of bytes) of a seekable stream, which is left at its start."""
    digest, n_bytes = hashlib.sha256(), 0
    stream.seek(0)
    while part := stream.read(MIB):
        digest.update(part)
        n_bytes += len(part)
    stream.seek(0)
    return digest.hexdigest(), n_bytes


class CountingStream(io.RawIOBase):
    """Passes everything on and knows how far into the file reading has come."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.n_bytes = 0

    def as_binary(self) -> BinaryIO:
        return cast(BinaryIO, self)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.n_bytes += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()
