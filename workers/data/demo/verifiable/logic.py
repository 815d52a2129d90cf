"""Who is tallest, first, oldest: chains of comparisons with one answer."""

from __future__ import annotations

from itertools import pairwise
from random import Random

from workers.data.demo.banks import words
from workers.data.demo.verifiable.problem import Problem, answered, bare

# "A is ... B", then the questions for the first and the last of the chain
RELATIONS = (
    ("is taller than", "Who is the tallest?", "Who is the shortest?"),
    ("is older than", "Who is the oldest?", "Who is the youngest?"),
    ("arrived before", "Who arrived first?", "Who arrived last?"),
    ("runs faster than", "Who is the fastest?", "Who is the slowest?"),
    ("has more books than", "Who has the most books?", "Who has the fewest books?"),
)
INTROS = ("", "A little riddle: ", "Please reason it out. ", "Solve this: ")


def logic(rng: Random) -> Problem:
    size = rng.randint(3, 5)
    chain = rng.sample(words()["names"], k=size)
    relation, ask_first, ask_last = rng.choice(RELATIONS)
    links = [f"{high} {relation} {low}." for high, low in pairwise(chain)]
    first = rng.random() < 0.5
    answer = chain[0] if first else chain[-1]
    wrong = rng.choice([name for name in chain if name != answer])
    wrong_chain = [name for name in chain if name != wrong]
    wrong_chain = [wrong, *wrong_chain] if first else [*wrong_chain, wrong]
    return Problem(
        prompt=rng.choice(INTROS)
        + " ".join(rng.sample(links, k=len(links)))
        + " "
        + (ask_first if first else ask_last),
        truth=answer,
        candidates=answered(
            right=f"Put together, the order is {' > '.join(chain)}. So it is {answer}.",
            wrong=f"Put together, the order is {' > '.join(wrong_chain)}. So it is {wrong}.",
            short=bare(answer, rng=rng),
            short_wrong=bare(wrong, rng=rng),
            error="wrong_order",
            rng=rng,
        ),
        topic="logic",
        difficulty=("easy", "medium", "hard")[size - 3],
    )
