"""One prompt with any number of responses, scored, ranked or plain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any, ClassVar

from workers.data.columns import (
    PROMPT_NAMES,
    finite,
    is_messages,
    listed,
    named,
    response_from,
    share_fitting,
    take_id,
    take_prompt,
)
from workers.data.examples import ParsedExample, ParsedPreference, ParsedResponse, RowProblem, refuse_identical
from workers.data.formats import FORMATS
from workers.data.rows import Row

LIST_NAMES = ("responses", "completions", "answers", "candidates", "outputs")
SCORE_NAMES = ("score", "rating", "overall_score", "reward")
RANK_NAMES = ("rank", "ranking")
COLUMN_LISTS = {
    "scores": "score",
    "ratings": "rating",
    "rewards": "reward",
    "ranks": "rank",
    "ranking": "rank",
    "models": "model",
}
MAX_ALL_PAIRS = 24


@FORMATS.add("responses")
class PromptWithResponses:
    """A prompt and a list of `responses`: texts, or objects with the text, the `model` and anything else.

    The text of an object stands in `content`, `text` or `response`. Where responses carry a number in `score` or
    `rating` (higher is better) or `rank` (lower is better), every two of them give a known preference, equal numbers a
    tie. Lists beside the responses (`scores`, `ranks`, `models`) are read the same way. One response is enough; above
    24 scored responses only neighbours in the order are compared.

    {"prompt": "Can ducks fly?", "responses": [
        {"text": "Most can.", "model": "m1", "score": 4.5}, {"text": "No.", "model": "m2", "score": 1}]}
    """

    title: ClassVar[str] = "Prompt with responses"
    columns: ClassVar[str] = "prompt and responses, a list of texts or of objects"
    example: ClassVar[dict[str, Any]] = {
        "prompt": "Can ducks fly?",
        "responses": [
            {"text": "Most can.", "model": "m1", "score": 4.5},
            {"text": "No.", "model": "m2", "score": 1},
        ],
    }

    def matches(self, rows: Sequence[Mapping[str, Any]]) -> float:
        return 0.85 * share_fitting(rows, (_fits(row) for row in rows))

    def parse(self, row: Row) -> ParsedExample:
        meta = dict(row.data)
        name = named(meta, LIST_NAMES)
        values = listed(meta.pop(name, None))
        if not isinstance(values, list) or not values:
            raise RowProblem("missing_response", f"{name or 'responses'} is not a list with at least one response")
        prompt = take_prompt(meta)
        responses = [response_from(value, column=f"{name}[{index}]") for index, value in enumerate(values)]
        _spread_lists(meta, responses)
        example = ParsedExample(prompt, responses, known_preferences(responses), meta, take_id(meta), row.line)
        refuse_identical(example)  # equal texts with unequal scores; with equal scores they are a tie like any other
        return example


def _fits(row: Mapping[str, Any]) -> bool:
    values = listed(row.get(named(row, LIST_NAMES)))
    return bool(named(row, PROMPT_NAMES)) and isinstance(values, list) and bool(values) and not is_messages(values)


def _spread_lists(meta: dict[str, Any], responses: list[ParsedResponse]) -> None:
    """Move lists that run beside the responses into them."""
    for column, key in COLUMN_LISTS.items():
        values = listed(meta.get(column))
        if not isinstance(values, list):
            continue
        if len(values) != len(responses):
            raise RowProblem("lengths_differ", f"{column} has {len(values)} entries for {len(responses)} responses")
        del meta[column]
        for response, value in zip(responses, values, strict=True):
            if key == "model":
                response.source_model = str(value)
            else:
                response.meta[key] = value


def known_preferences(responses: Sequence[ParsedResponse]) -> list[ParsedPreference]:
    """Preferences that follow from the responses' own numbers; responses without a number take part in none."""
    ordered = [
        (merit, index) for index, response in enumerate(responses) if (merit := _merit(response, index)) is not None
    ]
    if len(ordered) <= MAX_ALL_PAIRS:
        pairs = list(combinations(ordered, 2))
    else:
        ordered.sort(key=lambda entry: -entry[0])
        pairs = list(pairwise(ordered))
    return [ParsedPreference(i, j, "a" if a > b else "b" if b > a else "tie") for (a, i), (b, j) in pairs]


def _merit(response: ParsedResponse, index: int) -> float | None:
    for names, sign in ((SCORE_NAMES, 1.0), (RANK_NAMES, -1.0)):
        name = named(response.meta, names)
        value = response.meta.get(name)
        if value is not None and not isinstance(value, (dict, list)):
            number = finite(value, column=f"{name} of response {index + 1}")
            return None if number is None else sign * number
    return None
