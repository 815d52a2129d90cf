"""Which class of transformers computes what a reward model does, and that class with its weights."""

from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor

from workers.errors import JobError
from workers.jobs.export_checkpoint import PLAIN
from workers.nn.export_heads import LinearHead, named_labels
from workers.nn.head_layouts import IDENTITY_SCALE, Layout, layout_of


@dataclass(frozen=True)
class Fit:
    """A class of transformers, and where in it our layers go."""

    kind: Any
    layout: Layout


def text_fit(net: Any, head: LinearHead) -> Fit | None:
    """The class that classifies texts, where there is one, it pools as the net does, and its head can hold ours."""
    config = net.backbone.config
    mapping: Any = transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
    if type(config) not in mapping:
        return None
    kind = mapping[type(config)]
    layout = layout_of(config, kind.base_model_prefix)
    if layout is None or net.pooling != layout.pooling:
        return None
    is_deep_alike = len(head.layers) == layout.depth == 2 and is_alike(head, layout, config.hidden_size)
    is_linear = len(head.layers) == 1 and (layout.depth == 1 or layout.activation == "tanh")
    return Fit(kind, layout) if is_linear or is_deep_alike else None


def is_alike(head: LinearHead, layout: Layout, width: int) -> bool:
    return head.activation == layout.activation and len(head.layers[0][0]) == width


def token_fit(net: Any, head: LinearHead) -> Fit:
    """The class that labels tokens by one linear layer. JobError where there is none."""
    config = net.backbone.config
    mapping: Any = transformers.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING
    if type(config) not in mapping:
        raise JobError(f"transformers has no class that classifies tokens with a {config.model_type} backbone.", PLAIN)
    kind = mapping[type(config)]
    if len(head.layers) > 1:
        raise JobError(
            f"{kind.__name__} has a head of 1 layer; this one has {len(head.layers)} with {head.activation}.", PLAIN
        )
    with torch.device("meta"):
        own = kind(config).state_dict()
    name = next((n for n in ("score", "classifier") if f"{n}.weight" in own), None)
    if name is None:
        raise JobError(f"The head of {kind.__name__} computes something else than a reward head does.", PLAIN)
    return Fit(kind, Layout("last", name))


def filled(net: Any, fit: Fit, head: LinearHead, labels: list[str]) -> tuple[Any, dict[str, float]]:
    """A model of the class with the weights of the net, and what its head has no place for, by output."""
    kind, layout = fit.kind, fit.layout
    told = {key: value for key, value in net.backbone.config.to_dict().items() if key != "auto_map"}
    config = kind.config_class.from_dict({**told, **named_labels(labels)})
    config.problem_type = "regression"
    model = kind(config).eval()
    own, prefix = model.state_dict(), kind.base_model_prefix
    given = {f"{prefix}.{name}": tensor for name, tensor in net.backbone.state_dict().items()}
    given |= head_weights(head, layout)
    constants = dict.fromkeys(head.names, 0.0)
    if f"{layout.last}.bias" not in own:
        constants = dict(zip(head.names, given.pop(f"{layout.last}.bias").tolist(), strict=True))
    if odd := sorted(own.keys() ^ given.keys()):
        raise JobError(f"The class {kind.__name__} has other tensors than this backbone: {', '.join(odd[:5])}.", PLAIN)
    model.load_state_dict(given)
    return model, constants


def head_weights(head: LinearHead, layout: Layout) -> dict[str, Tensor]:
    """By the names of the class; a head of one layer passes a tanh unharmed when it is scaled down and up again."""
    weight, bias = head.last
    last = {f"{layout.last}.weight": weight, f"{layout.last}.bias": bias}
    if not layout.first:
        return last
    if len(head.layers) > 1:
        first, first_bias = head.layers[0]
        return {**last, f"{layout.first}.weight": first, f"{layout.first}.bias": first_bias}
    width = weight.shape[1]
    identity = {f"{layout.first}.weight": torch.eye(width) * IDENTITY_SCALE, f"{layout.first}.bias": torch.zeros(width)}
    return {**last, **identity, f"{layout.last}.weight": weight / IDENTITY_SCALE}
