"""Responses cut into steps with a label a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from workers.data.columns import (
    PROMPT_NAMES,
    assistant,
    finite,
    listed,
    named,
    share_fitting,
    take,
    take_id,
    take_prompt,
)
from workers.data.examples import ParsedExample, ParsedPreference, ParsedResponse, RowProblem, refuse_identical
from workers.data.formats import FORMATS
from workers.data.rows import Row
from workers.data.steps import misalignment

FIRST_ERROR = "model_output_solution_first_error_step"
RIGHT_WORDS = {"correct": 1.0, "wrong": 0.0, "incorrect": 0.0}
REFERENCE_NAMES = ("reference", "reference_answer", "ground_truth_answer", "ground_truth")


@FORMATS.add("steps")
class LabelledSteps:
    """A prompt with the `steps` of one response and `step_labels` in [0, 1]: 1 right, 0 wrong, null not labelled.

    Each response keeps its steps, their labels and, where known, whether it is `correct` (1 or 0) in its metadata; its
    text is the steps, a line each, unless the row has a `response`. A `reference_answer` stays with the example as
    `reference`. MR-GSM8K is read too: steps up to the first wrong one are labelled, those after it are not. So is
    PRMBench: the original solution (all right) is preferred to the modified one; a row whose question was modified as
    well gives the modified solution alone. Rows whose labels do not fit their steps are refused.

    {"prompt": "Can ducks fly?", "steps": ["Ducks have wings.", "So all can."], "step_labels": [1, 0], "correct": 0,
     "reference_answer": "Most can."}
    """

    title: ClassVar[str] = "Labelled steps"
    columns: ClassVar[str] = "prompt, steps and step_labels, two lists of one length"
    example: ClassVar[dict[str, Any]] = {
        "prompt": "Can ducks fly?",
        "steps": ["Ducks have wings.", "So all can."],
        "step_labels": [1, 0],
        "correct": 0,
        "reference_answer": "Most can.",
    }

    def matches(self, rows: Sequence[Mapping[str, Any]]) -> float:
        return 0.95 * share_fitting(rows, (_kind(row) is not None for row in rows))

    def parse(self, row: Row) -> ParsedExample:
        meta = dict(row.data)
        read = _kind(meta)
        if read is None:
            raise RowProblem("missing_steps", "there are no columns steps and step_labels")
        return read(meta, row.line)


def _kind(row: Mapping[str, Any]) -> Any:
    if isinstance(row.get("model_output_steps"), list) and FIRST_ERROR in row:
        return _mr_gsm8k
    if isinstance(row.get("modified_process"), list) and "error_steps" in row:
        return _prmbench
    if named(row, PROMPT_NAMES) and "steps" in row and "step_labels" in row:
        return _plain
    return None


def _plain(meta: dict[str, Any], line: int) -> ParsedExample:
    steps, labels = listed(meta.pop("steps")), listed(meta.pop("step_labels"))
    text = take(meta, ("response", "completion"))
    response = _response(steps, labels, text=text)
    for name in ("correct", "label"):
        if (label := _outcome(meta.get(name), name)) is not None:
            response.meta[name] = label
            del meta[name]
    _keep_reference(meta)
    return ParsedExample(take_prompt(meta), [response], [], meta, take_id(meta), line)


def _mr_gsm8k(meta: dict[str, Any], line: int) -> ParsedExample:
    """Steps before the first wrong one are right, what follows it is unknown; a right solution has right steps."""
    steps = meta.pop("model_output_steps")
    is_right = _outcome(meta.pop("model_output_solution_correctness", None), "model_output_solution_correctness")
    first = finite(meta.pop(FIRST_ERROR), column=FIRST_ERROR)
    labels: list[float | None] = [1.0] * len(steps)
    if is_right == 0:
        place = _place(first, len(steps), FIRST_ERROR)
        labels = [1.0] * place + [0.0] + [None] * (len(steps) - place - 1)
    response = _response(steps, labels)
    if is_right is not None:
        response.meta["correct"] = is_right
    answer = _outcome(meta.pop("model_output_answer_correctness", None), "model_output_answer_correctness")
    if answer is not None:
        response.meta["answer_correct"] = answer
    _keep_reference(meta)
    source_id = str(meta.pop("uuid", ""))
    return ParsedExample(take_prompt(meta), [response], [], meta, source_id, line)


def _prmbench(meta: dict[str, Any], line: int) -> ParsedExample:
    steps, wrong = meta.pop("modified_process"), meta.pop("error_steps")
    if not isinstance(wrong, list):
        raise RowProblem("steps_do_not_align", "error_steps is not a list of step numbers")
    places = {_place(finite(number, column="error_steps"), len(steps), "error_steps") for number in wrong}
    modified = _response(steps, [0.0 if k in places else 1.0 for k in range(len(steps))])
    modified.meta["correct"] = float(not places)
    original_question, question = meta.pop("original_question", None), meta.pop("modified_question", None)
    other = meta.get("original_process")
    responses, preferences = [modified], []
    if isinstance(other, list) and original_question == question:
        original = _response(other, [1.0] * len(other))
        original.meta["correct"] = 1.0
        meta.pop("original_process")
        responses = [original, modified]
        preferences = [ParsedPreference(0, 1, "a")] if places else []
    prompt = take_prompt({"prompt": question or meta.get("question")})
    meta.pop("question", None)
    example = ParsedExample(prompt, responses, preferences, meta, take_id(meta), line)
    refuse_identical(example)
    return example


def _response(steps: Any, labels: Any, *, text: Any = None) -> ParsedResponse:
    """A response with its steps and labels; blank steps fall away together with their labels."""
    if not isinstance(steps, list) or not all(isinstance(step, str) for step in steps):
        raise RowProblem("missing_steps", "steps is not a list of texts")
    if not isinstance(labels, list) or len(labels) != len(steps):
        n = len(labels) if isinstance(labels, list) else "no"
        raise RowProblem("steps_do_not_align", f"there are {n} step_labels for {len(steps)} steps")
    pairs = [(step.strip(), _label(label)) for step, label in zip(steps, labels, strict=True) if step.strip()]
    if not pairs:
        raise RowProblem("missing_steps", "steps holds no text; leave the row out")
    kept = [step for step, _ in pairs]
    whole = text if isinstance(text, str) and text else "\n".join(kept)
    if problem := misalignment(whole, kept):
        raise RowProblem("steps_do_not_align", f"{problem}: joined, the steps must be the text of the response")
    return ParsedResponse(assistant(whole), "", {"steps": kept, "step_labels": [label for _, label in pairs]})


def _label(value: Any) -> float | None:
    number = float(value) if isinstance(value, bool) else finite(value, column="step_labels")
    if number is not None and not 0 <= number <= 1:
        raise RowProblem("bad_step_label", f"step_labels holds {number:g}; use 1 right, 0 wrong, or null")
    return number


def _outcome(value: Any, column: str) -> float | None:
    """1 right, 0 wrong, also as words."""
    if isinstance(value, str) and value.strip().lower() in RIGHT_WORDS:
        return RIGHT_WORDS[value.strip().lower()]
    return float(value) if isinstance(value, bool) else finite(value, column=column)


def _place(number: float | None, n_steps: int, column: str) -> int:
    """A step number, counted from 1, as a place counted from 0."""
    if number is None or number != int(number) or not 1 <= number <= n_steps:
        shown = "nothing" if number is None else f"{number:g}"
        raise RowProblem("steps_do_not_align", f"{column} names step {shown}, and there are {n_steps} steps")
    return int(number) - 1


def _keep_reference(meta: dict[str, Any]) -> None:
    """The reference answer as text under its usual name."""
    value = take(meta, REFERENCE_NAMES)
    if value is not None:
        meta["reference"] = value if isinstance(value, str | list) else str(value)
