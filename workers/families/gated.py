"""Ratings weighed by a gate that reads the prompt: ArmoRM."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from workers.errors import FieldProblem, JobError
from workers.families import FAMILIES
from workers.families.attributes import HELPSTEER, MOST, reading, refuse_other_reading
from workers.families.base import BackboneConfig, Item, NetFamily

if TYPE_CHECKING:
    from workers.data.render import Encoded, Renderer
    from workers.nn.backbone import Backbone
    from workers.nn.heads import Head
    from workers.nn.net import Net

STAGE_1 = "head.stage1."
NO_FIRST_STAGE = "A gated reward model starts from a first stage, and start_from is empty."
FIRST = "First train a reward model of the family embedding_linear or multi_attribute on ratings, then start from it."


@FAMILIES.add("gated")
class GatedFamily(NetFamily):
    """Ratings of a first stage, cleared of verbosity, weighed into one score by a gate that sees the prompt alone.

    Starts from a checkpoint of embedding_linear or multi_attribute, whose backbone and ratings stay as they are; the
    gate is trained on pairs. Every score comes with what it is made of.
    """

    title: ClassVar[str] = "Gated attributes"
    capabilities: ClassVar[frozenset[str]] = frozenset({"pointwise", "trainable", "tokens", "scalar", "features"})
    frozen: ClassVar[bool] = True
    always_frozen: ClassVar[bool] = True

    class Config(BackboneConfig):
        """What the reward model is made of. How texts are read, and the attributes, are as in the first stage."""

        attributes: list[str] = Field(
            default=list(HELPSTEER),
            min_length=2,
            max_length=MOST,
            description="The attributes of the first stage, in its order.",
        )
        verbosity: str = Field(
            default="auto",
            max_length=100,
            description="The attribute that says how long-winded a response is: the others are cleared of it, and it"
            " weighs nothing itself. auto: verbosity, where it is rated. none: nothing is cleared.",
        )
        gate_layers: int = Field(default=3, ge=1, le=8, description="Hidden layers of the gate.")
        gate_width: int = Field(default=1024, ge=1, le=16384, description="Width of these layers.")
        gate_dropout: float = Field(default=0.2, ge=0, lt=1, description="Dropout in the gate while it is trained.")
        temperature: float = Field(
            default=10.0, gt=0, le=1000, description="Logits are divided by this before the softmax."
        )

        gate_reads: Literal["header_end", "turn_end"] = Field(
            default="header_end",
            description="Where the gate reads a prompt. header_end: the last token before the response. turn_end: the"
            " special token that ends the user's turn, before the header of the answer, as ArmoRM does.",
        )

        @model_validator(mode="after")
        def _names_fit(self) -> Self:
            if len(set(self.attributes)) < len(self.attributes) or not all(name.strip() for name in self.attributes):
                raise ValueError("every attribute once, and none empty")
            if self.verbosity not in ("auto", "none", *self.attributes):
                raise ValueError(f"{self.verbosity} is none of the attributes")
            return self

        @property
        def verbosity_place(self) -> int | None:
            """Column of the verbosity attribute; None where there is none."""
            name = "verbosity" if self.verbosity == "auto" else self.verbosity
            return self.attributes.index(name) if name in self.attributes else None

    @classmethod
    def head(cls, config: Any, width: int) -> "Head":
        from workers.nn.gated_head import GatedHead

        return GatedHead(
            width,
            told=reading(config, config.attributes),
            layers=config.gate_layers,
            hidden=config.gate_width,
            dropout=config.gate_dropout,
            temperature=config.temperature,
            prompt_at_mark=config.gate_reads == "turn_end",
        )

    @classmethod
    def refuses(cls, config: Mapping[str, Any], objective: str, spec: Any) -> FieldProblem | None:
        """Without a first stage there is nothing to weigh."""
        if spec.start_from:
            return None
        return FieldProblem(pointer="/start_from", code="required", detail=f"{NO_FIRST_STAGE} {FIRST}")

    @classmethod
    def load_backbone(cls, config: Any) -> "Backbone":
        """Only the first stage has one; a run that names none is refused before anything is read."""
        raise JobError(NO_FIRST_STAGE, FIRST)

    @classmethod
    def renderer(cls, config: Any, backbone: "Backbone") -> "Renderer":
        """As usual; JobError where a chat template does not mark the place at which an answer begins."""
        found = super().renderer(config, backbone)
        if found.uses_template and backbone.is_causal:
            insist_on_answer_header(backbone.tokenizer)
        elif config.gate_reads == "turn_end":
            raise JobError(
                "Only a causal backbone with a chat template has a token that ends the user's turn.",
                "Set gate_reads to header_end, or choose another backbone.",
            )
        return found

    @classmethod
    def encode(cls, config: Any, renderer: Any, items: Sequence[Item]) -> "Sequence[Encoded]":
        """As usual; where the gate reads the end of the user's turn, its place is the mark."""
        found = super().encode(config, renderer, items)
        if config.gate_reads == "header_end":
            return found
        back = len(answer_header(renderer.tokenizer))
        places = [max(0, len(item) - item.n_response - back) for item in found]
        return [replace(item, marks=np.array([p], dtype=np.int32)) for item, p in zip(found, places, strict=True)]

    @classmethod
    def adopt(cls, net: "Net", weights: Any, family: str) -> str:
        """Backbone and ratings of the first stage; of another gated checkpoint, everything that fits."""
        from workers.nn.attribute_heads import from_bytes
        from workers.nn.checkpoints import Weights

        tensors = dict(weights.tensors)
        about = f"{STAGE_1}about" if family == cls.name else "head.about"
        if about not in tensors or (family != cls.name and "head.weight" not in tensors):
            raise JobError(f"A checkpoint of the family {family} rates no attributes.", FIRST)
        refuse_other_reading(from_bytes(net.state_dict()[f"{STAGE_1}about"]), from_bytes(tensors[about]))
        if family == cls.name:
            return super().adopt(net, weights, family)
        ratings = {
            name.replace("head.", STAGE_1, 1): tensor for name, tensor in tensors.items() if name.startswith("head.")
        }
        backbone = {name: tensor for name, tensor in tensors.items() if name.startswith("backbone.")}
        super().adopt(net, Weights({**backbone, **ratings}), family)
        return f"Started from a checkpoint of the family {family}: backbone and ratings; the gate is new"

    @classmethod
    def prepare_head(cls, ctx: Any, config: Any, *, net: Any, data: Any, rows: Any) -> None:
        """Find what each attribute owes to verbosity on the responses of the training pairs, both of each pooled."""
        from workers.nn.gating import clear_of_verbosity

        if config.verbosity_place is None:
            ctx.log("No attribute says how long-winded a response is: ratings are weighed as they are", "warning")
            net.head.report = {"verbosity": None}
            return
        net.head.report = clear_of_verbosity(ctx, net.head, data, rows, config.verbosity_place)


def insist_on_answer_header(tokenizer: Any) -> None:
    """The gate reads the state just before the answer, which a template marks with the header of the assistant."""
    asked = [{"role": "user", "content": "Hi"}]
    plain = tokenizer.apply_chat_template(asked, tokenize=False)
    waiting = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    if not (waiting.startswith(plain) and len(waiting) > len(plain)):
        raise JobError(
            "The backbone's chat template has no assistant header, so the gate cannot tell where the answer begins.",
            "Set rendering to plain for both stages, or choose another backbone.",
        )


def answer_header(tokenizer: Any) -> list[int]:
    """Token ids from the special one that ends a user's turn to the last before the answer."""
    if not tokenizer.chat_template:
        raise JobError(
            "Its tokenizer has no chat template, which says where the gate reads.", "Give one as chat_template."
        )
    asked = [{"role": "user", "content": "Hi"}]
    texts = [tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=g) for g in (False, True)]
    plain, waiting = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts)
    specials = set(tokenizer.all_special_ids)
    ends = [i for i, token in enumerate(plain) if token in specials]
    if not ends or len(waiting) <= len(plain):
        raise JobError(
            "The chat template ends a user's turn with no special token, or has no assistant header: the gate cannot "
            "be placed.",
            "Give the template that the model was trained with, or set gate_reads to header_end.",
        )
    return [int(token) for token in waiting[ends[-1] :]]
