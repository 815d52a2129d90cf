"""Two responses side by side with a label that says which is better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from workers.data.columns import (
    PROMPT_NAMES,
    as_turns,
    is_messages,
    messages_from,
    named,
    response_from,
    share_fitting,
    take,
    take_id,
    take_prompt,
)
from workers.data.examples import ParsedExample, ParsedPreference, ParsedResponse, RowProblem, refuse_identical
from workers.data.formats import FORMATS
from workers.data.labels import Label, label_from, signed_label
from workers.data.rows import Row
from workers.data.schema import Message
from workers.data.transcripts import split_shared

SIDES = (
    ("response_a", "response_b"),
    ("response_A", "response_B"),
    ("response1", "response2"),
    ("response_1", "response_2"),
    ("output_1", "output_2"),
    ("completion_a", "completion_b"),
    ("answer_a", "answer_b"),
    ("conversation_a", "conversation_b"),
    ("result_x", "result_y"),
)
NUMBERED_SIDES = (("response1", "response2"), ("response_1", "response_2"), ("output_1", "output_2"))
MODEL_SIDES = (
    ("model_a", "model_b"),
    ("source_model_a", "source_model_b"),
    ("model_1", "model_2"),
    ("model_x", "model_y"),
)
LABEL_NAMES = ("label", "verdict", "winner", "preference")
SIGNED_NAMES = ("overall_preference", "preference_strength")
ONE_HOT = {"winner_model_a": "a", "winner_model_b": "b", "winner_tie": "tie"}


@FORMATS.add("judged_pairs")
class JudgedPairs:
    """A prompt or question, `response_A` and `response_B`, and a `label` that says which is better.

    Labels: `A>B`, `B>A`, `A=B`, or `a`, `b`, `tie`, `both_bad`. Arena files (`conversation_a`, `conversation_b` and
    `winner`) and HelpSteer3 (`context`, `response1`, `response2` and `overall_preference` from -3 to 3) are read too.
    A row without a label gives two responses to be judged.

    {"question": "Can ducks fly?", "response_A": "Most can.", "response_B": "No.", "label": "A>B",
     "response_model": "m1"}
    """

    title: ClassVar[str] = "Judged pairs"
    columns: ClassVar[str] = "prompt or question, response_a and response_b, and a label such as A>B"
    example: ClassVar[dict[str, Any]] = {
        "question": "Can ducks fly?",
        "response_A": "Most can.",
        "response_B": "No.",
        "label": "A>B",
        "response_model": "m1",
    }

    def matches(self, rows: Sequence[Mapping[str, Any]]) -> float:
        return 0.9 * share_fitting(rows, (_fits(row) for row in rows))

    def parse(self, row: Row) -> ParsedExample:
        meta = dict(row.data)
        names = _sides(meta)
        if not names:
            raise RowProblem("missing_response", "the columns response_a and response_b are missing")
        values = [as_turns(meta.pop(name)) for name in names]
        label = _label(meta, numbered=names in NUMBERED_SIDES)
        prompt, responses = _prompt_and_responses(meta, names, values)
        _name_models(meta, responses)
        preferences = [] if label is None else [ParsedPreference(0, 1, label.verdict, label.preference_strength)]
        example = ParsedExample(prompt, responses, preferences, meta, take_id(meta), row.line)
        refuse_identical(example)
        return example


def _sides(row: Mapping[str, Any]) -> tuple[str, ...]:
    return next((names for names in SIDES if all(name in row for name in names)), ())


def _fits(row: Mapping[str, Any]) -> bool:
    names = _sides(row)
    return bool(names) and (bool(named(row, PROMPT_NAMES)) or names == ("conversation_a", "conversation_b"))


def _label(meta: dict[str, Any], *, numbered: bool) -> Label | None:
    for name in SIGNED_NAMES:
        if meta.get(name) not in (None, ""):
            return signed_label(meta.pop(name), column=name)
    for name in LABEL_NAMES:
        if meta.get(name) not in (None, ""):
            return label_from(meta.pop(name), column=name, numbered=numbered)
    hot = [verdict for name, verdict in ONE_HOT.items() if str(meta.get(name, 0)) in ("1", "1.0", "True")]
    if len(hot) != 1:
        return None
    for name in ONE_HOT:
        meta.pop(name, None)
    return Label(hot[0])


def _prompt_and_responses(
    meta: dict[str, Any], names: Sequence[str], values: Sequence[Any]
) -> tuple[list[Message], list[ParsedResponse]]:
    turns = [messages_from(value) if is_messages(value) else [] for value in values]
    if all(turn and turn[0]["role"] != "assistant" for turn in turns):
        prompt, values = split_shared(turns)
    else:
        prompt = take_prompt(meta)
    return prompt, [response_from(value, column=name) for name, value in zip(names, values, strict=True)]


def _name_models(meta: dict[str, Any], responses: Sequence[ParsedResponse]) -> None:
    shared = take(meta, ("response_model",))
    for names in MODEL_SIDES:
        if all(isinstance(meta.get(name), (str, int)) for name in names):
            for response, name in zip(responses, names, strict=True):
                response.source_model = str(meta.pop(name))
            return
    for response in responses:
        response.source_model = response.source_model or str(shared or "")
