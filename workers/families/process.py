"""A reward a step: the state at the last token of every step gives the probability that the step is right."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from workers.data.steps import misalignment, steps_of_item, steps_text
from workers.families import FAMILIES
from workers.families.base import BackboneConfig, Item, NetFamily, Scorer, extra_of

if TYPE_CHECKING:
    from workers.data.render import Encoded, Renderer
    from workers.nn.backbone import Backbone
    from workers.nn.heads import Head
    from workers.nn.net import Dtype, Net


@FAMILIES.add("process")
class ProcessFamily(NetFamily):
    """A process reward model: a linear layer reads the backbone's state at the last token of every step.

    The reward of a response puts the steps' probabilities together. Steps come with the data (`steps`), else every
    line is one. Trained on labels of steps (step_bce).
    """

    title: ClassVar[str] = "Process reward model"
    capabilities: ClassVar[frozenset[str]] = frozenset(
        {"pointwise", "trainable", "tokens", "per_step", "cross_prompt", "split"}
    )
    default_objective: ClassVar[str] = "step_bce"

    class Config(BackboneConfig):
        """What the reward model is made of."""

        pooling: Literal["auto"] = Field(default="auto", description="Always the last token of every step.")
        aggregation: Literal["min", "mean", "last", "product", "sum"] = Field(
            default="min", description="How the probabilities of the steps become the one reward of a response."
        )
        step_tag: str = Field(
            default="",
            max_length=100,
            description="Text that ends a step in responses that come without steps; empty: every line is a step.",
        )

        step_mark: str = Field(
            default="",
            max_length=100,
            description="Text put after every step and read there, as some public models expect (<extra_0> of"
            " Qwen2.5-Math-PRM; \\s for a space and \\n for a line break). Empty: nothing is put in, and a step is read"
            " at its own last token.",
        )
        step_answer: str = Field(
            default="",
            max_length=20,
            description="Every step becomes a turn of the user, this the answer to it, and the step is read just before"
            " the answer, as RLHFlow's models expect (+). Needs a chat template. Empty: steps stay in one response.",
        )
        head_depth: int = Field(default=1, ge=1, le=5, description="Linear layers of the head.")
        head_activation: Literal["none", "tanh", "relu", "silu", "gelu"] = Field(
            default="silu", description="Between the layers of a head of more than one; never after the last."
        )
        head_width: int | None = Field(
            default=None, ge=1, le=65536, description="Width between the layers; empty: the backbone's."
        )

        @field_validator("step_mark")
        @classmethod
        def _with_white_space(cls, value: str) -> str:
            """Fields of a page lose white space at their ends, so it may be written as in code."""
            return value.replace("\\n", "\n").replace("\\s", " ")

        @model_validator(mode="after")
        def _one_form(self) -> Self:
            if self.step_mark and self.step_answer:
                raise ValueError("steps have a step_mark after them, or a step_answer: not both")
            return self

    @classmethod
    def head(cls, config: Config, width: int) -> "Head":
        from workers.nn.steps import DeepStepHead, StepHead

        if config.head_depth == 1:
            return StepHead(width, config.aggregation)
        shape = {"depth": config.head_depth, "activation": config.head_activation, "hidden": config.head_width}
        return DeepStepHead(width, config.aggregation, **shape)

    @classmethod
    def net(cls, config: Any, backbone: "Backbone", *, dtype: "Dtype" = "float32") -> "Net":
        from workers.nn.steps import StepNet

        head = cls.head(config, backbone.width)
        return StepNet(backbone, "last", head=head, dropout=config.dropout, dtype=dtype)

    @classmethod
    def renderer(cls, config: Any, backbone: "Backbone") -> "Renderer":
        from workers.nn.step_turns import TurnRenderer
        from workers.nn.steps import StepRenderer

        length = min(config.max_length, backbone.context)
        if config.step_answer:
            return TurnRenderer(backbone.tokenizer, length, config.rendering, answer=config.step_answer)
        return StepRenderer(backbone.tokenizer, length, config.rendering, step_mark=config.step_mark)

    @classmethod
    def encode(cls, config: Any, renderer: Any, items: Sequence[Item]) -> "Sequence[Encoded]":
        found: Sequence[Encoded] = renderer.encode_steps(
            [(item[0], item[1], steps_of_item(item[1], extra_of(item).get("steps"), config.step_tag)) for item in items]
        )
        return found

    @classmethod
    def unfit(cls, config: Any, item: Item) -> str | None:
        given = extra_of(item).get("steps")
        return misalignment(steps_text(item[1]), given) if given else None

    @classmethod
    def open(cls, config: Any, path: Path | None, *, threads: int | None = None) -> Scorer:
        from workers.nn.steps import StepScorer

        plain: Any = super().open(config, path, threads=threads)
        encode: Callable[[Sequence[Item]], Sequence[Encoded]] = plain.encode
        scorer = StepScorer(plain.net, plain.renderer, encode=encode)
        scorer.tag = config.step_tag
        return scorer
