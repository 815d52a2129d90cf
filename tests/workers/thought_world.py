"""Reasoning traces with planted errors: sums with corrections (right in the end), and sums with detours (wrong)."""

import re
from dataclasses import dataclass, field

import numpy as np

CORRECTIONS = (
    "Wait, {a} + {b} is {right}, not {wrong}.",
    "Hmm, that is wrong: {a} + {b} = {right}.",
    "Actually {a} + {b} gives {right}.",
    "Let me recheck {a} + {b}: it should be {right}, so {wrong} was an error.",
    "Hold on, I made a mistake with {a} + {b}; it is {right}.",
)
QUIET = "So {a} + {b} has to be {right} instead of {wrong}."
ASIDES = ("Wait for the result before going on.", "Let me verify at the end that nothing is missing.")
NAMES = ("apples", "coins", "books", "miles", "chairs")


@dataclass
class Trace:
    """Steps of one solution with what was planted."""

    steps: list[str] = field(default_factory=list)
    is_right: list[bool] = field(default_factory=list)
    reflections: list[int] = field(default_factory=list)
    answer: str = ""

    def add(self, step: str, *, is_right: bool = True) -> None:
        self.steps.append(step)
        self.is_right.append(is_right)


def corrected_trace(rng: np.random.Generator) -> Trace:
    """A sum of four to seven numbers; errors run on for up to two steps and are then taken back."""
    trace, numbers = Trace(), [int(v) for v in rng.integers(11, 90, int(rng.integers(4, 8)))]
    value, place = numbers[0], 1
    trace.add(f"We have to add up {len(numbers)} kinds of {rng.choice(NAMES)}.")
    while place < len(numbers):
        a, b = value, numbers[place]
        if rng.random() < 0.15:
            trace.add(str(rng.choice(ASIDES)))
        if rng.random() < 0.3:
            place = _go_astray(trace, a, numbers, place, rng)
        else:
            trace.add(f"{a} + {b} = {a + b}.")
        value, place = a + b, place + 1
    trace.answer = f"The answer is {value}."
    return trace


def _go_astray(trace: Trace, a: int, numbers: list[int], place: int, rng: np.random.Generator) -> int:
    """A wrong sum, perhaps a step built on it, and the correction; the chain then goes on from the right value."""
    b = numbers[place]
    wrong = a + b + int(rng.choice([-10, -2, -1, 1, 2, 10]))
    trace.add(f"{a} + {b} = {wrong}.", is_right=False)
    if place + 1 < len(numbers) and rng.random() < 0.4:
        trace.add(f"{wrong} + {numbers[place + 1]} = {wrong + numbers[place + 1]}.", is_right=False)
    form = QUIET if rng.random() < 0.05 else str(rng.choice(CORRECTIONS))
    trace.reflections.append(len(trace.steps))
    trace.add(form.format(a=a, b=b, right=a + b, wrong=wrong))
    return place


def wrong_trace(rng: np.random.Generator) -> Trace:
    """A wrong solution: some steps end up in the answer (is_right stands for matching), detours do not."""
    trace, value = Trace(), int(rng.integers(11, 90))
    told = []
    for _ in range(int(rng.integers(3, 7))):
        if rng.random() < 0.4:
            x, y = value if rng.random() < 0.5 else int(rng.integers(100, 900)), int(rng.integers(11, 90))
            trace.add(f"Maybe try {x} - {y}, which would be {x - y} {rng.choice(NAMES)}.", is_right=False)
        b = int(rng.integers(11, 90))
        after = value + b + int(rng.integers(0, 3))
        trace.add(f"Adding them, {value} + {b} = {after}.")
        forms = (f"First {value} and {b} make {after}.", f"{value} + {b} = {after}.", f"We arrive at {after}.")
        told.append(str(rng.choice(forms)))
        value = after
    trace.answer = " ".join([*told, f"The answer is {value}."])
    return trace


def with_symbols(steps: list[str]) -> list[str]:
    """Every number replaced by a word of its own: what is left has nothing to compute with."""

    def word(match: re.Match[str]) -> str:
        return "k" + "".join(chr(ord("a") + int(digit)) for digit in match.group())

    return [re.sub(r"\d+", word, step) for step in steps]
