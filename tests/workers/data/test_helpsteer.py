"""HelpSteer's files: neighbours of one prompt are compared, odd rows are named by their line."""

import io
import json
from typing import Any

import pytest

from workers.data.examples import ParsedExample
from workers.data.importing import open_examples
from workers.data.rows import RowError


def verdicts(example: ParsedExample) -> list[tuple[int, int, str]]:
    return [(p.a_index, p.b_index, p.verdict) for p in example.preferences]


def helpsteer(*rows: tuple[str, str, Any]) -> list[ParsedExample | RowError]:
    """Rows of (prompt, response, helpfulness) in the published columns, read as a file."""
    columns = ("prompt", "response", "helpfulness")
    raw = "\n".join(json.dumps(dict(zip(columns, row, strict=True), verbosity=1)) for row in rows).encode()
    return list(open_examples(io.BytesIO(raw), name="h.jsonl").examples)


def test_helpsteer_joins_neighbours_of_one_prompt() -> None:
    items = helpsteer(
        ("p", "a", 4), ("p", "b", 2), ("p", "b", 1), ("p", "a", 4), ("p", "c", 2), ("q", "d", -100), ("q", "e", 0)
    )
    examples = [item for item in items if isinstance(item, ParsedExample)]
    assert [(item.line, item.code) for item in items if isinstance(item, RowError)] == [
        (3, "identical_responses"),
        (4, "identical_responses"),
    ]
    assert [len(example.responses) for example in examples] == [3, 2]
    assert verdicts(examples[0]) == [(0, 1, "a"), (0, 2, "a"), (1, 2, "tie")]
    assert examples[0].responses[0].meta == {"helpfulness": 4.0, "verbosity": 1.0}
    assert verdicts(examples[1]) == []
    assert examples[1].responses[0].meta == {"verbosity": 1.0}


@pytest.mark.parametrize(
    ("rows", "line", "code"),
    [
        ([("p", "a", 4), ("p", "b", 2), ("q", "c", 1)], 3, "no_partner"),
        ([("q", "c", 1), ("p", "a", 4), ("p", "b", 2)], 1, "no_partner"),
        ([("p", "a", 4), ("p", "b", 2), ("P", "c", 1), ("p", "d", 1), ("p", "e", 1)], 3, "no_partner"),
        ([("p", "a", 4), ("p", "b", 2), ("p", "c", 5)], 3, "rating_out_of_range"),
        ([("p", "a", -1), ("p", "b", 2), ("p", "c", 1)], 1, "rating_out_of_range"),
        ([("p", "a", 4), ("p", "b", 2), ("p", "c", "good")], 3, "score_not_a_number"),
        ([("p", "a", 4), ("p", "b", 2), ("p", "c", "nan")], 3, "score_not_finite"),
    ],
)
def test_odd_helpsteer_rows_are_named_by_line(rows: list[tuple[str, str, Any]], line: int, code: str) -> None:
    items = helpsteer(*rows)
    assert [(item.line, item.code) for item in items if isinstance(item, RowError)] == [(line, code)]
    kept = [item for item in items if isinstance(item, ParsedExample)]
    assert sum(len(example.responses) for example in kept) == len(rows) - 1


def test_a_row_whose_partner_is_refused_says_that_it_stands_alone() -> None:
    alone, refused = sorted(helpsteer(("p", "a", 4), ("p", "b", 9)), key=lambda item: item.line)
    assert isinstance(alone, RowError)
    assert isinstance(refused, RowError)
    assert (alone.line, alone.code) == (1, "no_partner")
    assert "that could be read" in alone.detail
    assert refused.detail == "helpfulness is 9, not from 0 to 4; repair the rating"


def test_helpsteer2_preference_keeps_sign_strength_and_words() -> None:
    """-3 says that response 1 is much better; what stands beside the label stays with the example."""
    words = {"preference_statement": "Response 1 is clearer.", "preference_elaboration": "It names the rule."}
    pair = {"prompt": "q", "response_1": "x", "response_2": "y", "split": "train", **words}
    raw = "\n".join(json.dumps({**pair, "preference_strength": said}) for said in (*range(-3, 4), -100)).encode()
    *items, neither = open_examples(io.BytesIO(raw), name="p.jsonl").examples
    for said, example in zip(range(-3, 4), items, strict=True):
        assert isinstance(example, ParsedExample)
        [preference] = example.preferences
        assert [response.messages[0]["content"] for response in example.responses] == ["x", "y"]
        assert {"a": -1, "b": 1, "tie": 0}[preference.verdict] * (preference.preference_strength or 0) == said
        assert example.meta == {**words, "split": "train"}
    assert isinstance(neither, RowError)
    assert (neither.line, neither.code) == (8, "unknown_label")
