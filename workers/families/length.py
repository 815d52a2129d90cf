"""A baseline that only counts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from workers.data.schema import Scores
from workers.families import FAMILIES
from workers.families.base import Item, no_report
from workers.specs import SpecModel


@dataclass(frozen=True)
class LengthScorer:
    unit: Literal["characters", "words"]
    sign: int

    def score(self, items: Sequence[Item], *, on_batch: Callable[[int], None] = no_report) -> Scores:
        values = np.array([self.sign * self._length(item) for item in items], dtype=np.float64)
        on_batch(len(items))
        return Scores(values, np.zeros(len(items), dtype=np.int64))

    def _length(self, item: Item) -> int:
        return sum(len(m["content"]) if self.unit == "characters" else len(m["content"].split()) for m in item[1])


@FAMILIES.add("length")
class Length:
    """The reward is the length of the response, and nothing else.

    People and judges often prefer the longer response. A reward model that does not beat this one may have learned
    only that.
    """

    title: ClassVar[str] = "Length"
    capabilities: ClassVar[frozenset[str]] = frozenset({"pointwise"})
    trainable: ClassVar[bool] = False

    class Config(SpecModel):
        """Settings of the length baseline."""

        unit: Literal["characters", "words"] = Field(default="characters", description="What is counted.")
        prefer: Literal["longer", "shorter"] = Field(default="longer", description="Which response gets more reward.")

    @classmethod
    def open(cls, config: Config, path: Path | None, *, threads: int | None = None) -> LengthScorer:
        return LengthScorer(config.unit, 1 if config.prefer == "longer" else -1)
