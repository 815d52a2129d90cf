"""Direct preference optimisation: the pairwise loss of the reward that a policy implies."""

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from workers.objectives import OBJECTIVES
from workers.objectives.likelihood_bt import LikelihoodObjective, LikelihoodObjectiveConfig

if TYPE_CHECKING:
    from torch import Tensor

    from workers.nn.view import BatchView


@OBJECTIVES.add("dpo")
class DirectPreferenceOptimisation(LikelihoodObjective):
    """-log sigmoid(r(chosen) - r(rejected)) with r = beta * log(pi / pi_ref), summed over the response's tokens."""

    title: ClassVar[str] = "DPO"

    class Config(LikelihoodObjectiveConfig):
        """Settings of DPO."""

        beta: float | None = Field(
            default=None, gt=0, le=100, description="Scale of the log-ratio in the loss; empty: the reward model's own."
        )

    def scaled_margin(self, view: "BatchView") -> "Tensor":
        a, b = view.rewards
        net: Any = view.net
        return (a - b) if self.config.beta is None else (a - b) * (self.config.beta / net.beta)
