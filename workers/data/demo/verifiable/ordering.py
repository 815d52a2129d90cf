"""Sorting words and numbers. Wrong responses swap two, drop one, or sort the wrong way round."""

from __future__ import annotations

from random import Random

from workers.data.demo.banks import words
from workers.data.demo.verifiable.problem import Candidate, Problem, flawed

WORD_PROMPTS = (
    "Put these words into alphabetical order: {items}",
    "Alphabetise: {items}",
    "Sort the following from A to Z, please: {items}",
    "Which order do these go in on an alphabetical list? {items}",
)
NUMBER_PROMPTS = (
    "Sort these numbers from smallest to largest: {items}",
    "Put in ascending order: {items}",
    "Order these from low to high, please: {items}",
)


def ordering(rng: Random) -> Problem:
    size = rng.randint(5, 9)
    prompts: tuple[str, ...]
    if rng.random() < 0.6:
        one, other = rng.sample(list(words()["groups"].values()), k=2)
        items: list[str] = rng.sample(one + other, k=size)
        prompts, ordered = WORD_PROMPTS, sorted(items)
    else:
        values = rng.sample(range(1, 400), k=size)
        items = [str(value) for value in values]
        prompts, ordered = NUMBER_PROMPTS, [str(value) for value in sorted(values)]
    joiner = rng.choice((", ", ", ", "\n"))

    def written(found: list[str]) -> str:
        return (
            joiner.join(f"{place}. {item}" for place, item in enumerate(found, 1))
            if "\n" in joiner
            else ", ".join(found)
        )

    place = rng.randrange(size - 1)
    swapped = [*ordered[:place], ordered[place + 1], ordered[place], *ordered[place + 2 :]]
    dropped = [item for index, item in enumerate(ordered) if index != place]
    right = written(ordered)
    return Problem(
        prompt=rng.choice(prompts).format(items=", ".join(items)),
        truth=", ".join(ordered),
        candidates=[
            Candidate(right, 5, ("correct", "terse")),
            Candidate(written(swapped), 2, ("wrong", "terse"), "swapped"),
            Candidate(written(dropped), 2, ("wrong", "terse"), "item_missing"),
            Candidate(written(ordered[::-1]), 1, ("wrong", "ignores_instruction"), "reversed"),
            Candidate(written(items), 1, ("wrong",), "unsorted"),
            *flawed(right, rng=rng),
        ],
        topic="sorting",
        difficulty="easy" if size < 7 else "medium",
    )
