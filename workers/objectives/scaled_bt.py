"""Bradley-Terry in which a pair counts as often as it was preferred strongly."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from workers.data.schema import PreferencePair
from workers.objectives import OBJECTIVES
from workers.objectives.base import PairTargets, PairwiseObjective, pair_targets
from workers.specs import SpecModel

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ScaledTargets(PairTargets):
    """strength: factor of each pair's loss, shape (n,), >= 0."""

    strength: NDArray[np.float64]


@OBJECTIVES.add("scaled_bt")
class ScaledBradleyTerry(PairwiseObjective):
    """-m log sigmoid(margin) with m the preference strength: strength 3 counts like three copies of the pair.

    Nothing is assumed of how large the margin should be. The loss of a batch is divided by its number of pairs, as
    published, so data of larger strengths takes larger steps; `normalise` divides by the sum of strengths instead.
    """

    title: ClassVar[str] = "Bradley-Terry, scaled by strength"
    is_one_pass: ClassVar[bool] = True

    class Config(SpecModel):
        """Settings of the scaled objective."""

        unknown_strength: Literal["drop", "one"] = Field(
            default="one", description="Pairs without a stated strength: leave them out, or take them as strength 1."
        )
        normalise: Literal["pairs", "strength"] = Field(
            default="pairs", description="What the loss of a batch is divided by."
        )

    def __init__(self, config: Config) -> None:
        self.config = config

    def targets(self, pairs: Sequence[PreferencePair]) -> ScaledTargets:
        found = pair_targets(pairs)
        told = {f.name: getattr(found, f.name) for f in fields(found)}
        known = np.array([p.preference_strength is not None for p in pairs], dtype=np.bool_)
        told["is_used"] = found.is_used & (known | (self.config.unknown_strength == "one"))
        strength = np.array([abs(p.signed_strength) for p in pairs], dtype=np.float64)
        if self.config.normalise == "strength":
            told["weight"], strength = found.weight * strength, np.ones(len(pairs))
        return ScaledTargets(**told, strength=strength)

    def refusal(self, row: PreferencePair) -> str:
        is_decided = row.verdict in ("a", "b") and row.weight > 0
        return "no preference strength" if is_decided else super().refusal(row)

    def loss(self, rewards_a: "Tensor", rewards_b: "Tensor", targets: PairTargets) -> "Tensor":
        from workers.nn.losses import pairwise_loss

        strength = targets.strength if isinstance(targets, ScaledTargets) else np.ones(len(targets.weight))
        return pairwise_loss(
            rewards_a - rewards_b, target=targets.target, weight=targets.weight * strength, offset=targets.offset
        )
