"""The classic reward model: a pretrained backbone with one linear layer on top."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, field_validator

from workers.errors import JobError
from workers.families import FAMILIES
from workers.families.base import Scorer
from workers.specs import SpecModel

if TYPE_CHECKING:
    from workers.data.render import Renderer
    from workers.nn.backbone import Backbone
    from workers.nn.pooling import Pooling
    from workers.nn.reward_net import Dtype, RewardNet


@FAMILIES.add("scalar_head")
class ScalarHead:
    """A pretrained encoder or causal model reads prompt and response; a linear layer turns its state into one reward.

    Trained on pairs. Works with any Hugging Face encoder or causal backbone that comes as safetensors and needs no
    code of its own.
    """

    title: ClassVar[str] = "Scalar head"
    capabilities: ClassVar[frozenset[str]] = frozenset({"pointwise", "trainable", "tokens"})
    trainable: ClassVar[bool] = True

    class Config(SpecModel):
        """What the reward model is made of."""

        backbone: str = Field(
            default="minilm",
            min_length=1,
            max_length=300,
            description="Hugging Face id, path of a local folder, or minilm: the small English encoder built in.",
        )
        max_length: int = Field(
            default=512,
            ge=16,
            le=131072,
            description="Tokens read at most; never more than the backbone's context. A longer prompt loses its start.",
        )
        pooling: Literal["auto", "last", "first", "mean", "response_mean"] = Field(
            default="auto",
            description="Tokens the reward is read from. auto: the last of a causal model, the mean of an encoder.",
        )
        rendering: Literal["auto", "chat_template", "plain"] = Field(
            default="auto",
            description="How a conversation becomes text. auto: the backbone's chat template, else plain role labels.",
        )
        dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout in training. Above 0 is slow on a CPU.")
        scoring_dtype: Literal["float32", "bf16"] = Field(
            default="float32", description="Precision of the backbone when scoring. The reward head is always float32."
        )

        @field_validator("backbone")
        @classmethod
        def _is_a_name(cls, value: str) -> str:
            if value != value.strip() or "\x00" in value:
                raise ValueError("a name or path without spaces around it")
            return value

    @classmethod
    def open(cls, config: Config, path: Path | None, *, threads: int | None = None) -> Scorer:
        """A scorer of the weights in `path`."""
        if path is None:
            raise JobError("This reward model has no weights yet.", "Train it first, then score with its checkpoint.")
        import torch

        from workers.nn.checkpoints import read_checkpoint
        from workers.nn.scoring import NetScorer

        if threads:
            torch.set_num_threads(threads)
        backbone, weights = read_checkpoint(path)
        net = cls.net(config, backbone, dtype=config.scoring_dtype)
        weights.load_into(net)
        if torch.cuda.is_available():
            net.cuda()
        return NetScorer(net.eval(), cls.renderer(config, backbone))

    @classmethod
    def net(cls, config: Config, backbone: "Backbone", *, dtype: "Dtype" = "float32") -> "RewardNet":
        """The backbone with a fresh reward head, on the CPU."""
        from workers.nn.reward_net import RewardNet

        usual: Pooling = "last" if backbone.is_causal else "mean"
        pooling = usual if config.pooling == "auto" else config.pooling
        return RewardNet(backbone, pooling, dropout=config.dropout, dtype=dtype)

    @classmethod
    def renderer(cls, config: Config, backbone: "Backbone") -> "Renderer":
        from workers.data.render import Renderer

        return Renderer(backbone.tokenizer, min(config.max_length, backbone.context), config.rendering)
