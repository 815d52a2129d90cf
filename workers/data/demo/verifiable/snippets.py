"""What does this Python print? Wrong responses misread the end of a range, a slice or a division."""

from __future__ import annotations

from random import Random

from workers.data.demo.banks import words
from workers.data.demo.verifiable.problem import Problem, answered, bare

PROMPTS = (
    "What does this print?\n\n```python\n{code}\n```",
    "Output of this Python, please:\n\n```python\n{code}\n```",
    "I can't run this here. What would it print, and why?\n\n```python\n{code}\n```",
)
Case = tuple[str, str, str, str, str]  # code, answer, wrong answer, why, wrong why


def snippets(rng: Random) -> Problem:
    code, answer, wrong_answer, why, wrong_why = rng.choice((_range_sum, _slice, _division, _length))(rng)
    return Problem(
        prompt=rng.choice(PROMPTS).format(code=code),
        truth=answer,
        candidates=answered(
            right=f"{why} It prints `{answer}`.",
            wrong=f"{wrong_why} It prints `{wrong_answer}`.",
            short=bare(f"`{answer}`", rng=rng),
            short_wrong=bare(f"`{wrong_answer}`", rng=rng),
            error="misread_code",
            rng=rng,
        ),
        topic="code",
        difficulty="medium",
    )


def _range_sum(rng: Random) -> Case:
    low, n = rng.randint(1, 9), rng.randint(3, 6)
    values, too_many = list(range(low, low + n)), list(range(low, low + n + 1))
    return (
        f"print(sum(range({low}, {low + n})))",
        str(sum(values)),
        str(sum(too_many)),
        f"The range stops before {low + n}, so it adds {' + '.join(map(str, values))}.",
        f"The range runs up to {low + n}, so it adds {' + '.join(map(str, too_many))}.",
    )


def _slice(rng: Random) -> Case:
    word = rng.choice([word for group in words()["groups"].values() for word in group if len(word) >= 6])
    low = rng.randint(1, 2)
    high = low + rng.randint(2, 3)
    return (
        f'word = "{word}"\nprint(word[{low}:{high}])',
        word[low:high],
        word[low - 1 : high],
        f"Places count from 0 and the end is left out, so the slice takes places {low} to {high - 1}.",
        f"Places count from 1 and the end is included, so the slice takes places {low} to {high}.",
    )


def _division(rng: Random) -> Case:
    divisor = rng.randint(3, 9)
    value = divisor * rng.randint(3, 12) + rng.randint(1, divisor - 1)
    return (
        f"print({value} // {divisor}, {value} % {divisor})",
        f"{value // divisor} {value % divisor}",
        f"{value // divisor + 1} {value % divisor + 1}",
        f"`//` rounds down and `%` gives the rest: {value} = {value // divisor} × {divisor} + {value % divisor}.",
        f"`//` rounds up and `%` gives the rest of that division of {value} by {divisor}.",
    )


def _length(rng: Random) -> Case:
    items = rng.sample(words()["cities"], k=rng.randint(3, 5))
    shown = ", ".join(f'"{item}"' for item in items)
    n = sum("o" in item.lower() for item in items)
    return (
        f'cities = [{shown}]\nprint(len([c for c in cities if "o" in c.lower()]))',
        str(n),
        str(len(items) if n != len(items) else n - 1),
        'It keeps the cities with an "o" in their name and counts those.',
        "It builds a list with one entry for each city and counts those.",
    )
