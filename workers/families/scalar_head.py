"""The classic reward model: a pretrained backbone with a small head on top."""

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from workers.families import FAMILIES
from workers.families.base import BackboneConfig, NetFamily

if TYPE_CHECKING:
    from workers.nn.backbone import Backbone
    from workers.nn.heads import Head
    from workers.nn.net import Dtype, Net
    from workers.nn.pooling import Pooling


@FAMILIES.add("scalar_head")
class ScalarHeadFamily(NetFamily):
    """A pretrained encoder or causal model reads prompt and response; a small head turns its state into one reward.

    Trained on pairs. Works with any Hugging Face encoder or causal backbone that comes as safetensors and needs no
    code of its own.
    """

    title: ClassVar[str] = "Scalar head"
    capabilities: ClassVar[frozenset[str]] = frozenset(
        {"pointwise", "trainable", "tokens", "scalar", "states", "features", "split"}
    )

    class Config(BackboneConfig):
        """What the reward model is made of."""

        head_depth: int = Field(default=1, ge=1, le=5, description="Linear layers of the head.")
        head_activation: Literal["none", "tanh", "relu", "silu", "gelu"] = Field(
            default="silu", description="Between the layers of a head of more than one; never after the last."
        )
        head_width: int | None = Field(
            default=None, ge=1, le=65536, description="Width between the layers; empty: the backbone's."
        )

        length_normalisation: Literal["none", "log_tokens"] = Field(
            default="none",
            description="log_tokens: divide the reward by ln(e + tokens of the response); a reconstructed form.",
        )

    @classmethod
    def head(cls, config: Config, width: int) -> "Head":
        from workers.nn.heads import DeepHead, ScalarHead

        if config.head_depth == 1:
            return ScalarHead(width)
        return DeepHead(width, depth=config.head_depth, activation=config.head_activation, hidden=config.head_width)

    @classmethod
    def net(cls, config: Any, backbone: "Backbone", *, dtype: "Dtype" = "float32") -> "Net":
        if config.length_normalisation == "none":
            return super().net(config, backbone, dtype=dtype)
        from workers.nn.length_normalised import LengthNormalised, LengthNormalisedNet

        usual: Pooling = "last" if backbone.is_causal else "mean"
        pooling = usual if config.pooling == "auto" else config.pooling
        head = LengthNormalised(cls.head(config, backbone.width))
        return LengthNormalisedNet(backbone, pooling, head=head, dropout=config.dropout, dtype=dtype)
