"""Which head of ours a public model becomes: its settings, its tensors by our names, the reward of its own class."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from workers.errors import JobError
from workers.families.attributes import ARMORM
from workers.nn.head_layouts import IDENTITY_SCALE, Layout, is_identity, refuse_layout
from workers.nn.net import Net
from workers.nn.public_found import Found

UNWEIGHED = "No weights were given: see the reward model's settings for those that make the reward."
UNMARKED = "A step is read at the last token of its own text, before the mark that parts it from the next."
RIGHT_WORDS = frozenset({"right", "correct", "good", "positive", "true", "yes", "+", "1", "chosen", "preferred"})

Reward = Callable[[Net, Tensor, Any], float]
Built = tuple[dict[str, Any], dict[str, Tensor], list[str], Reward]


def _layout(found: Found) -> Layout:
    layout = found.layout
    if layout is None:
        raise refuse_layout(
            found.name,
            ["score.weight", "or, of an encoder like BERT, a pooler and classifier.weight"],
            list(found.head),
            f"no head here computes what {found.class_name} does",
        )
    if missing := [name for name in layout.weights if name not in found.head]:
        raise refuse_layout(found.name, layout.weights, list(found.head), f"{missing[0]} is missing")
    return layout


def _linear(found: Found, name: str) -> tuple[Tensor, Tensor]:
    weight = found.head[f"{name}.weight"].float()
    bias = found.head.get(f"{name}.bias")
    return weight, torch.zeros(len(weight)) if bias is None else bias.float()


def _scalar(found: Found, settings: Mapping[str, Any]) -> Built:
    layout = _layout(found)
    config = {"pooling": layout.pooling, "head_depth": layout.depth, "head_activation": "silu"}
    weight, bias = _linear(found, layout.last)
    shares = torch.ones(1)
    notes: list[str] = []
    if len(weight) > 1:
        shares, notes = _shares(found, settings.get("weights") or {})
        weight, bias = (shares @ weight)[None], (shares @ bias)[None]
    head = {"weight": weight, "bias": bias}
    if layout.first:
        layers = widened([*(_linear(found, name) for name in layout.inner), (weight, bias)])
        config |= {"head_activation": layout.activation, "head_width": len(layers[0][0])}
        head = {f"layers.{2 * i}.weight": layer[0] for i, layer in enumerate(layers)}
        head |= {f"layers.{2 * i}.bias": layer[1] for i, layer in enumerate(layers)}
    return config, head, notes, lambda _net, logits, _item: float(shares @ logits)


def widened(layers: Sequence[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """The same function with one width between all layers: numbers that are added are 0, and any activation of 0 is."""
    width = max(len(weight) for weight, _ in layers[:-1])
    made = []
    for i, (weight, bias) in enumerate(layers):
        rows = len(weight) if i == len(layers) - 1 else width
        columns = weight.shape[1] if i == 0 else width
        wide, long = weight.new_zeros(rows, columns), bias.new_zeros(rows)
        wide[: len(weight), : weight.shape[1]], long[: len(bias)] = weight, bias
        made.append((wide, long))
    return made


def _shares(found: Found, weights: Mapping[str, float]) -> tuple[Tensor, list[str]]:
    """Of several logits the one that is the reward: a weighted sum, or of two the right one less the other."""
    labels = found.labels
    if weights:
        if unknown := sorted(weights.keys() - set(labels)):
            raise JobError(f"weights name {', '.join(unknown)}; its labels are {', '.join(labels)}.", "Name those.")
        said = " ".join(f"{weight:+g} {name}" for name, weight in weights.items())
        return torch.tensor([float(weights.get(n, 0.0)) for n in labels]), [f"The reward is made of logits: {said}."]
    if len(labels) > 2:
        raise JobError(f"{found.name} has {len(labels)} labels, and one reward.", "Give the weights of its labels.")
    right = right_label(labels)
    told = f"The reward is the logit of {labels[right]} less that of {labels[1 - right]}: its sigmoid is their softmax."
    return torch.tensor([1.0, -1.0] if right == 0 else [-1.0, 1.0]), [told]


def _attributes(found: Found, settings: Mapping[str, Any]) -> Built:
    layout = _layout(found)
    weight, bias = _linear(found, layout.last)
    if layout.first and is_identity(layout, *_linear(found, layout.first)):
        weight = weight * IDENTITY_SCALE
    elif layout.first:
        error = refuse_layout(found.name, [f"{layout.last}.weight"], list(found.head), "ratings need one linear layer")
        raise JobError(error.message, "As scalar_head its labels become one reward, by the weights that are given.")
    names = attribute_names(found, settings, len(weight))
    head = {"weight": weight, "bias": bias, "is_fitted": torch.ones(1)}
    notes = [] if settings.get("weights") else [UNWEIGHED]
    config = {"pooling": layout.pooling, "attributes": names}
    return config, head, notes, lambda net, logits, _: float(net.head.reward(logits[None])[0])


def attribute_names(found: Found, settings: Mapping[str, Any], k: int) -> list[str]:
    """As given; else the labels of the model, or ArmoRM's where it names none and has as many."""
    given: list[str] = list(settings.get("attributes") or ())
    if given and len(given) != k:
        raise JobError(f"{found.name} has {k} outputs, and attributes names {len(given)}.", f"Name {k}, or none.")
    is_named = not all(label == f"LABEL_{i}" for i, label in enumerate(found.labels))
    return given or (list(ARMORM) if k == len(ARMORM) and not is_named else found.labels)


def _gated(found: Found, settings: Mapping[str, Any]) -> Built:
    """ArmoRM's tensors by our names. Ratings of HelpSteer are told on their scale of 0 to 4: 5 r - 0.5."""
    transform = found.head["reward_transform_matrix"]
    k = len(transform)
    names = attribute_names(found, settings, k)
    place = {name.rsplit("-", 1)[-1]: i for i, name in reversed(list(enumerate(names)))}.get("verbosity")
    n_hidden = int(found.settings["gate_layers"])
    out, out_bias = _linear(found, f"gating.layers.{n_hidden}")
    head = {"out.weight": out, "out.bias": out_bias, "transform": transform}
    for i in range(n_hidden):
        head[f"hidden.{i}.weight"], head[f"hidden.{i}.bias"] = _linear(found, f"gating.layers.{i}")
    head |= {
        "log_scale": found.head["gating.logit_scale"].log(),
        "temperature": torch.tensor([float(found.settings["temperature"])]),
        "stage1.weight": found.head["regression_layer.weight"],
        "stage1.bias": torch.zeros(k),
        "stage1.is_fitted": torch.ones(1),
    }
    if tuple(names) == ARMORM and found.on_armorm_scale:
        is_helpsteer = torch.tensor([name.startswith("helpsteer-") for name in names])
        head |= {"stage1.centre": torch.where(is_helpsteer, -0.5, 0.0)}
        head |= {"stage1.spread": torch.where(is_helpsteer, 5.0, 1.0)}
    if place is not None:
        head["penalties"] = torch.eye(k)[place] - transform[place]
    config = {"attributes": names, "verbosity": "none" if place is None else names[place]}
    return config, head, [], lambda _net, logits, _item: float(logits[0])


def _process(found: Found, settings: Mapping[str, Any]) -> Built:
    known = found.layout.last if found.layout else ""
    name = next((n for n in (known, "score", "classifier") if f"{n}.weight" in found.head), None)
    if name is None:
        raise refuse_layout(found.name, ["score.weight", "or classifier.weight"], list(found.head))
    weight, bias = _linear(found, name)
    if len(weight) > 2:
        raise refuse_layout(found.name, [f"{name}.weight of 1 or 2 labels"], [f"{name}.weight of {len(weight)} labels"])
    mark = settings.get("step_mark") or found.settings.get("step_mark")
    notes = [f"A step is read at the mark {mark!r} that is put after it." if mark else UNMARKED]
    right = right_label(found.labels)
    if len(weight) == 2:
        notes.append(f"Of its two labels, {found.labels[right]} is taken for a right step.")
        sign = 1 if right == 1 else -1
        weight, bias = sign * (weight[1:] - weight[:1]), sign * (bias[1:] - bias[:1])

    def reward(net: Net, logits: Tensor, item: Any) -> float:
        p = logits.sigmoid()[:, 0] if logits.shape[1] == 1 else logits.softmax(dim=1)[:, right]
        read = p[torch.from_numpy(item.marks).long()]
        return float(net.head.reward(torch.logit(read.double())[None])[0])

    if found.layout and found.layout.first:
        first, first_bias = _linear(found, found.layout.first)
        config = {"head_depth": 2, "head_activation": found.layout.activation, "head_width": len(first)}
        head = {"layers.0.weight": first, "layers.0.bias": first_bias, "layers.2.weight": weight, "layers.2.bias": bias}
        return config, head, notes, reward
    return {}, {"weight": weight, "bias": bias}, notes, reward


def right_label(labels: Sequence[str]) -> int:
    """Which of two labels says that a step is right: by its name, else the second."""
    named = [i for i, label in enumerate(labels) if label.strip().lower() in RIGHT_WORDS]
    return named[0] if len(named) == 1 else len(labels) - 1


def is_right_or_wrong(labels: Sequence[str]) -> bool:
    """Whether one of the labels, and one alone, says that a text is right."""
    return sum(label.strip().lower() in RIGHT_WORDS for label in labels) == 1


BUILDERS = {"scalar_head": _scalar, "multi_attribute": _attributes, "process": _process, "gated": _gated}
