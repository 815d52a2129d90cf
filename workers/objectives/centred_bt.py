"""Bradley-Terry with the mean square of the rewards as a penalty."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from workers.data.schema import PreferencePair
from workers.objectives import OBJECTIVES
from workers.objectives.base import PairTargets, PairwiseObjective, pair_targets
from workers.specs import SpecModel

if TYPE_CHECKING:
    from torch import Tensor

    from workers.nn.view import BatchView


@OBJECTIVES.add("centred_bt")
class CentredBradleyTerry(PairwiseObjective):
    """-log sigmoid(margin) + lambda * mean of r^2 over both responses: rewards are pulled to zero, margins with them.

    Unlike the centring term of bradley_terry, which leaves margins alone, this one shrinks them. Validation compares
    the loss without the penalty, so that runs with other lambdas can be compared.
    """

    title: ClassVar[str] = "Bradley-Terry with rewards pulled to zero"
    is_one_pass: ClassVar[bool] = True

    class Config(SpecModel):
        """Settings of the penalty."""

        penalty: float = Field(default=0.01, ge=0, le=10, description="lambda, the weight of the mean squared reward.")
        ties: Literal["drop", "half"] = Field(
            default="drop", description="Leave ties out, or aim at even odds. Pairs where both are bad are left out."
        )

    def __init__(self, config: Config) -> None:
        self.config = config

    def targets(self, pairs: Sequence[PreferencePair]) -> PairTargets:
        return pair_targets(pairs, ties=self.config.ties)

    def loss(self, rewards_a: "Tensor", rewards_b: "Tensor", targets: PairTargets) -> "Tensor":
        """The gradient of the penalty by one reward is 2 lambda r / N, N the number of rewards in the batch."""
        from workers.nn.losses import mean_square_loss, pairwise_loss

        found = pairwise_loss(
            rewards_a - rewards_b, target=targets.target, weight=targets.weight, offset=targets.offset
        )
        return found + self.config.penalty * mean_square_loss(rewards_a, rewards_b, weight=targets.weight)

    def validation_loss(self, view: "BatchView") -> "Tensor":
        from workers.nn.losses import pairwise_loss

        targets: PairTargets = view.targets  # type: ignore[assignment]
        rewards_a, rewards_b = view.rewards
        return pairwise_loss(rewards_a - rewards_b, target=targets.target, weight=targets.weight, offset=targets.offset)

    def step_metrics(self, view: "BatchView") -> dict[str, float]:
        rewards_a, rewards_b = (part.detach().abs().mean() for part in view.rewards)
        return {**super().step_metrics(view), "mean_abs_reward": float(rewards_a + rewards_b) / 2}
