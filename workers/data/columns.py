"""Readings of columns that several formats share: prompts, responses, ids, numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from workers.data.examples import ParsedResponse, RowProblem
from workers.data.schema import Message
from workers.data.transcripts import is_transcript, transcript_messages
from workers.data.values import text_problem, value_problem

PROMPT_NAMES = ("prompt", "question", "instruction", "context", "query", "input", "text", "i_chosen")
SYSTEM_NAMES = ("system_prompt", "system")
ID_NAMES = (
    "uid",
    "id",
    "example_id",
    "pair_id",
    "prompt_id",
    "source_id",
    "instance_id",
    "question_id",
    "idx",
    "index",
)
TEXT_NAMES = ("content", "text", "response", "answer", "completion", "output", "messages")
MODEL_NAMES = ("model", "source_model", "model_id", "model_name", "generator")
ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
}


def share_fitting(rows: Sequence[Mapping[str, Any]], fits: Iterable[bool]) -> float:
    """Share of the rows that fit a format, in [0, 1]."""
    return sum(fits) / len(rows) if rows else 0.0


def take(data: dict[str, Any], names: Iterable[str]) -> Any:
    """Remove and return the first named value that is there and not empty."""
    for name in names:
        if data.get(name) not in (None, "", []):
            return data.pop(name)
    return None


def named(data: Mapping[str, Any], names: Iterable[str]) -> str:
    """The first of the names that is a column of this row, or an empty text."""
    return next((name for name in names if name in data), "")


def listed(value: Any) -> Any:
    """A list written as JSON text in a CSV cell becomes the list; anything else stays as it is."""
    if isinstance(value, str) and value[:1] == "[":
        try:
            parsed = json.loads(value)
            is_sound = not (text_problem({"": parsed}) or value_problem({"": parsed}))
        except (ValueError, RecursionError):
            return value
        return parsed if is_sound else value
    return value


def as_turns(value: Any) -> Any:
    """A list of turns, also where it is written as JSON text; any other value, such as a text like "[1, 2]", stays."""
    turns = listed(value)
    return turns if is_messages(turns) else value


def is_messages(value: Any) -> bool:
    """True for a non-empty list of {role, content} (or ShareGPT's {from, value})."""
    return bool(
        isinstance(value, list)
        and value
        and all(isinstance(turn, dict) and ("role" in turn or "from" in turn) for turn in value)
    )


def messages_from(value: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Check and normalise a list of turns; texts stay byte for byte."""
    return [_message(turn) for turn in value]


def _message(turn: Mapping[str, Any]) -> Message:
    role = str(turn.get("role", turn.get("from", ""))).lower()
    if role not in ROLES:
        raise RowProblem("unknown_role", f"role {role!r} is not known; use system, user, assistant or tool")
    content = turn.get("content", turn.get("value"))
    if isinstance(content, list) and len(content) == 1 and isinstance(content[0], dict):
        content = content[0].get("text")  # one text part, as chat APIs write it
    if not isinstance(content, str):
        raise RowProblem(
            "unsupported_content", f"a {role} turn has no text content; images and tool calls are not imported"
        )
    return {"role": ROLES[role], "content": content}


def user(text: str) -> list[Message]:
    return [{"role": "user", "content": text}]


def assistant(text: str) -> list[Message]:
    return [{"role": "assistant", "content": text}]


def take_prompt(data: dict[str, Any]) -> list[Message]:
    """The prompt of a row as messages, from a text, a transcript or a list of turns; a system text comes first."""
    name = next((name for name in PROMPT_NAMES if _is_prompt(data.get(name))), "")
    if not name:
        found = named(data, PROMPT_NAMES)
        raise RowProblem(
            "missing_prompt", f"the prompt is missing: {f'{found} is empty' if found else 'no column prompt'}"
        )
    value = as_turns(data.pop(name))
    if isinstance(value, list):
        return messages_from(value)
    if is_transcript(value):
        turns = transcript_messages(value)
        waiting = turns[-1]["role"] == "assistant" and not turns[-1]["content"].strip()
        return turns[:-1] if waiting else turns
    if name == "instruction" and isinstance(extra := data.get("input"), str) and extra:
        value = f"{value}\n\n{data.pop('input')}"
    return _system(data) + user(value)


def _is_prompt(value: Any) -> bool:
    return (isinstance(value, str) and value != "") or is_messages(value)


def _system(data: dict[str, Any]) -> list[Message]:
    name = next((name for name in SYSTEM_NAMES if isinstance(data.get(name), str)), "")
    text = data.pop(name) if name else ""
    return [{"role": "system", "content": text}] if text else []


def response_from(value: Any, *, column: str) -> ParsedResponse:
    """One response written as a text, a list of turns, or an object with a text and facts about it."""
    if isinstance(value, str):
        return _checked(ParsedResponse(assistant(value)), column)
    if is_messages(value):
        return _checked(ParsedResponse(messages_from(value)), column)
    if isinstance(value, dict):
        facts = dict(value)
        text = facts.pop(named(facts, TEXT_NAMES), None)
        model = take(facts, MODEL_NAMES)
        inner = response_from(text, column=column)
        return ParsedResponse(inner.messages, str(model or ""), facts)
    raise RowProblem("missing_response", f"{column} holds no response text")


def _checked(response: ParsedResponse, column: str) -> ParsedResponse:
    if not any(message["content"] for message in response.messages):
        raise RowProblem("empty_response", f"{column} is empty; leave the row out (a single space would be kept)")
    return response


def take_id(data: dict[str, Any]) -> str:
    """The row's own identifier, as text."""
    name = next((name for name in ID_NAMES if isinstance(data.get(name), (str, int, float))), "")
    value = data.pop(name) if name else ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def finite(value: Any, *, column: str) -> float | None:
    """A number, or None where there is none. Refuses NaN and infinity; reads numbers written as text (CSV)."""
    if value is None or value == "" or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise RowProblem("score_not_a_number", f"{column} holds {value!r}, which is not a number") from None
    if not math.isfinite(number):
        raise RowProblem("score_not_finite", f"{column} holds {number}; give a number or leave it out")
    return number
