"""Words, phrases and facts from which tasks are made, read once from `banks/`."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "banks"


@cache
def facts() -> dict[str, list[str]]:
    """Subject -> short true sentences about it."""
    with (FOLDER / "facts.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return {row["subject"]: row["facts"] for row in rows}


@cache
def phrases() -> dict[str, list[str]]:
    """Sentences that make a response worse: preambles, closings, refusals, evasions, ramblings."""
    found: dict[str, list[str]] = _read("phrases.json")
    return found


@cache
def words() -> dict[str, Any]:
    """Names, places, goods, groups of nouns and short phrases in four languages."""
    found: dict[str, Any] = _read("words.json")
    return found


def _read(name: str) -> Any:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))
