"""An example as a format reads it from a row: prompt, responses, known preferences; and its content hash."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import orjson

from workers.data.rows import Row
from workers.data.schema import Message

RATER_NAMES = (
    "rater", "rater_id", "annotator", "annotator_id", "evaluator", "evaluator_id", "worker", "worker_id", "labeler",
    "labeler_id", "labeller", "labeller_id", "user_id",
)  # fmt: skip
"""Columns that say who gave the row's verdict."""


class RowProblem(Exception):
    """This row cannot be imported. `detail` says which field and what to do."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


@dataclass(slots=True)
class ParsedResponse:
    """One response: the assistant turns after the prompt (usually one), who wrote it, and what else the row says."""

    messages: list[Message]
    source_model: str = ""
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class ParsedPreference:
    """A known verdict on two responses of one example, given by their places in its list."""

    a_index: int
    b_index: int
    verdict: str  # a | b | tie | both_bad
    preference_strength: int | None = None


@dataclass(slots=True)
class ParsedExample:
    """One example as it will be stored."""

    prompt: list[Message]
    responses: list[ParsedResponse]
    preferences: list[ParsedPreference] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)
    source_id: str = ""
    line: int = 0


class Format(Protocol):
    """One way of writing examples down. `example` is a worked row, shown in the documentation and tested."""

    title: ClassVar[str]
    columns: ClassVar[str]
    example: ClassVar[dict[str, Any]]

    def matches(self, rows: Sequence[Mapping[str, Any]]) -> float: ...

    def parse(self, row: Row) -> ParsedExample: ...


def refuse_identical(example: ParsedExample) -> None:
    """A strict preference between two equal responses is a mistake in the data, never something to learn from."""
    for preference in example.preferences:
        if preference.verdict in ("a", "b"):
            a, b = example.responses[preference.a_index], example.responses[preference.b_index]
            if a.messages == b.messages:
                raise RowProblem(
                    "identical_responses", "the chosen and the rejected response are the same text; leave the row out"
                )


def content_hash(example: ParsedExample) -> bytes:
    """16 bytes that are equal for two examples that say the same.

    What counts: the prompt, the set of responses, the known verdicts on them and, where the row names one, whose they
    are. What does not: the order of the responses (a pair written B, A is the same pair), ids, model names, other
    metadata. So the verdict of a second rater is not a duplicate, be it the same or another.
    """
    keys = [_digest(response.messages) for response in example.responses]
    verdicts = sorted(_verdict_key(preference, keys) for preference in example.preferences)
    says = [example.prompt, sorted(key.hex() for key in keys), verdicts]
    rater = _rater(example) if verdicts else ""
    return _digest([*says, rater] if rater else says)


def _rater(example: ParsedExample) -> str:
    """Who judged, as the row's own column names them; empty where none does."""
    names = {name.casefold(): name for name in example.meta if name.casefold() in RATER_NAMES}
    told = (example.meta[names[name]] for name in RATER_NAMES if name in names)
    return next((str(value) for value in told if isinstance(value, str | int | float) and value != ""), "")


def _verdict_key(preference: ParsedPreference, keys: Sequence[bytes]) -> list[str]:
    a, b, verdict = keys[preference.a_index].hex(), keys[preference.b_index].hex(), preference.verdict
    if a > b:
        a, b, verdict = b, a, {"a": "b", "b": "a"}.get(verdict, verdict)
    return [a, b, verdict, str(preference.preference_strength)]


def _digest(value: Any) -> bytes:
    return hashlib.blake2b(orjson.dumps(value, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()
