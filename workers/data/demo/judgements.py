"""Judgements that the demo starts with, items with a known answer, and the guidelines raters read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from workers.data.demo.everyday import everyday_examples
from workers.data.demo.raters import HABITS, judge

GUIDELINES = Path(__file__).parent / "guidelines"
N_JUDGED = 60
N_GOLD = 12
GOLD_GAP = 3


def demo_judgements(seed: int = 0) -> Iterator[dict[str, Any]]:
    """Both annotators on the same pairs: the first two responses of `N_JUDGED` English everyday examples.

    `example` counts the rows of `everyday_examples(seed)` from 0; `response_a` and `response_b` are places in the
    responses of that row, and the verdict speaks of these.
    """
    rows = list(everyday_examples(seed))
    english = [index for index, row in enumerate(rows) if row["language"] == "en"]
    for index in sorted(Random(f"{seed}/judged").sample(english, k=N_JUDGED)):
        for rater in HABITS:
            said = judge(rows[index], response_a=0, response_b=1, rater=rater, seed=seed)
            yield {"example": index, "example_id": rows[index]["id"], "response_a": 0, "response_b": 1, **said}


def demo_gold(seed: int = 0) -> Iterator[dict[str, Any]]:
    """Pairs with an answer nobody should miss, from examples that `demo_judgements` leaves alone."""
    judged = {row["example"] for row in demo_judgements(seed)}
    found = [
        {
            "example": index,
            "example_id": row["id"],
            "response_a": 0,
            "response_b": 1,
            "verdict": "a" if gap > 0 else "b",
        }
        for index, row in enumerate(everyday_examples(seed))
        if index not in judged
        and row["language"] == "en"
        and abs(gap := row["responses"][0]["score"] - row["responses"][1]["score"]) >= GOLD_GAP
    ]
    yield from found[:N_GOLD]


def demo_guidelines(name: str = "everyday") -> str:
    """Markdown of the guidelines for the queue on `everyday` or `verifiable` items."""
    known = sorted(path.stem for path in GUIDELINES.glob("*.md"))
    if name not in known:
        raise ValueError(f"no guidelines named {name!r}; known: {', '.join(known)}")
    return (GUIDELINES / f"{name}.md").read_text(encoding="utf-8")
