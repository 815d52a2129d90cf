"""A baseline that knows nothing."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from workers.data.schema import Scores
from workers.families import FAMILIES
from workers.families.base import Item, no_report
from workers.specs import SpecModel


@dataclass(frozen=True)
class HashScorer:
    seed: int

    def score(self, items: Sequence[Item], *, on_batch: Callable[[int], None] = no_report) -> Scores:
        values = np.array([self._reward(item) for item in items], dtype=np.float64)
        on_batch(len(items))
        return Scores(values, np.zeros(len(items), dtype=np.int64))

    def _reward(self, item: Item) -> float:
        """A number in [0, 1) with 53 random bits: an equal reward for two different responses does not happen."""
        digest = hashlib.sha256(str(self.seed).encode())
        for turns in item[:2]:
            digest.update(b"\x00")
            for message in turns:
                digest.update(f"\x01{message['role']}\x02{message['content']}".encode("utf-8", "surrogatepass"))
        return (int.from_bytes(digest.digest()[:8], "big") >> 11) / 2.0**53


@FAMILIES.add("random")
class Random:
    """A reward drawn from a hash of the seed and the text: the same text always gets the same reward.

    The floor of every leaderboard: what is not clearly above it has learned nothing.
    """

    title: ClassVar[str] = "Random"
    capabilities: ClassVar[frozenset[str]] = frozenset({"pointwise"})
    trainable: ClassVar[bool] = False

    class Config(SpecModel):
        """Settings of the random baseline."""

        seed: int = Field(default=0, ge=0, description="Another seed gives another, equally good, set of rewards.")

    @classmethod
    def open(cls, config: Config, path: Path | None, *, threads: int | None = None) -> HashScorer:
        return HashScorer(config.seed)
