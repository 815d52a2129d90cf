"""What every demo row has in common: its split, and the order of its responses."""

from __future__ import annotations

import hashlib
import json
from random import Random
from typing import Any

Row = dict[str, Any]
TEST_SHARE = 0.2


def split_of(prompt: str | list[dict[str, str]]) -> str:
    """`test` or `train`, from the prompt alone, so that it never changes with the seed or the other rows."""
    text = json.dumps(prompt, ensure_ascii=False)
    part = hashlib.sha256(text.encode()).digest()[0] / 256
    return "test" if part < TEST_SHARE else "train"


def shuffled(responses: list[Row], *, rng: Random) -> list[Row]:
    """A copy in random order: the place of a response says nothing about its quality."""
    return rng.sample(responses, k=len(responses))
