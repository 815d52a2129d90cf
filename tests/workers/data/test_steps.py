"""Steps: where they stand in a text, and the files with a label a step."""

from __future__ import annotations

import io
import json
from collections import Counter
from typing import Any

import pytest

from tests.shared import shared_data
from workers.data.examples import ParsedExample, RowProblem
from workers.data.formats import FORMATS
from workers.data.importing import open_examples
from workers.data.rows import Row, RowError
from workers.data.steps import locate_steps, misalignment, split_steps, steps_of_item


def parse(**columns: Any) -> ParsedExample:
    example: ParsedExample = FORMATS.get("steps")().parse(Row(1, columns, 0))
    return example


def problem(**columns: Any) -> tuple[str, str]:
    with pytest.raises(RowProblem) as raised:
        parse(**columns)
    return raised.value.code, raised.value.detail


def test_a_text_is_cut_at_lines_or_tags_and_a_blank_piece_is_no_step() -> None:
    assert split_steps("a\n\n b \nc\n") == ["a", "b", "c"]
    assert split_steps("a <s> b <s> c", "<s>") == ["a <s>", "b <s>", "c"]
    assert split_steps("a <s> b <s>\n", "<s>") == ["a <s>", "b <s>"]
    assert split_steps("  ") == ["  "]


def test_offsets_are_exact_and_equal_steps_are_found_one_after_the_other() -> None:
    text = "so 1\nso 1\n  then 2"
    found = locate_steps(text, ["so 1", "so 1", "then 2"])
    assert found is not None
    assert [(step.start, step.end) for step in found] == [(0, 4), (5, 9), (12, 18)]
    assert all(text[step.start : step.end] == step.text for step in found)
    assert locate_steps(text, ["then 2", "so 1"]) is None


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        (["a", "b c"], None),
        (["a", "x"], "steps not in the response"),
        (["a", "c"], "text between the steps"),
        (["a"], "text between the steps"),
        (["a", " ", "b c"], "an empty step"),
    ],
)
def test_misaligned_steps_are_named(steps: list[str], reason: str | None) -> None:
    assert misalignment(" a\n\nb c ", steps) == reason


@pytest.mark.parametrize("given", [None, 3, "text", [], [1, 2], {"a": 1}])
def test_metadata_that_only_happens_to_be_called_steps_is_not_taken_for_steps(given: object) -> None:
    assert steps_of_item([{"role": "assistant", "content": "a\nb"}], given) == ["a", "b"]


def test_plain_rows() -> None:
    example = parse(
        question="q",
        steps=["a", " ", "b"],
        step_labels=[True, 0, None],
        correct="wrong",
        reference_answer=42,
        topic="t",
    )
    [response] = example.responses
    assert response.messages == [{"role": "assistant", "content": "a\nb"}]
    assert response.meta == {"steps": ["a", "b"], "step_labels": [1.0, None], "correct": 0.0}
    assert example.meta == {"topic": "t", "reference": "42"}
    own = parse(prompt="q", response="a  b", steps='["a", "b"]', step_labels="[0.5, 1]", label=1)
    assert own.responses[0].messages[0]["content"] == "a  b"
    assert own.responses[0].meta["label"] == 1.0


@pytest.mark.parametrize(
    ("columns", "code", "told"),
    [
        ({"steps": ["a", "b"], "step_labels": [1]}, "steps_do_not_align", "1 step_labels for 2 steps"),
        ({"steps": ["a"], "step_labels": 1}, "steps_do_not_align", "no step_labels for 1"),
        ({"steps": ["a"], "step_labels": [1], "response": "b"}, "steps_do_not_align", "not in the response"),
        ({"steps": ["a"], "step_labels": [2]}, "bad_step_label", "holds 2"),
        ({"steps": ["a"], "step_labels": ["x"]}, "score_not_a_number", "'x'"),
        ({"steps": [" "], "step_labels": [1]}, "missing_steps", "no text"),
        ({"steps": "a", "step_labels": [1]}, "missing_steps", "not a list"),
        ({}, "missing_steps", "no columns"),
        (
            {"model_output_steps": ["a"], "model_output_solution_first_error_step": 2,
             "model_output_solution_correctness": "wrong"},
            "steps_do_not_align",
            "names step 2, and there are 1",
        ),
        ({"modified_process": ["a"], "error_steps": [0]}, "steps_do_not_align", "names step 0"),
        ({"modified_process": ["a"], "error_steps": None}, "steps_do_not_align", "not a list"),
    ],
)  # fmt: skip
def test_rows_that_are_refused(columns: dict[str, Any], code: str, told: str) -> None:
    found, detail = problem(prompt="q", **columns)
    assert found == code
    assert told in detail


def test_steps_up_to_the_first_wrong_one_are_labelled() -> None:
    row = {
        "uuid": "u",
        "question": "q",
        "ground_truth_answer": 5,
        "model_output_steps": ["Step 1: a", "Step 2: b", "Step 3: c"],
        "model_output_answer_correctness": "correct",
        "model_output_solution_correctness": "wrong",
        "model_output_solution_first_error_step": 2,
    }
    example = parse(**row)
    assert example.responses[0].meta["step_labels"] == [1.0, 0.0, None]
    assert (example.responses[0].meta["correct"], example.responses[0].meta["answer_correct"]) == (0.0, 1.0)
    assert (example.meta["reference"], example.source_id) == ("5", "u")
    right = parse(
        **{**row, "model_output_solution_correctness": "correct", "model_output_solution_first_error_step": None}
    )
    assert right.responses[0].meta["step_labels"] == [1.0, 1.0, 1.0]


def test_an_original_and_a_modified_solution_are_two_responses() -> None:
    row = {
        "idx": "p1",
        "question": "q",
        "original_question": "q",
        "modified_question": "q",
        "original_process": ["a", "b"],
        "modified_process": ["a", "x", "y"],
        "error_steps": [2],
        "reason": "r",
    }
    example = parse(**row)
    assert [response.meta["step_labels"] for response in example.responses] == [[1.0, 1.0], [1.0, 0.0, 1.0]]
    assert [(p.a_index, p.b_index, p.verdict) for p in example.preferences] == [(0, 1, "a")]
    assert example.meta == {"reason": "r"}
    other = parse(**{**row, "modified_question": "q, less"})
    assert other.prompt[0]["content"] == "q, less"
    assert len(other.responses) == 1
    assert other.preferences == []
    assert other.meta["original_process"] == ["a", "b"]


@pytest.mark.parametrize("name", FORMATS.names())
def test_a_reference_answer_stays_with_the_example_in_every_format(name: str) -> None:
    for column in ("reference", "reference_answer"):
        row = {**FORMATS.get(name).example, column: "Most can."}
        row = {k: v for k, v in row.items() if not (k == "reference_answer" and column == "reference")}
        rows = [row, {**row, "response": "Few can."}] if name == "helpsteer" else [row]  # whose rows come in pairs
        [example] = open_examples(io.BytesIO("\n".join(map(json.dumps, rows)).encode()), name="x.jsonl").examples
        assert isinstance(example, ParsedExample)
        assert [example.meta.get(key) for key in ("reference", "reference_answer")].count("Most can.") == 1


REAL = [
    # file, rows, responses, preferences, refused
    ("mr-gsm8k/Claude_eval_results.jsonl.gz", 326, 326, 0, {}),
    ("mr-gsm8k/GPT3_5_eval_results.jsonl.gz", 173, 173, 0, {}),
    ("mr-gsm8k/llama2_70b_eval_results.jsonl.gz", 323, 323, 0, {}),
    ("mr-gsm8k/metamath_70B_eval_results.jsonl.gz", 22, 22, 0, {}),
    ("prmbench/prm800k_test.modified.part.jsonl.gz", 1871, 3513, 1670, {"steps_do_not_align": 28}),
]


@pytest.mark.parametrize("expected", REAL, ids=lambda expected: expected[0])
def test_real_files_with_steps(expected: tuple[str, int, int, int, dict[str, int]]) -> None:
    name, n_rows, n_responses, n_preferences, refused = expected
    with shared_data(name).open("rb") as stream:
        opened = open_examples(stream, name=name)
        items = list(opened.examples)
    assert opened.detection.format == "steps"
    assert len(items) == n_rows
    assert Counter(item.code for item in items if isinstance(item, RowError)) == refused
    examples = [item for item in items if isinstance(item, ParsedExample)]
    responses = [response for example in examples for response in example.responses]
    assert len(responses) == n_responses
    assert sum(len(example.preferences) for example in examples) == n_preferences
    for response in responses:
        text = response.messages[0]["content"]
        assert misalignment(text, response.meta["steps"]) is None
        assert len(response.meta["steps"]) == len(response.meta["step_labels"])
        assert response.meta["correct"] == float(0.0 not in response.meta["step_labels"])
    readme = (shared_data(name).parent / "README.md").read_text()
    assert f"| {name.partition('/')[2]} | {n_rows} |" in readme
