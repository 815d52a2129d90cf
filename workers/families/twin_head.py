"""Two reward heads on one backbone, for training with labels of which some are wrong."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from workers.families import FAMILIES
from workers.families.base import BackboneConfig, NetFamily

if TYPE_CHECKING:
    from workers.nn.heads import Head


@FAMILIES.add("twin_head")
class TwinHeadFamily(NetFamily):
    """Two heads with first weights of their own on one backbone; each picks the pairs from which the other learns.

    On a frozen backbone the members share nothing that is trained. Where the backbone is trained they share it, which
    departs from the method: two whole models would need twice the memory.
    """

    title: ClassVar[str] = "Twin heads"
    capabilities: ClassVar[frozenset[str]] = frozenset(
        {"pointwise", "trainable", "tokens", "heads", "twins", "features"}
    )
    default_objective: ClassVar[str] = "peer_review"
    frozen: ClassVar[bool] = True

    class Config(BackboneConfig):
        """What the reward model is made of."""

        output: Literal["a", "b", "mean"] = Field(
            default="a", description="The reward: that of one member, or the mean of both after standardising each."
        )
        head_depth: int = Field(default=2, ge=1, le=5, description="Linear layers of each head.")
        head_activation: Literal["none", "tanh", "relu", "silu"] = Field(
            default="silu", description="Between the layers of a head of more than one; never after the last."
        )
        head_width: int | None = Field(
            default=None, ge=1, le=65536, description="Width between the layers; empty: the backbone's."
        )

    @classmethod
    def head(cls, config: Config, width: int) -> "Head":
        from workers.nn.twin import TwinHead

        return TwinHead(
            width,
            output=config.output,
            depth=config.head_depth,
            activation=config.head_activation,
            hidden=config.head_width,
        )
