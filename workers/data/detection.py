"""Which format a file is in, told from its first rows, with the reason in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workers.data.formats import FORMATS
from workers.data.rows import FileError

N_LOOKED_AT = 50
LEAST_CONFIDENCE = 0.4


@dataclass(frozen=True, slots=True)
class Detection:
    """The format taken, how sure that is in [0, 1], and why, for the user to read."""

    format: str
    confidence: float
    reason: str


def detect(rows: Sequence[Mapping[str, Any]], *, read_as: str = "rows") -> Detection:
    """The format that most of the first rows fit, of a file that was `read_as` CSV, JSON Lines or the like.

    Raises FileError when none does: with how the file was read, its columns, and what the known formats need.
    """
    if not rows:
        raise FileError(
            "no_rows",
            f"The file was read as {read_as}. None of the first rows could be read, so the format cannot be told.\n"
            + known_formats(),
        )
    scores = {name: format_class().matches(rows) for name, format_class in FORMATS.items()}
    name = max(scores, key=lambda key: scores[key])
    columns = ", ".join(columns_seen(rows))
    if scores[name] < LEAST_CONFIDENCE:
        raise FileError(
            "format_unknown",
            f"The file was read as {read_as}. Its columns {columns} fit no known format.\n{known_formats()}",
        )
    reason = f"{FORMATS.get(name).title}: the columns {columns} fit ({len(rows)} rows looked at, read as {read_as})"
    return Detection(name, round(scores[name], 3), reason)


def columns_seen(rows: Sequence[Mapping[str, Any]], most: int = 20) -> list[str]:
    """The columns of the first rows, in order of appearance."""
    names = list(dict.fromkeys(str(key) for row in rows for key in row))
    return names if len(names) <= most else [*names[:most], f"and {len(names) - most} more"]


def known_formats() -> str:
    """The formats with the columns each needs, one a line."""
    lines = [f"- {name}: {cls.columns}" for name, cls in FORMATS.items()]
    return "\n".join(["The columns must be those of one of these formats:", *lines])
