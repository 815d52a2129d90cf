"""The interface of a reward-model family."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from workers.data.schema import Message, Scores
from workers.specs import SpecModel

Item = tuple[Sequence[Message], Sequence[Message]]
"""(prompt, response) to be scored."""


def no_report(n_done: int) -> None:
    """For callers that need no progress."""


class Scorer(Protocol):
    def score(self, items: Sequence[Item], *, on_batch: Callable[[int], None] = no_report) -> Scores:
        """Rewards of `items`, in their order. A reward never depends on what else is in the batch.

        `on_batch(n)` is called when n more items are done, and with 0 several times a second as a sign of life; what it
        raises ends the scoring.
        """


class Family(Protocol):
    """A class with a docstring, registered in FAMILIES.

    capabilities: words of {"pointwise", "trainable", "tokens"}: a reward per response on its own; made by train_rm;
    reads tokens, so that texts may be truncated.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    capabilities: ClassVar[frozenset[str]]
    trainable: ClassVar[bool]
    Config: ClassVar[type[SpecModel]]

    @classmethod
    def open(cls, config: Any, path: Path | None, *, threads: int | None = None) -> Scorer:
        """A scorer of the weights in `path` (None for a rule). JobError says what is missing."""
