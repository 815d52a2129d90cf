"""What reading an uploaded file gives: rows, rows that could not be read, or a file that cannot be read at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MIB = 1024 * 1024


def size_words(n_bytes: int) -> str:
    """A size as people say it: 20 GiB, 1.5 MiB, 300 bytes."""
    for unit, size in (("GiB", 1024 * MIB), ("MiB", MIB), ("KiB", 1024)):
        if n_bytes >= size:
            return f"{n_bytes / size:.4g} {unit}"
    return f"{n_bytes} bytes"


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a file a reader may hold or produce.

    Attributes
    ----------
    max_row_bytes
        Longest row kept; a longer one is skipped in bounded memory and reported.
    max_bytes
        Most bytes read from the file after decompression.
    max_ratio
        Most decompressed bytes per compressed byte; judged once `ratio_floor_bytes` have come out.
    """

    max_row_bytes: int = 16 * MIB
    max_bytes: int = 64 * 1024 * MIB
    max_ratio: float = 300.0
    ratio_floor_bytes: int = 64 * MIB


class FileError(Exception):
    """The file as a whole cannot be read. `detail` says what was met and what to do about it."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class StreamBroken(Exception):
    """The bytes end early or turn to garbage: rows already read are good, nothing after this point is."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Row:
    """One row: `line` is the physical line it starts on (in a JSON array or Parquet file, the row's number)."""

    line: int
    data: dict[str, Any]
    size: int


@dataclass(frozen=True, slots=True)
class RowError:
    """One row that was not kept, and why; `excerpt` is its start, where there is something to show."""

    line: int
    code: str
    detail: str
    excerpt: str = ""
