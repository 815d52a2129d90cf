"""Bradley-Terry that asks for a larger margin where people said the difference was larger."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from workers.data.schema import PreferencePair
from workers.objectives import OBJECTIVES
from workers.objectives.base import PairTargets, PairwiseObjective, pair_targets
from workers.specs import SpecModel

if TYPE_CHECKING:
    from torch import Tensor


@OBJECTIVES.add("margin_bt")
class MarginBradleyTerry(PairwiseObjective):
    """-log sigmoid(margin - m) with m the preference strength (1 to 3) times a scale.

    It assumes that a strength is so many units of reward, which nobody promised; compare with `scaled_bt`.
    """

    title: ClassVar[str] = "Bradley-Terry with a margin"
    is_one_pass: ClassVar[bool] = True

    class Config(SpecModel):
        """Settings of the margin objective."""

        scale: float = Field(default=1.0, gt=0, le=100, description="Reward units to one step of preference strength.")
        unknown_strength: Literal["drop", "one"] = Field(
            default="one", description="Pairs without a stated strength: leave them out, or take them as strength 1."
        )

    def __init__(self, config: Config) -> None:
        self.config = config

    def targets(self, pairs: Sequence[PreferencePair]) -> PairTargets:
        found = pair_targets(pairs)
        known = np.array([p.preference_strength is not None for p in pairs], dtype=np.bool_)
        strength = np.array([-p.signed_strength for p in pairs], dtype=np.float64)
        used = found.is_used & (known | (self.config.unknown_strength == "one"))
        return replace(found, is_used=used, offset=self.config.scale * strength)

    def refusal(self, row: PreferencePair) -> str:
        is_decided = row.verdict in ("a", "b") and row.weight > 0
        return "no preference strength" if is_decided else super().refusal(row)

    def loss(self, rewards_a: "Tensor", rewards_b: "Tensor", targets: PairTargets) -> "Tensor":
        from workers.nn.losses import pairwise_loss

        return pairwise_loss(rewards_a - rewards_b, target=targets.target, weight=targets.weight, offset=targets.offset)
