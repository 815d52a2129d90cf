"""Explicit pairs: a prompt, a chosen text and a rejected text, or lists of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from workers.data.columns import (
    PROMPT_NAMES,
    as_turns,
    finite,
    is_messages,
    named,
    response_from,
    share_fitting,
    take_id,
    take_prompt,
)
from workers.data.examples import ParsedExample, ParsedPreference, ParsedResponse, RowProblem, refuse_identical
from workers.data.formats import FORMATS
from workers.data.rows import Row

CHOSEN_NAMES = ("chosen", "r_chosen", "pos_answer", "chosen_response", "preferred")
REJECTED_NAMES = ("rejected", "r_reject", "r_rejected", "neg_answer", "rejected_response", "dispreferred")


@FORMATS.add("pairs")
class ExplicitPairs:
    """A prompt with a `chosen` and a `rejected` text, or lists of them: then every chosen one beats every rejected one.

    Responses from lists keep their place in the list as `index` in their metadata (in RM-Bench: its style). The column
    `preference_strength` (1 slightly, 2 clearly, 3 much) is kept with the preference. Read as the same thing:
    `r_chosen` and `r_reject` with `i_chosen` and `i_reject` as prompt; `pos_answer` and `neg_answer` with `question`;
    objects that hold the text and facts about it.

    {"prompt": "Can ducks fly?", "chosen": "Most can.", "rejected": "No.", "preference_strength": 2}
    """

    title: ClassVar[str] = "Explicit pairs"
    columns: ClassVar[str] = "prompt, chosen and rejected as texts (or lists of texts)"
    example: ClassVar[dict[str, Any]] = {
        "prompt": "Can ducks fly?",
        "chosen": "Most can.",
        "rejected": "No.",
        "preference_strength": 2,
    }

    def matches(self, rows: Sequence[Mapping[str, Any]]) -> float:
        return 0.9 * share_fitting(rows, (_fits(row) for row in rows))

    def parse(self, row: Row) -> ParsedExample:
        meta = dict(row.data)
        _same_prompt(meta)
        chosen = _side(meta, CHOSEN_NAMES)
        rejected = _side(meta, REJECTED_NAMES)
        prompt = take_prompt(meta)
        strength = _strength(meta)
        finite(meta.get("margin"), column="margin")
        n_chosen = len(chosen)
        preferences = [
            ParsedPreference(a, n_chosen + b, "a", strength) for a in range(n_chosen) for b in range(len(rejected))
        ]
        example = ParsedExample(prompt, chosen + rejected, preferences, meta, take_id(meta), row.line)
        refuse_identical(example)
        return example


def _fits(row: Mapping[str, Any]) -> bool:
    chosen, rejected = row.get(named(row, CHOSEN_NAMES)), row.get(named(row, REJECTED_NAMES))
    texts = not is_messages(as_turns(chosen)) and not is_messages(as_turns(rejected))
    return bool(named(row, PROMPT_NAMES)) and chosen is not None and rejected is not None and texts


def _same_prompt(meta: dict[str, Any]) -> None:
    """Pairs that carry the prompt twice must carry the same one."""
    if "i_reject" in meta and meta.pop("i_reject") != meta.get("i_chosen"):
        raise RowProblem("prompts_differ", "i_chosen and i_reject differ; the two responses answer different prompts")


def _side(meta: dict[str, Any], names: Sequence[str]) -> list[ParsedResponse]:
    name = named(meta, names)
    value = meta.pop(name, None)
    if value is None or value == []:
        raise RowProblem("missing_response", f"{names[0]} is missing")
    if not isinstance(value, list) or is_messages(value):
        return [response_from(value, column=name)]
    responses = [response_from(item, column=f"{name}[{index}]") for index, item in enumerate(value)]
    for index, response in enumerate(responses):
        response.meta.setdefault("index", index)
    return responses


def _strength(meta: dict[str, Any]) -> int | None:
    """How much better the chosen one is, 1 to 3. A sign only repeats which side is better, as the columns say."""
    number = finite(meta.pop("preference_strength", None), column="preference_strength")
    if number is None:
        return None
    if abs(number) not in (1.0, 2.0, 3.0):
        raise RowProblem("bad_strength", f"preference_strength is {number:g}; use 1 slightly, 2 clearly or 3 much")
    return int(abs(number))
