"""A reward model that keeps a goal state, so that it values unfinished responses token by token."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from workers.families import FAMILIES
from workers.families.base import BackboneConfig, NetFamily, Scorer

if TYPE_CHECKING:
    from workers.nn.backbone import Backbone
    from workers.nn.heads import Head
    from workers.nn.net import Dtype, Net


@FAMILIES.add("goal_conditioned")
class GoalConditionedFamily(NetFamily):
    """A causal model whose last state gives the reward, and whose cosine with a stored goal values every token.

    The goal is the mean last state of the preferred responses that were trained on, kept with the weights. Only the
    objective goal_contrastive computes one and makes its values mean something.
    """

    title: ClassVar[str] = "Goal-conditioned head"
    capabilities: ClassVar[frozenset[str]] = frozenset(
        {"pointwise", "trainable", "tokens", "scalar", "states", "per_token"}
    )
    default_objective: ClassVar[str] = "goal_contrastive"
    causal_only: ClassVar[bool] = True

    class Config(BackboneConfig):
        """What the reward model is made of."""

        backbone: str = Field(
            default="Qwen/Qwen2.5-0.5B",
            min_length=1,
            max_length=300,
            description="Causal language model: Hugging Face id, or path of a local folder.",
        )
        pooling: Literal["last"] = Field(default="last", description="The reward is read at the last token.")
        head: Literal["linear", "mlp"] = Field(
            default="linear",
            description="mlp: four layers, so that the tokens' values follow the reward less closely.",
        )

    @classmethod
    def head(cls, config: Config, width: int) -> "Head":
        from workers.nn.goal_states import GoalHead

        return GoalHead(width, shape=config.head)

    @classmethod
    def net(cls, config: Config, backbone: "Backbone", *, dtype: "Dtype" = "float32") -> "Net":
        from workers.nn.goal_states import GoalNet

        head = cls.head(config, backbone.width)
        return GoalNet(backbone, config.pooling, head=head, dropout=config.dropout, dtype=dtype)

    @classmethod
    def adopt(cls, net: Any, weights: Any, family: str) -> str:
        """Take the weights to start from, without their goal: it belongs to them as they were."""
        said = super().adopt(net, weights, family)
        net.head.goal.fill_(float("nan"))
        return said

    @classmethod
    def open(
        cls,
        config: Any,
        path: Path | None,
        *,
        threads: int | None = None,
        per_token: bool = False,
        goal: Path | None = None,
    ) -> Scorer:
        """A scorer of the weights in `path`; with `per_token` its parts tell value and reward of every token.

        goal: file of another goal of this checkpoint, to value tokens by instead of its own.
        """
        scorer: Any = super().open(config, path, threads=threads)
        if goal is not None and path is not None:
            from workers.nn.goal_file import load_goal

            scorer.net.head.goal.copy_(load_goal(goal, path, width=len(scorer.net.head.goal)))
        scorer.net.per_token = per_token
        scorer.net.head.tokenizer = scorer.renderer.tokenizer
        found: Scorer = scorer
        return found
