"""Rows from JSON Lines and from one JSON array, each row bounded in size and checked on its own."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from workers.data.rows import MIB, FileError, Limits, Row, RowError, StreamBroken
from workers.data.source import TooLong, bounded_lines
from workers.data.values import MAX_DEPTH, NOT_UTF8, may_have_lost_digits, text_problem, value_problem

OUTSIDE = re.compile(rb'["\[\]{},]')
_DEPTH = {b"[": 1, b"{": 1, b"]": -1, b"}": -1, b",": 0}
INSIDE = re.compile(rb'["\\]')


def too_long(line: int, n_bytes: int, limits: Limits) -> RowError:
    return RowError(
        line,
        "row_too_long",
        f"this row is {n_bytes / MIB:,.1f} MiB long; rows up to {limits.max_row_bytes / MIB:g} MiB are read",
    )


def parse_row(line: int, raw: bytes) -> Row | RowError:
    """One JSON object. The fast parser decides; only what it refuses or may have rounded is looked at again."""
    try:
        data = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return _explain(line, raw)
    if type(data) is not dict:
        return RowError(
            line, "not_an_object", f'this row is {_kind(data)}, not a JSON object such as {{"prompt": ...}}'
        )
    try:
        problem = text_problem(data) if b"\\u0000" in raw else None
        if problem is None and may_have_lost_digits(data):
            data = json.loads(raw)  # keeps integers beyond 64 bits exact
    except RecursionError:
        return _too_deep(line)
    if problem:
        return RowError(line, *problem)
    return Row(line, data, len(raw))


def jsonl_rows(reader: io.BufferedReader, limits: Limits) -> Iterator[Row | RowError]:
    """One row a line; blank lines are skipped."""
    for number, raw in bounded_lines(reader, limits):
        if isinstance(raw, TooLong):
            yield too_long(number, raw.n_bytes, limits)
            continue
        text = raw.strip()
        if not text:
            continue
        if text == b"{" and number == 1:
            raise FileError(
                "not_jsonl",
                "The first line is only '{': this is one JSON object over several lines. "
                "Write one object a line (JSON Lines) or one array of objects.",
            )
        yield parse_row(number, text)


def array_rows(reader: io.BufferedReader, limits: Limits) -> Iterator[Row | RowError]:
    """Elements of one JSON array, in bounded memory; `line` is the element's number, from 1."""
    chunks = iter(lambda: reader.read1(MIB), b"")
    for number, raw in enumerate(split_array(chunks, limits.max_row_bytes), start=1):
        if isinstance(raw, TooLong):
            yield too_long(number, raw.n_bytes, limits)
        else:
            yield parse_row(number, raw)


class _Element:
    """The bytes of the array element being collected; over the limit only their number is kept."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.parts: list[bytes] = []
        self.size = 0

    def add(self, part: bytes) -> None:
        self.size += len(part)
        if self.size <= self.limit:
            self.parts.append(part)
        else:
            self.parts.clear()

    def take(self) -> bytes:
        if self.size > self.limit:
            raw: bytes = TooLong()
            raw.n_bytes = self.size  # type: ignore[attr-defined]
        else:
            raw = b"".join(self.parts).strip()
        self.parts, self.size = [], 0
        return raw


def array_marks(chunk: bytes, position: int, state: list[bool]) -> Iterator[tuple[bytes, int]]:
    """(mark, its place) of each bracket and comma outside strings; `state[0]` says whether a string is open.

    The last item is an empty mark with the place where reading the next chunk must go on.
    """
    while match := (INSIDE if state[0] else OUTSIDE).search(chunk, position):
        position = match.end()
        mark = match.group()
        if mark == b'"':
            state[0] = not state[0]
        elif mark == b"\\":
            position += 1
        else:
            yield mark, match.start()
    yield b"", max(position, len(chunk)) - len(chunk)


def split_array(chunks: Iterable[bytes], limit: int) -> Iterator[bytes]:
    """The raw bytes of each element of a JSON array that arrives in chunks.

    Only brackets, commas and strings are told apart; whether an element is good JSON is for its parser to say.
    """
    depth, skip, n_elements, state = 0, 0, 0, [False]
    element = _Element(limit)
    for chunk in chunks:
        start = 0
        for mark, place in array_marks(chunk, skip, state):
            if not mark:
                skip = place
                continue
            depth += _DEPTH[mark]
            if mark == b"[" and depth == 1:
                start = place + 1
            elif (mark == b"," and depth == 1) or depth == 0:
                element.add(chunk[start:place])
                start = place + 1
                raw = element.take()
                n_elements += 1
                if depth or raw or n_elements > 1 or isinstance(raw, TooLong):
                    yield raw
            if depth == 0:
                _check_rest(chunk[start:], chunks)
                return
        element.add(chunk[start:])
    raise StreamBroken("array_not_closed", "The JSON array is never closed: a row is cut off or holds an open quote.")


def _check_rest(rest: bytes, chunks: Iterable[bytes]) -> None:
    if rest.strip() or any(chunk.strip() for chunk in chunks):
        raise StreamBroken("text_after_array", "There is text after the end of the JSON array; it was not read.")


def _explain(line: int, raw: bytes) -> Row | RowError:
    """Name what is wrong with a row the fast parser refused (or accept it, where only its digits were too many)."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        return RowError(line, "invalid_utf8", f"byte {error.start + 1} {NOT_UTF8}")
    try:
        data = json.loads(text, strict="\0" not in text)
        problem = (text_problem(data) or value_problem(data)) if isinstance(data, dict) else None
    except RecursionError:
        return _too_deep(line)
    except json.JSONDecodeError as error:
        return RowError(line, "bad_json", f"not valid JSON: {error.msg} at character {error.pos + 1}", text[:200])
    except ValueError:
        return RowError(line, "number_too_long", "a number has more digits than can be read; write it as text")
    if problem:
        return RowError(line, *problem)
    if not isinstance(data, dict):
        return RowError(line, "not_an_object", f"this row is {_kind(data)}, not a JSON object")
    return Row(line, data, len(raw))


def _too_deep(line: int) -> RowError:
    return RowError(line, "too_deep", f"values are nested more than {MAX_DEPTH} levels deep")


def _kind(data: Any) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(data), "a number")
