"""Generated tasks whose truth is known: every row is made from a seed, none is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from workers.data.demo.rows import Row, shuffled, split_of
from workers.data.demo.verifiable import (
    arithmetic,
    counting,
    dates,
    explaining,
    formatting,
    logic,
    ordering,
    snippets,
    units,
)
from workers.data.demo.verifiable.problem import Candidate, Problem

TASKS: dict[str, Callable[[Random], Problem]] = {
    "shopping": arithmetic.shopping,
    "product": arithmetic.product,
    "average": arithmetic.average,
    "units": units.units,
    "dates": dates.dates,
    "ordering": ordering.ordering,
    "counting": counting.counting,
    "logic": logic.logic,
    "code_output": snippets.snippets,
    "bullets": formatting.bullets,
    "capitals": formatting.capitals,
    "word_limit": formatting.word_limit,
    "json_record": formatting.json_record,
    "explaining": explaining.explaining,
    "translating": explaining.translating,
}
N_PER_TASK = 60
N_RESPONSES = (2, 3, 3, 4)
# How often a flaw is taken, against 1 for the rest: balanced so that length says little about quality.
FREQUENCY = {"padded": 0.4, "truncated": 0.8, "wrong_answer": 0.7, "refusal": 0.3, "evasive": 0.3, "off_topic": 0.3}
STRONG, MIDDLING, WEAK = (
    ("heron-7b", "ibis-70b", "heron-7b", "ibis-70b", "kestrel-13b", "sparrow-1b"),
    ("ibis-70b", "kestrel-13b", "sparrow-1b", "heron-7b"),
    ("wren-base", "sparrow-1b", "wren-base", "kestrel-13b", "heron-7b"),
)


def verifiable_examples(seed: int = 0, *, n_per_task: int = N_PER_TASK) -> Iterator[Row]:
    """`n_per_task` rows of every task, no prompt twice; each task has its own generator and so its own stable rows."""
    for name, make in TASKS.items():
        rng = Random(f"{seed}/{name}")
        seen: set[str] = set()
        while len(seen) < n_per_task:
            problem = make(rng)
            if problem.prompt not in seen:
                seen.add(problem.prompt)
                yield _row(problem, name=name, number=len(seen), rng=rng)


def _row(problem: Problem, *, name: str, number: int, rng: Random) -> Row:
    chosen = _choose(problem.candidates, rng=rng)
    models = _models(chosen, rng=rng)
    responses = [
        {"content": found.text, "model": model, "score": found.score, "tags": list(found.tags), "error": found.error}
        for found, model in zip(chosen, models, strict=True)
    ]
    return {
        "id": f"{name}-{number:03d}",
        "prompt": problem.prompt,
        "responses": shuffled(responses, rng=rng),
        "kind": "verifiable",
        "topic": problem.topic,
        "language": "en",
        "task": name,
        "difficulty": problem.difficulty,
        "truth": problem.truth,
        "split": split_of(problem.prompt),
    }


def _choose(candidates: list[Candidate], *, rng: Random) -> list[Candidate]:
    """The best or the second best response and some worse ones, all with different texts (weighted, without return)."""
    distinct = list({found.text: found for found in reversed(candidates)}.values())
    distinct.sort(key=lambda found: -found.score)
    good = distinct[0] if distinct[1].score < 4 or rng.random() < 0.8 else distinct[1]
    worse = [found for found in distinct if found.score < good.score]
    worse.sort(key=lambda found: rng.random() ** (1 / FREQUENCY.get(found.error, 1.0)), reverse=True)
    return [good, *worse[: rng.choice(N_RESPONSES) - 1]]


def _models(chosen: list[Candidate], *, rng: Random) -> list[str]:
    """Another fictional source model for each response; stronger ones write the better responses more often."""
    taken: list[str] = []
    for found in chosen:
        pool = STRONG if found.score >= 4 else MIDDLING if found.score == 3 else WEAK
        free = [model for model in pool if model not in taken]
        taken.append(rng.choice(free or [model for model in STRONG + WEAK if model not in taken]))
    return taken
