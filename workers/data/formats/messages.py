"""Conversational lists: turns with roles, as TRL and chat APIs write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from workers.data.columns import (
    as_turns,
    is_messages,
    messages_from,
    response_from,
    share_fitting,
    take_id,
    take_prompt,
)
from workers.data.examples import ParsedExample, ParsedPreference, ParsedResponse, RowProblem, refuse_identical
from workers.data.formats import FORMATS
from workers.data.rows import Row
from workers.data.schema import Message
from workers.data.transcripts import split_shared

WHOLE_NAMES = ("messages", "conversations", "conversation")


@FORMATS.add("messages")
class ConversationalLists:
    """Lists of turns `{"role", "content"}` in `chosen` and `rejected`; the prompt is a list too, or their shared start.

    ShareGPT's `from` and `value` are read too. A row with one whole conversation in `messages` gives one response: its
    last assistant turn.

    {"prompt": [{"role": "user", "content": "Can ducks fly?"}],
     "chosen": [{"role": "assistant", "content": "Most can."}], "rejected": [{"role": "assistant", "content": "No."}]}
    """

    title: ClassVar[str] = "Conversational lists"
    columns: ClassVar[str] = (
        "chosen and rejected as lists of {role, content}, prompt likewise or left out; or messages alone"
    )
    example: ClassVar[dict[str, Any]] = {
        "prompt": [{"role": "user", "content": "Can ducks fly?"}],
        "chosen": [{"role": "assistant", "content": "Most can."}],
        "rejected": [{"role": "assistant", "content": "No."}],
    }

    def matches(self, rows: Sequence[Mapping[str, Any]]) -> float:
        return share_fitting(rows, (_is_pair(row) or _whole_name(row) != "" for row in rows))

    def parse(self, row: Row) -> ParsedExample:
        meta = dict(row.data)
        if not _is_pair(meta) and (name := _whole_name(meta)):
            prompt, responses = _last_turn(messages_from(as_turns(meta.pop(name))))
            return ParsedExample(prompt, responses, [], meta, take_id(meta), row.line)
        sides = [_side(meta, "chosen"), _side(meta, "rejected")]
        prompt, turns = _split(meta, sides)
        responses = [response_from(side, column=name) for side, name in zip(turns, ("chosen", "rejected"), strict=True)]
        example = ParsedExample(prompt, responses, [ParsedPreference(0, 1, "a")], meta, take_id(meta), row.line)
        refuse_identical(example)
        return example


def _is_pair(row: Mapping[str, Any]) -> bool:
    return all(is_messages(as_turns(row.get(name))) for name in ("chosen", "rejected"))


def _whole_name(row: Mapping[str, Any]) -> str:
    return next((name for name in WHOLE_NAMES if is_messages(as_turns(row.get(name)))), "")


def _side(meta: dict[str, Any], name: str) -> list[Message]:
    value = as_turns(meta.pop(name, None))
    if not is_messages(value):
        raise RowProblem("missing_response", f"{name} is not a list of turns with role and content")
    return messages_from(value)


def _split(meta: dict[str, Any], sides: list[list[Message]]) -> tuple[list[Message], list[list[Message]]]:
    """Prompt and responses. Sides that start with a user turn are whole conversations; a prompt repeats their start."""
    if all(side[0]["role"] != "assistant" for side in sides):
        prompt, turns = split_shared(sides)
        repeated = meta.get("prompt")
        if as_turns(repeated) == prompt or any(turn["content"] == repeated for turn in prompt):
            meta.pop("prompt")
        return prompt, turns
    return take_prompt(meta), sides


def _last_turn(turns: list[Message]) -> tuple[list[Message], list[ParsedResponse]]:
    place = len(turns) - 1
    while place > 0 and turns[place]["role"] == "assistant" and turns[place - 1]["role"] == "assistant":
        place -= 1
    if place <= 0 or turns[place]["role"] != "assistant":
        raise RowProblem("missing_response", "the conversation does not end with an assistant turn after a prompt")
    return turns[:place], [response_from(turns[place:], column="the last turn")]
