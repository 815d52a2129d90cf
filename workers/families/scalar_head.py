"""The classic reward model: a pretrained backbone with a small head on top."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from workers.families import FAMILIES
from workers.families.base import BackboneConfig, NetFamily

if TYPE_CHECKING:
    from workers.nn.heads import Head


@FAMILIES.add("scalar_head")
class ScalarHeadFamily(NetFamily):
    """A pretrained encoder or causal model reads prompt and response; a small head turns its state into one reward.

    Trained on pairs. Works with any Hugging Face encoder or causal backbone that comes as safetensors and needs no
    code of its own.
    """

    title: ClassVar[str] = "Scalar head"
    capabilities: ClassVar[frozenset[str]] = frozenset(
        {"pointwise", "trainable", "tokens", "scalar", "states", "features"}
    )

    class Config(BackboneConfig):
        """What the reward model is made of."""

        head_depth: int = Field(default=1, ge=1, le=5, description="Linear layers of the head.")
        head_activation: Literal["none", "tanh", "relu", "silu"] = Field(
            default="silu", description="Between the layers of a head of more than one; never after the last."
        )
        head_width: int | None = Field(
            default=None, ge=1, le=65536, description="Width between the layers; empty: the backbone's."
        )

    @classmethod
    def head(cls, config: Config, width: int) -> "Head":
        from workers.nn.heads import DeepHead, ScalarHead

        if config.head_depth == 1:
            return ScalarHead(width)
        return DeepHead(width, depth=config.head_depth, activation=config.head_activation, hidden=config.head_width)
