"""The interface of a reward-model family, and the base of families that are a backbone with a head."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from pydantic import Field, field_validator

from workers.data.schema import Message, Scores
from workers.errors import JobError
from workers.specs import SpecModel

if TYPE_CHECKING:
    from workers.data.render import Encoded, Renderer
    from workers.nn.backbone import Backbone
    from workers.nn.heads import Head
    from workers.nn.net import Dtype, Net
    from workers.nn.pooling import Pooling

Extra = Mapping[str, Any]
Item = tuple[Sequence[Message], Sequence[Message]] | tuple[Sequence[Message], Sequence[Message], Extra]
"""(prompt, response) to be scored; families that read more take a third part, such as {"reference": messages}."""

CAPABILITIES: dict[str, str] = {
    "pointwise": "gives a reward to a response on its own",
    "trainable": "is made by a training run",
    "tokens": "reads tokens, so that long texts are truncated",
    "scalar": "can be trained on the margin of one reward",
    "attributes": "gives a value an attribute",
    "heads": "has several heads that each give a reward",
    "twins": "has two heads that check one another",
    "twin_policies": "has two policies that check one another",
    "gaussian": "gives mean and spread of a reward",
    "states": "its hidden states can be trained on",
    "likelihood": "its reward is a log-likelihood",
    "per_token": "gives a reward a token",
    "per_step": "gives a reward a step",
    "reference": "needs a reference answer",
    "personal": "its reward depends on who asks",
    "router": "weighs several heads by the prompt",
    "latent_user": "infers a person from that person's pairs",
    "person_pairs": "can be told a person's labelled pairs when it scores",
    "cross_prompt": "its rewards can be compared across prompts",
    "network": "asks a server over the network",
    "split": "can be trained in parts over several processes",
    "features": "its head can be trained on stored features of a frozen backbone",
    "imported": "its rewards come from a file and are never computed",
}


def no_report(n_done: int) -> None:
    """For callers that need no progress."""


def extra_of(item: Item) -> Extra:
    return item[2] if len(item) == 3 else {}


class Scorer(Protocol):
    def score(self, items: Sequence[Item], *, on_batch: Callable[[int], None] = no_report) -> Scores:
        """Rewards of `items`, in their order. A reward never depends on what else is in the batch.

        `on_batch(n)` is called when n more items are done, and with 0 several times a second as a sign of life; what it
        raises ends the scoring.
        """


class Family(Protocol):
    """A class with a docstring, registered in FAMILIES. capabilities: words of CAPABILITIES."""

    name: ClassVar[str]
    title: ClassVar[str]
    capabilities: ClassVar[frozenset[str]]
    trainable: ClassVar[bool]
    Config: ClassVar[type[SpecModel]]

    @classmethod
    def open(cls, config: Any, path: Path | None, *, threads: int | None = None) -> Scorer:
        """A scorer of the weights in `path` (None for a rule). JobError says what is missing."""


class BackboneConfig(SpecModel):
    """What every family with a backbone is asked for."""

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
    scoring_dtype: Literal["float32", "bf16", "int8"] = Field(
        default="float32",
        description="Precision of the backbone when scoring; the reward head is always float32. int8: faster on a CPU, "
        "at the cost of an error that the run shows.",
    )

    @field_validator("backbone")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        if value != value.strip() or "\x00" in value:
            raise ValueError("a name or path without spaces around it")
        return value


class NetFamily:
    """Base of families made of a backbone and a head: a subclass says which head.

    default_objective: what train_rm takes for the objective "auto"; frozen: whether the backbone is left as it is
    unless a run says otherwise; always_frozen: a run may not say otherwise; causal_only: needs a causal language model.

    Two more methods are called where a family has them: fit_head(ctx, config, objective, *, net, data, rows, spec)
    solves for the head on frozen features instead of training it, and prepare_head(ctx, config, *, net, data, rows)
    makes it ready for training, the same at every attempt. A third is asked when a training is submitted:
    refuses(config, objective, spec), with the settings as a mapping and the objective's name, says why such a training
    would fail whatever the data (a FieldProblem), or None. A family whose settings leave one objective alone has
    usual_objective(config), its name: "auto" then follows the settings, and pages offer no other.
    """

    name: ClassVar[str]
    trainable: ClassVar[bool] = True
    default_objective: ClassVar[str] = "bradley_terry"
    frozen: ClassVar[bool] = False
    always_frozen: ClassVar[bool] = False
    causal_only: ClassVar[bool] = False

    @classmethod
    def head(cls, config: Any, width: int) -> "Head":
        """A fresh head for vectors of `width` numbers."""
        raise NotImplementedError

    @classmethod
    def net(cls, config: Any, backbone: "Backbone", *, dtype: "Dtype" = "float32") -> "Net":
        """The backbone with a fresh head, on the CPU."""
        from workers.nn.reward_net import RewardNet

        usual: Pooling = "last" if backbone.is_causal else "mean"
        pooling = usual if config.pooling == "auto" else config.pooling
        head = cls.head(config, backbone.width)
        return RewardNet(backbone, pooling, head=head, dropout=config.dropout, dtype=dtype)

    @classmethod
    def load_backbone(cls, config: Any) -> "Backbone":
        """Pretrained weights to start from."""
        from workers.nn.backbone import load_backbone
        from workers.nn.hub import insist_reachable

        insist_reachable(config.backbone)
        found = load_backbone(config.backbone)
        if cls.causal_only and not found.is_causal:
            raise JobError(
                f"{config.backbone} is an encoder; this family needs a causal language model.",
                "Choose a causal backbone such as Qwen/Qwen2.5-0.5B.",
            )
        return found

    @classmethod
    def adopt(cls, net: "Net", weights: Any, family: str) -> str:
        """Take the weights of a checkpoint of `family` to start from; says in words what was taken.

        The backbone must fit whole; the head is taken where it fits, else it starts fresh.
        """
        own = net.state_dict()
        fitting = {n: t for n, t in weights.tensors.items() if n in own and own[n].shape == t.shape}
        missing = sorted(n for n in own if n.startswith("backbone.") and n not in fitting)
        if missing:
            raise JobError(
                f"The backbone of the checkpoint to start from does not fit at {missing[0]}.",
                "Start from a checkpoint with the same backbone.",
            )
        net.load_state_dict(fitting, strict=False)
        heads = {n for n in own if n.startswith("head.")}
        if heads <= fitting.keys():
            return f"Started from a checkpoint of the family {family}: backbone and head"
        return f"Started from a checkpoint of the family {family}: backbone; the head is new"

    @classmethod
    def renderer(cls, config: Any, backbone: "Backbone") -> "Renderer":
        from workers.data.render import Renderer

        return Renderer(backbone.tokenizer, min(config.max_length, backbone.context), config.rendering)

    @classmethod
    def encode(cls, config: Any, renderer: "Renderer", items: Sequence[Item]) -> "Sequence[Encoded]":
        """Token ids of items. The one place where a family decides what its model reads."""
        return renderer.encode([(item[0], item[1]) for item in items])

    @classmethod
    def unfit(cls, config: Any, item: Item) -> str | None:
        """Why an item cannot be read, in two or three words; None when it can."""
        return None

    @classmethod
    def open(cls, config: Any, path: Path | None, *, threads: int | None = None) -> Scorer:
        """A scorer of the weights in `path`."""
        if path is None:
            raise JobError("This reward model has no weights yet.", "Train it first, then score with its checkpoint.")
        import torch

        from workers.nn.checkpoints import insist_same_rendering, read_checkpoint
        from workers.nn.scoring import NetScorer

        if threads:
            torch.set_num_threads(threads)
        backbone, weights = read_checkpoint(path)
        insist_same_rendering(path, cls, config, backbone)
        is_int8 = config.scoring_dtype == "int8"
        net = cls.net(config, backbone, dtype="float32" if is_int8 else config.scoring_dtype)
        weights.load_into(net)
        if is_int8:
            from workers.nn.quantised import quantise

            quantise(net)
        if torch.cuda.is_available():
            net.cuda()
        renderer = cls.renderer(config, backbone)
        return NetScorer(net.eval(), renderer, encode=lambda items: cls.encode(config, renderer, items))
