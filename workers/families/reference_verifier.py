"""A verifier: reads question, reference answer and response, and says how probably the response is right."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from workers.data.verification import verification_fields, verification_parts, verification_text
from workers.families import FAMILIES
from workers.families.base import BackboneConfig, Item, NetFamily, extra_of

if TYPE_CHECKING:
    from workers.data.render import Encoded, Renderer
    from workers.nn.backbone import Backbone
    from workers.nn.heads import Head


@FAMILIES.add("reference_verifier")
class ReferenceVerifierFamily(NetFamily):
    """A classifier of question, reference answer and response with one logit, which is the reward.

    Told besides: the probability that the response is right, sigmoid of the logit. Every example needs a reference
    answer in its metadata (`reference` or `reference_answer`).
    """

    title: ClassVar[str] = "Reference verifier"
    capabilities: ClassVar[frozenset[str]] = frozenset(
        {"pointwise", "trainable", "tokens", "scalar", "states", "features", "reference", "cross_prompt", "split"}
    )
    default_objective: ClassVar[str] = "verification"

    class Config(BackboneConfig):
        """What the reward model is made of."""

        rendering: Literal["plain"] = Field(
            default="plain", description="One text with tags around question, reference answer and response."
        )
        max_characters: int = Field(
            default=8000, ge=100, le=1_000_000, description="Longer texts are left out of training and counted."
        )

    @classmethod
    def head(cls, config: Config, width: int) -> "Head":
        from workers.nn.verifier import LogitHead

        return LogitHead(width)

    @classmethod
    def renderer(cls, config: Any, backbone: "Backbone") -> "Renderer":
        from workers.nn.verifier import TextRenderer

        return TextRenderer(backbone.tokenizer, min(config.max_length, backbone.context))

    @classmethod
    def encode(cls, config: Any, renderer: "Renderer", items: Sequence[Item]) -> "Sequence[Encoded]":
        texts = [verification_parts(*verification_fields(i[0], i[1], extra_of(i).get("reference"))) for i in items]
        return renderer.encode(
            [([{"role": "user", "content": before}], [{"role": "assistant", "content": own}]) for before, own in texts]
        )

    @classmethod
    def unfit(cls, config: Any, item: Item) -> str | None:
        question, reference, completion = verification_fields(item[0], item[1], extra_of(item).get("reference"))
        if not reference.strip():
            return "no reference answer"
        if len(verification_text(question, reference, completion)) > config.max_characters:
            return f"over {config.max_characters} characters"
        return None
