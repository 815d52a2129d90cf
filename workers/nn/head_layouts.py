"""How public reward models lay out their heads, and which of ours computes the same.

Two tables: the sequence-classification classes of transformers by their kind of config, and the heads of classes whose
code comes with the model, by the names of their tensors. Adding a layout is adding a row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from workers.errors import JobError
from workers.nn.backbone import is_causal
from workers.nn.heads import Activation

#: tanh(x) = x - x^3/3: at this scale the cube is lost in rounding, and float32 keeps seven figures at any scale.
IDENTITY_SCALE = 2.0**-12


@dataclass(frozen=True)
class Layout:
    """Names of linear layers: `last` gives the labels; `first`, and then those `between`, come before it where there
    are any, with the activation between any two.
    """

    pooling: Literal["last", "first", "mean"]
    last: str
    first: str = ""
    activation: Activation = "none"
    between: tuple[str, ...] = ()

    @property
    def inner(self) -> list[str]:
        """All but the last."""
        return [name for name in (self.first, *self.between) if name]

    @property
    def depth(self) -> int:
        return len(self.inner) + 1

    @property
    def weights(self) -> list[str]:
        return [f"{name}.weight" for name in (*self.inner, self.last)]


@dataclass(frozen=True)
class PublicHead:
    """Linear layers on the last hidden states of a causal model, ReLU between two, as a class of their own has them."""

    last: str
    seen_in: str
    first: str = ""

    @property
    def layout(self) -> Layout:
        return Layout("last", self.last, self.first, "relu" if self.first else "none")

    @property
    def tensors(self) -> set[str]:
        return {f"{name}.{kind}" for name in (self.first, self.last) if name for kind in ("weight", "bias")}


PUBLIC_HEADS = (
    PublicHead("regression_head", "UltraRM, Eurus-RM"),
    PublicHead("v_head.summary", "TRL's and LLaMA-Factory's value heads, Skywork-o1-Open-PRM"),
    PublicHead("v_head.summary.2", "GRM", first="v_head.summary.0"),
    PublicHead("v_head", "Starling-RM, DeepSpeed-Chat"),
    PublicHead("value_head", "OpenRLHF"),
    PublicHead("reward_head", "reward heads by this name"),
    PublicHead("score.2", "Qwen2.5-Math-RM, Qwen2.5-Math-PRM, INF-ORM", first="score.0"),
    PublicHead("score", "a classifier of transformers under another name"),
    PublicHead("regression_layer", "ratings as in ArmoRM's first stage"),
)
GATED_TENSORS = ("regression_layer.weight", "reward_transform_matrix", "gating.logit_scale", "gating.layers.0.weight")
"""ArmoRM; its gate has as many layers as it likes."""


def public_head(found: Mapping[str, Tensor]) -> PublicHead | None:
    """The row that names exactly these tensors; a bias may be absent."""
    fits = (head for head in PUBLIC_HEADS if set(head.layout.weights) <= found.keys() and found.keys() <= head.tensors)
    return next(fits, None)


def layout_of(config: Any, prefix: str) -> Layout | None:
    """The layout of the sequence-classification class for a config; None where no head of ours computes the same."""
    kind = config.model_type
    known = {
        "bert": Layout("first", "classifier", f"{prefix}.pooler.dense", "tanh"),
        "albert": Layout("first", "classifier", f"{prefix}.pooler", "tanh"),
        "distilbert": Layout("first", "classifier", "pre_classifier", "relu"),
        "electra": Layout("first", "classifier.out_proj", "classifier.dense", "gelu"),
    }
    for name in ("roberta", "xlm-roberta", "camembert", "mpnet"):
        known[name] = Layout("first", "classifier.out_proj", "classifier.dense", "tanh")
    if kind in ("deberta", "deberta-v2") and getattr(config, "pooler_hidden_act", "") in ("gelu", "tanh", "relu"):
        return Layout("first", "classifier", "pooler.dense", config.pooler_hidden_act)
    return known.get(kind) or (Layout("last", "score") if is_causal(kind) else None)


def head_tensors(found: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors that do not belong to the backbone, its pooler's among them."""
    return {n: t for n, t in found.items() if not n.startswith(f"{prefix}.") or ".pooler" in n}


def is_identity(layout: Layout, weight: Tensor, bias: Tensor) -> bool:
    """Whether the first of two layers only scales, as in a head of one layer that was exported from here."""
    if layout.activation != "tanh" or weight.shape[0] != weight.shape[1]:
        return False
    return not bias.any() and torch.equal(weight, torch.eye(len(weight)) * IDENTITY_SCALE)


def refuse_layout(name: str, expected: list[str], found: list[str], why: str = "") -> JobError:
    """Names both, so that one sees what the head is instead."""
    shown = ", ".join(sorted(found)[:20]) or "none"
    return JobError(
        f"The head of {name} is not laid out as expected{f': {why}' if why else ''}. Expected the tensors "
        f"{', '.join(sorted(expected))}; found {shown}.",
        "Import a model of transformers' own ...ForSequenceClassification or ...ForTokenClassification classes.",
    )
