"""What the families whose reward is a log-likelihood share. No family itself."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from workers.errors import JobError
from workers.families.base import BackboneConfig, Item, NetFamily, Scorer

if TYPE_CHECKING:
    from workers.data.render import Encoded, Renderer
    from workers.nn.backbone import Backbone
    from workers.nn.likelihood_net import LikelihoodNet
    from workers.nn.net import Dtype, Net

TOO_LONG = "response longer than the model reads"
NO_PROMPT = "no room for the prompt"
ONE_CUT = "only one response cut"


class LikelihoodConfig(BackboneConfig):
    """What every family that reads a likelihood is asked for."""

    backbone: str = Field(
        default="Qwen/Qwen2.5-0.5B",
        min_length=1,
        max_length=300,
        description="Causal language model: Hugging Face id, or path of a local folder.",
    )
    pooling: Literal["auto"] = Field(default="auto", description="Nothing is pooled: the reward is a sum over tokens.")
    long_responses: Literal["refuse", "cut"] = Field(
        default="refuse",
        description="A response longer than the model reads has no likelihood. refuse: leave it out and name it. cut: "
        "read its beginning and flag it; of a pair to train on, both responses must then be cut.",
    )


class LikelihoodFamily(NetFamily):
    """Base: a causal language model with its head, read at the tokens of the response."""

    causal_only: ClassVar[bool] = True

    @classmethod
    def load_backbone(cls, config: LikelihoodConfig) -> "Backbone":
        from workers.nn.causal_lm import load_causal_lm
        from workers.nn.hub import insist_reachable

        insist_reachable(config.backbone)
        return load_causal_lm(config.backbone)

    @classmethod
    def build(cls, config: Any, backbone: "Backbone", **options: Any) -> "LikelihoodNet":
        """The net with these weights; options are those of LikelihoodNet."""
        from workers.nn.likelihood_net import LikelihoodNet

        return LikelihoodNet(backbone, dropout=config.dropout, **options)

    @classmethod
    def net(cls, config: Any, backbone: "Backbone", *, dtype: "Dtype" = "float32") -> "Net":
        return cls.build(config, backbone, dtype=dtype)

    @classmethod
    def adopt(cls, net: "Net", weights: Any, family: str) -> str:
        """Take the language model of a checkpoint of `family`; a reference of its own is not taken."""
        own = {name for name in net.state_dict() if name.startswith("backbone.lm_head.")}
        if not own <= weights.tensors.keys():
            raise JobError(
                f"The checkpoint to start from is of the family {family} and has no language-model head.",
                "Start from a checkpoint of a likelihood family, or from a backbone.",
            )
        policy = {name: tensor for name, tensor in weights.tensors.items() if name.startswith("backbone.")}
        super().adopt(net, replace(weights, tensors=policy), family)
        return f"Started from a checkpoint of the family {family}: its language model"

    @classmethod
    def encode(cls, config: LikelihoodConfig, renderer: "Renderer", items: Sequence[Item]) -> "Sequence[Encoded]":
        """As every family, but that what was cut keeps its first token as context, or no context where it is refused.

        A response that fills everything has none either: `unread` names both.
        """
        found = super().encode(config, renderer, items)
        kept = 0 if config.long_responses == "refuse" else 1
        return [replace(item, n_response=len(item) - kept) if item.n_response_dropped else item for item in found]

    @classmethod
    def open(cls, config: Any, path: Path | None, *, threads: int | None = None, per_token: bool = False) -> Scorer:
        """A scorer of the weights in `path`; with `per_token` its parts tell the reward of every response token."""
        import torch

        if threads:
            torch.set_num_threads(threads)
        net, backbone = cls.opened(config, path, per_token=per_token)
        if torch.cuda.is_available():
            net.cuda()
        from workers.nn.likelihood_scorer import LikelihoodScorer

        renderer = cls.renderer(config, backbone)
        return LikelihoodScorer(net.eval(), renderer, encode=lambda items: cls.encode(config, renderer, items))

    @classmethod
    def opened(cls, config: Any, path: Path | None, *, per_token: bool) -> "tuple[LikelihoodNet, Backbone]":
        """The net that a checkpoint holds, its reference included where it has one."""
        if path is None:
            raise JobError("This reward model has no weights yet.", "Train it first, then score with its checkpoint.")
        from copy import deepcopy

        from workers.nn.causal_lm import with_lm_head
        from workers.nn.checkpoints import insist_same_rendering, read_checkpoint

        backbone, weights = read_checkpoint(path)
        insist_same_rendering(path, cls, config, backbone)
        with_lm_head(backbone)
        has_reference = any(name.startswith("reference.") for name in weights.tensors)
        reference = deepcopy(backbone.model) if has_reference else None
        options = {"reference": reference, "per_token": per_token, "dtype": config.scoring_dtype}
        net = cls.build(config, backbone, **options)
        weights.load_into(net)
        return net, backbone


def unread(unit: "Sequence[Encoded]") -> str | None:
    """Why the responses of a unit have no likelihood that could be compared; None where they have one.

    Sums over cut responses say nothing of the whole ones, least of all beside one that was not cut.
    """
    is_cut = [item.n_response_dropped > 0 for item in unit]
    for item, cut in zip(unit, is_cut, strict=True):
        if item.n_response >= len(item):
            return TOO_LONG if cut else NO_PROMPT
    return ONE_CUT if any(is_cut) and not all(is_cut) else None
