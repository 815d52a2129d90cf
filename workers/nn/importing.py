"""A public reward model as a checkpoint: loaded by transformers, taken over exactly, and checked against its class."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor

from workers.data.schema import Message
from workers.errors import JobError, SpecError
from workers.families import FAMILIES
from workers.families.base import Item
from workers.nn.backbone import Backbone, described, load_classifier, read_config
from workers.nn.checkpoints import read_about, write_checkpoint
from workers.nn.head_layouts import Layout, head_tensors, layout_of, refuse_layout
from workers.nn.net import Net
from workers.specs import parse_spec

SAME_REWARD = 1e-4
SEQUENCE, TOKEN = "ForSequenceClassification", "ForTokenClassification"
RIGHT_WORDS = frozenset({"right", "correct", "good", "positive", "true", "yes", "+", "1"})


@dataclass(frozen=True)
class Imported:
    """A net with its head in place, and what `own` of the model's class says of token ids."""

    family: Any
    config: Any
    net: Net
    backbone: Backbone
    notes: list[str]
    rewards: list[float]
    """Of the probes, by the model's own class."""


@dataclass(frozen=True)
class Found:
    """A model as transformers loaded it."""

    name: str
    model: Any
    tokenizer: Any
    head: Mapping[str, Tensor]

    @property
    def labels(self) -> list[str]:
        names = self.model.config.id2label
        return [str(names[i]) for i in range(self.model.config.num_labels)]


def probes() -> list[Item]:
    """Texts of several lengths and scripts, on which the imported model must agree with its class."""

    def says(role: str, content: str) -> Message:
        return {"role": role, "content": content}

    short = [says("user", "Name a prime number above ten.")]
    turns = [*short, says("assistant", "Eleven."), says("user", "And another?")]
    answers = ("Thirteen.", "Nine is one, I think.\nOr is it?", "Il y en a beaucoup : 13, 17, 19…", "17 " * 60)
    return [(prompt, [says("assistant", text)]) for prompt in (short, turns) for text in answers]


def find(name: str, revision: str | None) -> Found:
    """Load a model with the class that its config names. JobError where no class of transformers' own is named."""
    config = read_config(name, revision)
    named = (getattr(config, "architectures", None) or ["none"])[0]
    autos = {
        SEQUENCE: transformers.AutoModelForSequenceClassification,
        TOKEN: transformers.AutoModelForTokenClassification,
    }
    auto = next((auto for ending, auto in autos.items() if named.endswith(ending)), None)
    if auto is None:
        raise JobError(
            f"{name} is of the class {named}, which gives no reward that can be imported.",
            f"Expected a class whose name ends in {SEQUENCE} or {TOKEN}. A plain language model or encoder is a "
            "backbone: register a reward model on it and train.",
        )
    tokenizer, model, info = load_classifier(name, auto, revision)
    prefix = model.base_model_prefix
    head = head_tensors(model.state_dict(), prefix)
    odd = sorted({*info["missing_keys"], *info["unexpected_keys"]} - {f"{prefix}.embeddings.position_ids"})
    missing = [n for n in info["missing_keys"] if n in head]
    if missing or any(not n.startswith(f"{prefix}.") for n in odd):
        there = [n for n in head if n not in missing] + sorted(info["unexpected_keys"])
        raise refuse_layout(name, list(head), there)
    if type(model).__name__ != named:
        raise refuse_layout(name, list(head), list(head), f"its class is {named}, opened as {type(model).__name__}")
    return Found(name, model, tokenizer, {n: t.detach().clone() for n, t in head.items()})


def import_model(found: Found, wanted: str, settings: Mapping[str, Any]) -> Imported:
    """Choose the family, build its net, and ask the model's own class for the rewards of the probes."""
    is_token = type(found.model).__name__.endswith(TOKEN)
    n = found.model.config.num_labels
    fitting = "process" if is_token else ("scalar_head" if n == 1 else "multi_attribute")
    if wanted not in ("auto", fitting):
        raise JobError(
            f"{found.name} has {n} label{'s' if n > 1 else ''} {'a token' if is_token else 'a text'}: it can be "
            f"imported as {fitting}, not as {wanted}.",
            "Leave the family at auto.",
        )
    build = {"scalar_head": _scalar, "multi_attribute": _attributes, "process": _process}[fitting]
    config, head, notes, reward = build(found, settings)
    family: Any = FAMILIES.get(fitting)
    parsed = _config(family, {"backbone": found.name, **settings, **config})
    base = getattr(found.model, found.model.base_model_prefix)
    pooler = getattr(base, "pooler", None)
    backbone = described(base, found.tokenizer)
    net = family.net(parsed, backbone)
    _fill(net, head)
    encoded = family.encode(parsed, family.renderer(parsed, backbone), probes())
    if pooler is not None:
        base.pooler = pooler
    rewards = [reward(net, _logits(found.model, item.ids), item) for item in encoded]
    if pooler is not None:
        base.pooler = None
    return Imported(family, parsed, net, backbone, notes, rewards)


def store(found: Imported, folder: Path, origin: Mapping[str, Any]) -> float:
    """Write the checkpoint, open it as scoring will; the largest difference from the model's own class."""
    renderer = found.family.renderer(found.config, found.backbone)
    told = [
        {"prompt": item[0], "response": item[1], "reward": reward}
        for item, reward in zip(probes(), found.rewards, strict=True)
    ]
    about = {
        "format": 1,
        "family": found.family.name,
        "config": found.config.model_dump(mode="json"),
        "rendering": renderer.fingerprint,
        "imported_from": dict(origin),
        "probes": told,
    }
    write_checkpoint(folder, found.net, found.backbone, about)
    scorer = found.family.open(found.config.model_copy(update={"scoring_dtype": "float32"}), folder)
    values = scorer.score(probes()).values
    stored = np.array([probe["reward"] for probe in read_about(folder)["probes"]])
    difference = float(np.abs(values - stored).max())
    if not difference <= SAME_REWARD * max(1.0, float(np.abs(stored).max())):
        raise JobError(
            f"Read by Steelyard, {origin['model']} gives other rewards than by its own class (difference "
            f"{difference:.2g}), so it was refused.",
            "A usual reason: its padding token is also the token that ends a text, so that its class reads the token "
            "before. Give its config.json a pad_token_id of its own.",
        )
    return difference


def _config(family: Any, raw: dict[str, Any]) -> Any:
    try:
        return parse_spec(family.Config, raw)
    except SpecError as error:
        raise JobError(f"The settings do not fit the family {family.name}: {error.message}", error.hint) from error


def _fill(net: Net, tensors: Mapping[str, Tensor]) -> None:
    own = net.head.state_dict()
    for name, tensor in tensors.items():
        if own[name].shape != tensor.shape:
            raise JobError(f"The head's {name} has shape {tuple(tensor.shape)}, not {tuple(own[name].shape)}.")
    net.head.load_state_dict({**own, **tensors})


def _logits(model: Any, ids: Any) -> Tensor:
    """Of one text alone, without padding: shape (labels,) or (tokens, labels)."""
    row = torch.from_numpy(np.asarray(ids, dtype=np.int64))[None]
    with torch.inference_mode():
        logits: Tensor = model.eval()(input_ids=row, attention_mask=torch.ones_like(row)).logits[0].float()
    return logits


Reward = Callable[[Net, Tensor, Any], float]
Built = tuple[dict[str, Any], dict[str, Tensor], list[str], Reward]


def _layout(found: Found) -> Layout:
    layout = layout_of(found.model.config, found.model.base_model_prefix)
    if layout is None:
        raise refuse_layout(
            found.name,
            ["score.weight", "or, of an encoder like BERT, a pooler and classifier.weight"],
            list(found.head),
            f"no head here computes what {type(found.model).__name__} does",
        )
    if missing := [name for name in layout.weights if name not in found.head]:
        raise refuse_layout(found.name, layout.weights, list(found.head), f"{missing[0]} is missing")
    return layout


def _linear(found: Found, name: str) -> tuple[Tensor, Tensor]:
    weight = found.head[f"{name}.weight"].float()
    bias = found.head.get(f"{name}.bias")
    return weight, torch.zeros(len(weight)) if bias is None else bias.float()


def _scalar(found: Found, _: Mapping[str, Any]) -> Built:
    layout = _layout(found)
    config = {"pooling": layout.pooling, "head_depth": layout.depth, "head_activation": "silu"}
    weight, bias = _linear(found, layout.last)
    head = {"weight": weight, "bias": bias}
    if layout.first:
        first, first_bias = _linear(found, layout.first)
        config |= {"head_activation": layout.activation, "head_width": len(first)}
        head = {"layers.0.weight": first, "layers.0.bias": first_bias, "layers.2.weight": weight, "layers.2.bias": bias}
    return config, head, [], lambda _net, logits, _item: float(logits[0])


def _attributes(found: Found, settings: Mapping[str, Any]) -> Built:
    layout = _layout(found)
    if layout.first:
        raise refuse_layout(found.name, [f"{layout.last}.weight"], list(found.head), "ratings need one linear layer")
    weight, bias = _linear(found, layout.last)
    config = {"pooling": layout.pooling, "attributes": found.labels}
    notes = []
    if getattr(found.model.config, "problem_type", None) == "single_label_classification":
        notes.append("It was trained to tell classes apart: the ratings are logits, and only their differences count.")
    if not settings.get("weights"):
        notes.append("No weights were given: see the reward model's settings for those that make the reward.")
    head = {"weight": weight, "bias": bias, "is_fitted": torch.ones(1)}
    return config, head, notes, lambda net, logits, _: float(net.head.reward(logits[None])[0])


def _process(found: Found, _: Mapping[str, Any]) -> Built:
    name = next((n.removesuffix(".weight") for n in ("score.weight", "classifier.weight") if n in found.head), None)
    if name is None:
        raise refuse_layout(found.name, ["score.weight", "or classifier.weight"], list(found.head))
    weight, bias = _linear(found, name)
    if len(weight) > 2:
        raise refuse_layout(found.name, [f"{name}.weight of 1 or 2 labels"], [f"{name}.weight of {len(weight)} labels"])
    notes = ["A step is read at the last token of its own text, before the mark that parts it from the next."]
    right = right_label(found.labels)
    if len(weight) == 2:
        notes.append(f"Of its two labels, {found.labels[right]} is taken for a right step.")
        sign = 1 if right == 1 else -1
        weight, bias = sign * (weight[1:] - weight[:1]), sign * (bias[1:] - bias[:1])

    def reward(net: Net, logits: Tensor, item: Any) -> float:
        p = logits.sigmoid()[:, 0] if logits.shape[1] == 1 else logits.softmax(dim=1)[:, right]
        read = p[torch.from_numpy(item.marks).long()]
        return float(net.head.reward(torch.logit(read.double())[None])[0])

    return {}, {"weight": weight, "bias": bias}, notes, reward


def right_label(labels: Sequence[str]) -> int:
    """Which of two labels says that a step is right: by its name, else the second."""
    named = [i for i, label in enumerate(labels) if label.strip().lower() in RIGHT_WORDS]
    return named[0] if len(named) == 1 else len(labels) - 1
