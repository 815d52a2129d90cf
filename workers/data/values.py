"""Checks on values as they come out of a file: what PostgreSQL and JSON cannot hold is found and named."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

MAX_DEPTH = 64
NUL = "holds a NUL character, which PostgreSQL text cannot store; remove it"
NOT_UTF8 = "is not UTF-8 text; save the file as UTF-8"
INT64_SPAN = float(2**63)


def walk(data: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """(path, value) of every key and leaf, without recursion; a path reads `responses[1].text`."""
    stack: list[tuple[str, Any, int]] = [("", data, 0)]
    while stack:
        path, value, depth = stack.pop()
        if depth > MAX_DEPTH:
            raise RecursionError(path)
        if isinstance(value, dict):
            for key, inner in value.items():
                name = f"{path}.{key}" if path else key
                yield name, key
                stack.append((name, inner, depth + 1))
        elif isinstance(value, list):
            stack.extend((f"{path}[{index}]", inner, depth + 1) for index, inner in enumerate(value))
        else:
            yield path, value


def text_problem(data: dict[str, Any]) -> tuple[str, str] | None:
    """(code, detail) of the first text that PostgreSQL cannot store, or None."""
    for path, value in walk(data):
        if not isinstance(value, str):
            continue
        shown = path.replace("\0", "\\0").encode("utf-8", "replace").decode()
        if "\0" in value:
            return "nul_character", (f"field {shown} {NUL}")
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            return "lone_surrogate", (
                f"field {shown} holds half of a surrogate pair (such as \\ud83d alone), which is no character"
            )
    return None


def value_problem(data: dict[str, Any]) -> tuple[str, str] | None:
    """(code, detail) of the first value that JSON does not have (NaN, infinity, bytes), or None."""
    for path, value in walk(data):
        if isinstance(value, float) and not math.isfinite(value):
            return (
                "number_not_finite",
                f"field {path} holds {value}, which JSON does not have; write null instead",
            )
        if isinstance(value, bytes):
            return "binary_value", f"field {path} holds binary data, which is not imported; leave that column out"
    return None


def may_have_lost_digits(data: dict[str, Any]) -> bool:
    """True when a number is so large that the fast parser may have rounded an integer to a float.

    Raises RecursionError for values nested deeper than MAX_DEPTH.
    """
    level: list[Any] = [data]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for container in level:
            for value in container.values() if type(container) is dict else container:
                kind = type(value)
                if kind is dict or kind is list:
                    inner.append(value)
                elif kind is float and abs(value) >= INT64_SPAN:
                    return True
        if not inner:
            return False
        level = inner
    raise RecursionError


def json_ready(value: Any) -> Any:
    """A Parquet value in JSON's types: dates as ISO text, durations in seconds, decimals and UUIDs as text."""
    if isinstance(value, dict):
        return {str(key): json_ready(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_ready(inner) for inner in value]
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (Decimal, UUID)):
        return str(value)
    return value
