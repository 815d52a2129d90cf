"""Sums with worked steps. A wrong response slips in one step and carries the slip on, or misreports its own result."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from workers.data.demo.banks import words
from workers.data.demo.verifiable.problem import Problem, answered, bare, number

Step = tuple[str, float]  # "3 × 4", 12
Steps = Callable[[dict[int, int]], list[Step]]  # {place of a step: what its result is off by} -> the steps
SHOP_PROMPTS = (
    "{name} buys {a} {x} at €{p} each and {b} {y} at €{q} each and pays with €{note}. How much change is there?",
    "How much change does {name} get from €{note} for {a} {x} (€{p} each) and {b} {y} (€{q} each)? Show your steps.",
    "€{note} in the purse: {name} takes {a} {x} at €{p} a piece and {b} {y} at €{q} a piece. What is left?",
    "Work this out step by step. {a} {x} cost €{p} each, {b} {y} cost €{q} each. {name} pays with €{note}. Change?",
)
PRODUCT_PROMPTS = (
    "What is {a} × {b}? Show the working.",
    "Multiply {a} by {b} and show each step.",
    "Calculate {a} times {b}, please, in steps that a pupil can follow.",
    "How do I work out {a} × {b} on paper?",
)
AVERAGE_PROMPTS = (
    "What is the mean of {values}?",
    "Find the average of these numbers: {values}.",
    "{name} scored {values}. What is the average score?",
    "Step by step: the mean of {values}?",
)


def shopping(rng: Random) -> Problem:
    (x_one, x), (y_one, y) = rng.sample(words()["goods"], k=2)
    a, b, p, q = rng.randint(1, 9), rng.randint(1, 9), rng.randint(2, 15), rng.randint(2, 15)
    total = a * p + b * q
    note = next(value for value in (20, 50, 100, 200, 500) if value > total)

    def steps(slip: dict[int, int]) -> list[Step]:
        first = a * p + slip.get(0, 0)
        second = b * q + slip.get(1, 0)
        both = first + second + slip.get(2, 0)
        return [
            (f"{a} × {p}", first),
            (f"{b} × {q}", second),
            (f"{first} + {second}", both),
            (f"{note} − {both}", note - both),
        ]

    prompt = rng.choice(SHOP_PROMPTS).format(
        name=rng.choice(words()["names"]),
        a=a,
        x=x if a > 1 else x_one,
        p=p,
        b=b,
        y=y if b > 1 else y_one,
        q=q,
        note=note,
    )
    return _problem(prompt, steps, n_slips=3, unit="€", difficulty="medium", rng=rng)


def product(rng: Random) -> Problem:
    a, b = rng.randint(12, 99), rng.randint(12, 99)
    tens, ones = b // 10 * 10, b % 10

    def steps(slip: dict[int, int]) -> list[Step]:
        first = a * tens + slip.get(0, 0)
        second = a * ones + slip.get(1, 0)
        return [
            (f"{a} × {tens}", first),
            (f"{a} × {ones}", second),
            (f"{number(first)} + {number(second)}", first + second + slip.get(2, 0)),
        ]

    difficulty = "hard" if a > 50 and b > 50 else "medium"
    return _problem(
        rng.choice(PRODUCT_PROMPTS).format(a=a, b=b), steps, n_slips=3, unit="", difficulty=difficulty, rng=rng
    )


def average(rng: Random) -> Problem:
    size = rng.randint(3, 5)
    middle = rng.randint(20, 60)
    values = [middle + rng.randint(-12, 8) for _ in range(size - 1)]
    values.append(size * middle - sum(values))  # the mean comes out whole
    rng.shuffle(values)
    listed = ", ".join(map(str, values))

    def steps(slip: dict[int, int]) -> list[Step]:
        total = sum(values) + slip.get(0, 0)
        return [(" + ".join(map(str, values)), total), (f"{total} ÷ {size}", total / size + slip.get(1, 0))]

    prompt = rng.choice(AVERAGE_PROMPTS).format(values=listed, name=rng.choice(words()["names"]))
    return _problem(prompt, steps, n_slips=2, unit="", difficulty="easy" if size == 3 else "medium", rng=rng)


def _problem(prompt: str, steps: Steps, *, n_slips: int, unit: str, difficulty: str, rng: Random) -> Problem:
    place, size = rng.randrange(n_slips), rng.choice((-20, -10, -5, -2, -1, 1, 2, 5, 10, 20))
    right, slipped = steps({}), steps({place: size})
    style = rng.choice((_numbered, _sentences, _lines))
    final, wrong_final = f"{unit}{number(right[-1][1])}", f"{unit}{number(slipped[-1][1])}"
    wrong, error = style(slipped, wrong_final), f"step_{place + 1}"
    if rng.random() < 0.25:
        wrong, error = style(right, wrong_final), "result_not_from_steps"
    return Problem(
        prompt=prompt,
        truth=final,
        candidates=answered(
            right=style(right, final),
            wrong=wrong,
            short=bare(final, rng=rng),
            short_wrong=bare(wrong_final, rng=rng),
            error=error,
            rng=rng,
        ),
        topic="arithmetic",
        difficulty=difficulty,
    )


def _numbered(steps: list[Step], final: str) -> str:
    rows = [f"{place}. {left} = {number(value)}" for place, (left, value) in enumerate(steps, start=1)]
    return "\n".join([*rows, "", f"**Answer: {final}**"])


def _sentences(steps: list[Step], final: str) -> str:
    links = ("First", "Then", "Next", "After that")
    parts = [f"{link} {left} = {number(value)}." for link, (left, value) in zip(links, steps, strict=False)]
    return " ".join([*parts, f"So the answer is {final}."])


def _lines(steps: list[Step], final: str) -> str:
    return "\n".join([*(f"{left} = {number(value)}" for left, value in steps), f"The result is {final}."])
