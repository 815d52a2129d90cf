"""Verdicts as files spell them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workers.data.columns import finite
from workers.data.examples import RowProblem

A_WORDS = {"a", "a>b", "a-is-better", "model_a", "response_a", "assistant_a", "left", "leftvote", "first"}
B_WORDS = {"b", "b>a", "b-is-better", "model_b", "response_b", "assistant_b", "right", "rightvote", "second"}
FIRST_WORDS = {"1", "response1", "response_1", "output_1"}
SECOND_WORDS = {"2", "response2", "response_2", "output_2"}
TIE_WORDS = {"tie", "a=b", "b=a", "equal", "same", "draw", "c", "tievote"}
BAD_WORDS = {"both_bad", "bothbad", "tie (bothbad)", "both bad", "neither", "bothbad_vote"}
GRADED = {
    "a>>b": ("a", 3),
    "b>>a": ("b", 3),
    "a-is-slightly-better": ("a", 1),
    "b-is-slightly-better": ("b", 1),
    "a-is-better": ("a", 2),
    "b-is-better": ("b", 2),
}
WORDS = (
    {word: ("a", None) for word in A_WORDS}
    | {word: ("b", None) for word in B_WORDS}
    | {word: ("tie", None) for word in TIE_WORDS}
    | {word: ("both_bad", None) for word in BAD_WORDS}
    | GRADED
)
NUMBERED = {word: ("a", None) for word in FIRST_WORDS} | {word: ("b", None) for word in SECOND_WORDS}


@dataclass(frozen=True, slots=True)
class Label:
    """A verdict with its strength, where the file gives one."""

    verdict: str
    preference_strength: int | None = None


def label_from(value: Any, *, column: str, numbered: bool) -> Label:
    """Read a verdict. 1 and 2 are read only where the columns are numbered too: 0 and 1 mean too many things."""
    word = str(value).strip().lower()
    found = WORDS.get(word) or (NUMBERED.get(word.removesuffix(".0")) if numbered else None)
    if found is None:
        raise RowProblem("unknown_label", f"{column} is {value!r}; use a, b, tie or both_bad (or A>B, B>A, A=B)")
    return Label(*found)


def signed_label(value: Any, *, column: str) -> Label:
    """HelpSteer's -3..3: below zero the first response is better, above zero the second, zero is a tie."""
    number = finite(value, column=column)
    if number is None or abs(number) not in (0.0, 1.0, 2.0, 3.0):
        raise RowProblem("unknown_label", f"{column} is {value!r}; use whole numbers from -3 (first much better) to 3")
    strength = int(abs(number))
    return Label("tie" if not strength else "a" if number < 0 else "b", strength or None)
