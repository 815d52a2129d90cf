"""Counting letters in a word and things in a list; wrong responses miss or double one."""

from __future__ import annotations

from random import Random

from workers.data.demo.banks import words
from workers.data.demo.verifiable.problem import Problem, answered, bare

LETTER_PROMPTS = (
    'How many times does the letter "{letter}" occur in "{text}"?',
    'Count the letter "{letter}" in: {text}',
    'Number of "{letter}"s in "{text}"?',
)
GROUP_PROMPTS = (
    "How many of these are {group}? {items}",
    "Count the {group} in this list: {items}",
    "I wrote down {items}. How many {group} are there?",
)


def counting(rng: Random) -> Problem:
    return _letters(rng) if rng.random() < 0.5 else _members(rng)


def _letters(rng: Random) -> Problem:
    groups = list(words()["groups"].values())
    chosen = [rng.choice(group) for group in rng.sample(groups, k=2)]
    text = " ".join(chosen)
    letter = rng.choice(sorted({char for char in text if char != " "}))
    counts = [word.count(letter) for word in chosen]
    slip = rng.choice((-1, 1)) if counts[0] else 1

    def told(found: list[int]) -> str:
        return (
            f'"{chosen[0]}" has {found[0]} and "{chosen[1]}" has {found[1]}, so {found[0]} + {found[1]} = {sum(found)}.'
        )

    return _problem(
        prompt=rng.choice(LETTER_PROMPTS).format(letter=letter, text=text),
        n=sum(counts),
        n_wrong=sum(counts) + slip,
        right=told(counts),
        wrong=told([counts[0] + slip, counts[1]]),
        difficulty="medium",
        rng=rng,
    )


def _members(rng: Random) -> Problem:
    groups = words()["groups"]
    group, other = rng.sample([name for name in groups if name != "places"], k=2)
    members = rng.sample(groups[group], k=rng.randint(2, 6))
    others = rng.sample(groups[other], k=rng.randint(2, 5))
    items = rng.sample(members + others, k=len(members) + len(others))
    in_order = [item for item in items if item in members]
    intruder = rng.choice(others)
    found = in_order[:-1] if rng.random() < 0.5 else [*in_order, intruder]

    def told(names: list[str]) -> str:
        return f"The {group} are: {', '.join(names)}. That makes {len(names)}."

    return _problem(
        prompt=rng.choice(GROUP_PROMPTS).format(group=group, items=", ".join(items)),
        n=len(in_order),
        n_wrong=len(found),
        right=told(in_order),
        wrong=told(found),
        difficulty="easy",
        rng=rng,
    )


def _problem(*, prompt: str, n: int, n_wrong: int, right: str, wrong: str, difficulty: str, rng: Random) -> Problem:
    return Problem(
        prompt=prompt,
        truth=str(n),
        candidates=answered(
            right=right,
            wrong=wrong,
            short=bare(str(n), rng=rng),
            short_wrong=bare(str(n_wrong), rng=rng),
            error="miscounted",
            rng=rng,
        ),
        topic="counting",
        difficulty=difficulty,
    )
