"""A rating of every attribute, and a weighted sum of them as the reward."""

from typing import TYPE_CHECKING, Any, ClassVar

from workers.families import FAMILIES
from workers.families.attributes import AttributeConfig, reading
from workers.families.base import NetFamily

if TYPE_CHECKING:
    from workers.nn.heads import Head
    from workers.nn.net import Net


@FAMILIES.add("multi_attribute")
class MultiAttributeFamily(NetFamily):
    """A backbone with one linear output an attribute, trained on ratings of single responses.

    Ratings are on the scale of the labels and can be compared across prompts. The reward is their weighted sum;
    the ratings themselves are kept with every score. A second run may go on from the first with preferences.
    """

    title: ClassVar[str] = "Multi-attribute regression"
    capabilities: ClassVar[frozenset[str]] = frozenset(
        {"pointwise", "trainable", "tokens", "scalar", "attributes", "features", "cross_prompt", "split"}
    )
    default_objective: ClassVar[str] = "attribute_regression"

    class Config(AttributeConfig):
        """What the reward model is made of."""

    @classmethod
    def head(cls, config: AttributeConfig, width: int) -> "Head":
        from workers.nn.attribute_heads import AttributeHead

        return AttributeHead(width, told=reading(config, config.attributes), goodness=config.goodness)

    @classmethod
    def adopt(cls, net: "Net", weights: Any, family: str) -> str:
        """As usual; a head for other attributes is left where it is, also when it has as many of them."""
        from workers.nn.attribute_heads import from_bytes
        from workers.nn.checkpoints import Weights

        about = weights.tensors.get("head.about")
        own = from_bytes(net.state_dict()["head.about"])
        if about is not None and from_bytes(about)["attributes"] == own["attributes"]:
            return super().adopt(net, weights, family)
        backbone = {name: tensor for name, tensor in weights.tensors.items() if not name.startswith("head.")}
        return super().adopt(net, Weights(backbone), family)
