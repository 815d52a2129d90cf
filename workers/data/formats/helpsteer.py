"""HelpSteer and HelpSteer2: one response a row, five attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from workers.data.columns import finite, response_from, share_fitting, take_id, take_prompt
from workers.data.examples import ParsedExample, ParsedPreference, RowProblem
from workers.data.formats import FORMATS
from workers.data.rows import Row

ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
MOST, MISSING = 4, -100
"""The scale is 0 to 4; NeMo's copies of these files write -100 where there is no rating."""


@FORMATS.add("helpsteer")
class HelpSteerRows:
    """One `response` a row with five attributes from 0 to 4; neighbouring rows of one prompt become one example.

    The attributes stay with each response. `helpfulness` gives the known preferences inside an example, equal values a
    tie; -100 is no rating. Refused are a rating outside of 0 to 4, a response that its prompt has already, and a row
    that no neighbour shares its prompt with: sort the file by prompt first.

    {"prompt": "Can ducks fly?", "response": "Most can.", "helpfulness": 4, "correctness": 4, "coherence": 4,
     "complexity": 1, "verbosity": 1}
    """

    title: ClassVar[str] = "HelpSteer rows"
    columns: ClassVar[str] = "prompt, response, helpfulness, correctness, coherence, complexity, verbosity"
    example: ClassVar[dict[str, Any]] = {
        "prompt": "Can ducks fly?",
        "response": "Most can.",
        "helpfulness": 4,
        "correctness": 4,
        "coherence": 4,
        "complexity": 1,
        "verbosity": 1,
    }

    def matches(self, rows: Sequence[Mapping[str, Any]]) -> float:
        needed = {"prompt", "response", "helpfulness"}
        return 0.95 * share_fitting(rows, (needed <= set(row) for row in rows))

    def parse(self, row: Row) -> ParsedExample:
        meta = dict(row.data)
        response = response_from(meta.pop("response", None), column="response")
        for name in ATTRIBUTES:
            value = finite(meta.pop(name, None), column=name)
            if value is not None and value != MISSING:
                response.meta[name] = _on_scale(value, column=name)
        return ParsedExample(take_prompt(meta), [response], [], meta, take_id(meta), row.line)

    def joins(self, example: ParsedExample, following: ParsedExample) -> bool:
        return example.prompt == following.prompt

    def join(self, example: ParsedExample, following: ParsedExample) -> ParsedExample:
        """Add the next row's response, with what its helpfulness says against each response before it."""
        new = following.responses[0]
        if any(response.messages == new.messages for response in example.responses):
            raise RowProblem("identical_responses", "this prompt has the same response already; leave the row out")
        merit = new.meta.get("helpfulness")
        for index, response in enumerate(example.responses):
            other = response.meta.get("helpfulness")
            if merit is not None and other is not None:
                verdict = "a" if other > merit else "b" if merit > other else "tie"
                example.preferences.append(ParsedPreference(index, len(example.responses), verdict))
        example.responses.append(new)
        return example

    def check_joined(self, example: ParsedExample) -> None:
        if len(example.responses) == 1:
            raise RowProblem(
                "no_partner",
                "no neighbouring row that could be read has the same prompt; put the rows of a prompt next to each"
                " other, or import single rated responses in the format responses",
            )


def _on_scale(value: float, *, column: str) -> float:
    if not 0 <= value <= MOST:
        raise RowProblem("rating_out_of_range", f"{column} is {value:g}, not from 0 to {MOST}; repair the rating")
    return value
