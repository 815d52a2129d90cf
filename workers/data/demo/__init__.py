"""The demo data: our own hand-written prompts and generated tasks, with responses whose quality is known.

Everything in this package, texts included, was written for this project and is under its licence. Rows are in the
importer's `responses` format; the models named in them do not exist.
"""

from collections.abc import Iterator

from workers.data.demo.everyday import everyday_examples
from workers.data.demo.judgements import demo_gold, demo_guidelines, demo_judgements
from workers.data.demo.raters import REASONS, judge
from workers.data.demo.rows import Row
from workers.data.demo.verifiable import verifiable_examples


def demo_examples(seed: int = 0) -> Iterator[Row]:
    """All rows: `kind` is `everyday` (hand-written, first) or `verifiable` (generated), `split` is train or test."""
    yield from everyday_examples(seed)
    yield from verifiable_examples(seed)


__all__ = [
    "REASONS",
    "Row",
    "demo_examples",
    "demo_gold",
    "demo_guidelines",
    "demo_judgements",
    "everyday_examples",
    "judge",
    "verifiable_examples",
]
