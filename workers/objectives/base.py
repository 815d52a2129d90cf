"""The interface of a training objective, and the one form that every pairwise loss takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from workers.data.schema import PreferencePair
from workers.specs import SpecModel

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class PairTargets:
    """What an objective wants of each pair, as arrays of shape (n,), made once before training.

    is_used: False leaves the pair out (a tie under an objective that has no place for ties);
    target: P(response_a is preferred), 0.5 for a tie; weight: >= 0; offset: the margin r_a - r_b has to exceed this,
    in reward units, signed towards the preferred response; is_tie.
    """

    is_used: NDArray[np.bool_]
    target: NDArray[np.float64]
    weight: NDArray[np.float64]
    offset: NDArray[np.float64]
    is_tie: NDArray[np.bool_]

    def rows(self, index: NDArray[np.int64]) -> "PairTargets":
        return PairTargets(
            self.is_used[index], self.target[index], self.weight[index], self.offset[index], self.is_tie[index]
        )


class Objective(Protocol):
    """A class with a docstring, registered in OBJECTIVES and built from its Config.

    The loss of a pair depends on that pair alone, so a batch can be taken in micro-batches without changing its sum.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    Config: ClassVar[type[SpecModel]]

    def __init__(self, config: Any) -> None: ...

    def targets(self, pairs: Sequence[PreferencePair]) -> PairTargets:
        """What to aim at, from the verdicts."""

    def loss(self, rewards_a: "Tensor", rewards_b: "Tensor", targets: PairTargets) -> "Tensor":
        """Loss of each pair, shape (n,), float32, each already multiplied by its weight."""
