"""Bradley-Terry: the pairwise log-likelihood that nearly every scalar reward model is trained with."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from workers.data.schema import PreferencePair
from workers.objectives import OBJECTIVES
from workers.objectives.base import PairTargets, PairwiseObjective, pair_targets
from workers.specs import SpecModel

if TYPE_CHECKING:
    from torch import Tensor


@OBJECTIVES.add("bradley_terry")
class BradleyTerry(PairwiseObjective):
    """-log sigmoid(r(chosen) - r(rejected)): the odds that a response is preferred are exp(margin).

    Rewards are fixed only up to a constant per prompt; a small centring term keeps their mean near zero.
    """

    title: ClassVar[str] = "Bradley-Terry"
    is_one_pass: ClassVar[bool] = True

    class Config(SpecModel):
        """Settings of the Bradley-Terry objective."""

        ties: Literal["drop", "half"] = Field(
            default="drop", description="Leave ties out, or aim at even odds. Pairs where both are bad are left out."
        )
        use_shares: bool = Field(
            default=False, description="Aim at the share of raters who preferred a response, where it is known."
        )
        label_smoothing: float = Field(
            default=0.0, ge=0, lt=0.5, description="Share of verdicts taken to be the wrong way round."
        )
        centre_coefficient: float = Field(
            default=0.01, ge=0, le=10, description="Weight of (r_a + r_b)^2, which keeps the mean reward near zero."
        )

    def __init__(self, config: Config) -> None:
        self.config = config

    def targets(self, pairs: Sequence[PreferencePair]) -> PairTargets:
        c = self.config
        return pair_targets(pairs, ties=c.ties, label_smoothing=c.label_smoothing, use_shares=c.use_shares)

    def loss(self, rewards_a: "Tensor", rewards_b: "Tensor", targets: PairTargets) -> "Tensor":
        from workers.nn.losses import centring_loss, pairwise_loss

        found = pairwise_loss(
            rewards_a - rewards_b, target=targets.target, weight=targets.weight, offset=targets.offset
        )
        if self.config.centre_coefficient:
            found = found + self.config.centre_coefficient * centring_loss(rewards_a, rewards_b, weight=targets.weight)
        return found
