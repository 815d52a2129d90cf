"""Some rows of many, drawn without chance."""

from collections.abc import Sequence
from typing import TypeVar

from workers.data.schema import PreferencePair

T = TypeVar("T")


def spread(rows: Sequence[T], most: int) -> list[T]:
    """At most so many of the rows, evenly over all of them, the first and the last included; most is 2 or more."""
    if len(rows) <= most:
        return list(rows)
    return [rows[round(i * (len(rows) - 1) / (most - 1))] for i in range(most)]


def says_something(pair: PreferencePair) -> bool:
    """Whether the pair tells what somebody likes: one of two different responses was chosen."""
    return pair.verdict in ("a", "b") and pair.response_a != pair.response_b
