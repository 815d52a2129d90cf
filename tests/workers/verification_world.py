"""Word problems whose answer is the last digit of a product: a tiny model cannot work it out, but can compare two."""

from dataclasses import replace

import numpy as np

from tests.workers.making import turn
from workers.data.schema import LabelledResponse

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def make_rows(n: int, rng: np.random.Generator) -> list[LabelledResponse]:
    """Completions, half of them right on average, with the right answer as reference."""
    return [_row(rng) for _ in range(n)]


def _row(rng: np.random.Generator) -> LabelledResponse:
    a, b, c = (int(v) for v in rng.integers(0, 10, 3))
    answer = (a * b + c) % 10
    is_right = rng.random() < 0.5
    said = answer if is_right else (answer + int(rng.integers(1, 10))) % 10
    return LabelledResponse(
        prompt=[turn("user", f"Last digit of {WORDS[a]} times {WORDS[b]} plus {WORDS[c]}?")],
        response=[turn("assistant", f"It is {said}.")],
        ratings={"correct": float(is_right)},
        reference=[turn("assistant", str(answer))],
        meta={"answer": answer, "said": said},
    )


def with_wrong_reference(row: LabelledResponse, rng: np.random.Generator) -> LabelledResponse:
    """The same completion beside another reference: what agreed with the right one agrees with it no more."""
    other = (row.meta["answer"] + int(rng.integers(1, 10))) % 10
    return replace(row, reference=[turn("assistant", str(other))])
