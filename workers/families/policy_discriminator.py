"""A policy discriminator: does a response look as if it came from the policy that wrote the reference?"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from workers.families import FAMILIES
from workers.families.base import BackboneConfig, Item, NetFamily, Scorer, extra_of

if TYPE_CHECKING:
    from workers.data.render import Encoded, Renderer
    from workers.nn.backbone import Backbone
    from workers.nn.heads import Head


@FAMILIES.add("policy_discriminator")
class PolicyDiscriminatorFamily(NetFamily):
    """A causal model reads prompt with reference and prompt with response; one linear layer says how alike they are.

    Every row needs a reference answer. Rewards may be compared between responses to one prompt with one reference, and
    nowhere else. Trained on pairs: first on a pool of policies without any label, then on rankings whose best is the
    reference.
    """

    title: ClassVar[str] = "Policy discriminator"
    capabilities: ClassVar[frozenset[str]] = frozenset(
        {"pointwise", "trainable", "tokens", "scalar", "states", "features", "reference", "split"}
    )
    causal_only: ClassVar[bool] = True

    class Config(BackboneConfig):
        """What the reward model is made of."""

        backbone: str = Field(
            default="Qwen/Qwen2.5-0.5B",
            min_length=1,
            max_length=300,
            description="Causal language model: Hugging Face id, or path of a local folder.",
        )
        max_length: int = Field(
            default=4096,
            ge=16,
            le=131072,
            description="Tokens read at most, the prompt counted twice; never more than the backbone's context.",
        )
        most_answer_tokens: int | None = Field(
            default=None,
            ge=1,
            le=131072,
            description="Longer references and responses lose their end; empty: a quarter of max_length.",
        )
        joint: Literal["newline", "none"] = Field(
            default="newline",
            description="Between prompt and what follows. none: the texts go on where a prefix ended, as in a pool.",
        )
        separator_token: str = Field(
            default="<|reward|>", min_length=1, max_length=100, description="Special token between the two halves."
        )
        reward_token: str = Field(
            default="<|score|>",
            min_length=1,
            max_length=100,
            description="Special last token, where the reward is read.",
        )
        pooling: Literal["last"] = Field(default="last", description="The reward is read at the reward token.")
        rendering: Literal["plain"] = Field(default="plain", description="Turns joined by newlines, without roles.")

    @classmethod
    def head(cls, config: Config, width: int) -> "Head":
        from workers.nn.policy_discriminator import ReferenceHead

        return ReferenceHead(width)

    @classmethod
    def load_backbone(cls, config: Config) -> "Backbone":
        from workers.nn.policy_discriminator import add_tokens

        return add_tokens(super().load_backbone(config), [config.separator_token, config.reward_token])

    @classmethod
    def renderer(cls, config: Config, backbone: "Backbone") -> "Renderer":
        from workers.nn.policy_discriminator import ComparisonRenderer

        return ComparisonRenderer(
            backbone.tokenizer,
            min(config.max_length, backbone.context),
            separator=config.separator_token,
            reward_token=config.reward_token,
            most=config.most_answer_tokens,
            joint=config.joint,
        )

    @classmethod
    def encode(cls, config: Config, renderer: Any, items: Sequence[Item]) -> "Sequence[Encoded]":
        found: Sequence[Encoded] = renderer.compare(items)
        return found

    @classmethod
    def unfit(cls, config: Config, item: Item) -> str | None:
        reference = extra_of(item).get("reference")
        if not reference:
            return "no reference"
        # A model that is shown the same text twice learns to copy, not to tell policies apart.
        return "a response is the reference itself" if _texts(reference) == _texts(item[1]) else None

    @classmethod
    def open(cls, config: Any, path: Path | None, *, threads: int | None = None) -> Scorer:
        """A scorer of the weights in `path`; what has no reference gets no reward."""
        from workers.nn.policy_discriminator import ReferencedScorer

        plain: Any = super().open(config, path, threads=threads)
        return ReferencedScorer(plain.net, plain.renderer, encode=plain.encode)


def _texts(messages: Any) -> list[str]:
    return [m["content"] for m in messages]
