"""Two policies trained from one start, each with the reward that it implies against that start."""

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from workers.families import FAMILIES
from workers.families.implicit import ImplicitFamily

if TYPE_CHECKING:
    from workers.nn.backbone import Backbone
    from workers.nn.likelihood_net import LikelihoodNet


@FAMILIES.add("twin_policies")
class TwinPoliciesFamily(ImplicitFamily):
    """Two policies and one reference; each picks the pairs from which the other learns.

    Rewards are as those of the family implicit: comparable only between responses to one prompt.
    """

    title: ClassVar[str] = "Twin policies (implicit rewards)"
    capabilities: ClassVar[frozenset[str]] = frozenset(
        {"pointwise", "trainable", "tokens", "heads", "twin_policies", "split"}
    )
    default_objective: ClassVar[str] = "peer_review_dpo"

    class Config(ImplicitFamily.Config):
        """Which policy both begin as, and against what."""

        output: Literal["a", "b", "mean"] = Field(
            default="a", description="The reward: that of one policy, or the mean of both after standardising each."
        )
        dropout: float = Field(
            default=0.05, ge=0, lt=1, description="Dropout in training. It is what sets the two policies apart."
        )

    @classmethod
    def build(cls, config: Any, backbone: "Backbone", **options: Any) -> "LikelihoodNet":
        from workers.nn.twin_policies import TwinPolicyNet

        told = {"beta": config.beta, "output": config.output, "dropout": config.dropout}
        return TwinPolicyNet(backbone, **told, **options)

    @classmethod
    def adopt(cls, net: Any, weights: Any, family: str) -> str:
        told = super().adopt(net, weights, family)
        net.head.renew()
        return f"{told}, for both policies"
