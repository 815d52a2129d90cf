"""A public reward model as a checkpoint: loaded by transformers, taken over exactly, and checked against its class."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor

from workers.data.render import Encoded
from workers.data.schema import Message
from workers.errors import JobError, SpecError
from workers.families import FAMILIES
from workers.families.attributes import ARMORM
from workers.families.base import Item
from workers.nn.backbone import Backbone, described, is_causal, load_classifier, read_config
from workers.nn.checkpoints import read_about, write_checkpoint
from workers.nn.head_layouts import Layout, head_tensors, layout_of, refuse_layout
from workers.nn.net import Net
from workers.nn.public_models import Found, find_logit, find_public, labels_of, take_template
from workers.specs import parse_spec

SAME_REWARD = 1e-4
SEQUENCE, TOKEN = "ForSequenceClassification", "ForTokenClassification"
INSISTED = frozenset({"weights"})
"""Settings that are refused, not left out, where a family has no such field."""
PLAIN = (
    "It comes without a chat template: conversations become plain role labels, which it has hardly seen in training. "
    "Give the template of its training as chat_template."
)
UNWEIGHED = "No weights were given: see the reward model's settings for those that make the reward."
UNMARKED = "A step is read at the last token of its own text, before the mark that parts it from the next."
RIGHT_WORDS = frozenset({"right", "correct", "good", "positive", "true", "yes", "+", "1"})


@dataclass(frozen=True)
class Imported:
    """A net with its head in place, and what `own` of the model's class says of token ids."""

    family: Any
    config: Any
    net: Net
    backbone: Backbone
    notes: list[str]
    probes: list[Item]
    rewards: list[float]
    """Of the probes, by the model's own class."""


def probes() -> list[Item]:
    """Texts of several lengths and scripts, on which the imported model must agree with its class."""

    def says(role: str, content: str) -> Message:
        return {"role": role, "content": content}

    short = [says("user", "Name a prime number above ten.")]
    turns = [*short, says("assistant", "Eleven."), says("user", "And another?")]
    answers = ("Thirteen.", "Nine is one, I think.\nOr is it?", "Il y en a beaucoup : 13, 17, 19…", "17 " * 60)
    return [(prompt, [says("assistant", text)]) for prompt in (short, turns) for text in answers]


def find(
    name: str, revision: str | None, *, wanted: str = "auto", template: str = "", right: str = "", wrong: str = ""
) -> Found:
    """Load a model by what its config names, or as a language model whose reward is the logit of a token.

    A class of transformers' own is asked for its rewards; of another the head is read by the names of its tensors.
    """
    if right or wrong:
        if not right:
            raise JobError("wrong_token is compared with right_token, which is empty.", "Give right_token too.")
        return find_logit(name, revision, right, wrong, wanted=wanted, template=template)
    named = (getattr(read_config(name, revision), "architectures", None) or ["none"])[0]
    if not named.endswith((SEQUENCE, TOKEN)):
        return find_public(name, revision, named, wanted=wanted, template=template)
    return _find_classifier(name, revision, named, template)


def _find_classifier(name: str, revision: str | None, named: str, template: str) -> Found:
    is_token = named.endswith(TOKEN)
    auto = transformers.AutoModelForTokenClassification if is_token else transformers.AutoModelForSequenceClassification
    tokenizer, model, info = load_classifier(name, auto, revision)
    take_template(tokenizer, template)
    prefix = model.base_model_prefix
    head = head_tensors(model.state_dict(), prefix)
    odd = sorted({*info["missing_keys"], *info["unexpected_keys"]} - {f"{prefix}.embeddings.position_ids"})
    missing = [n for n in info["missing_keys"] if n in head]
    if missing or any(not n.startswith(f"{prefix}.") for n in odd):
        there = [n for n in head if n not in missing] + sorted(info["unexpected_keys"])
        raise refuse_layout(name, list(head), there)
    if type(model).__name__ != named:
        raise refuse_layout(name, list(head), list(head), f"its class is {named}, opened as {type(model).__name__}")
    base = getattr(model, prefix)
    pooler = getattr(base, "pooler", None)

    def logits(ids: Tensor) -> Tensor:
        """Of one text alone, without padding; the class needs its pooler back, which no backbone here keeps."""
        if pooler is not None:
            base.pooler = pooler
        with torch.inference_mode():
            found: Tensor = model.eval()(input_ids=ids[None], attention_mask=torch.ones_like(ids[None])).logits[0]
        if pooler is not None:
            base.pooler = None
        return found.float()

    notes = []
    if not is_token and getattr(model.config, "problem_type", None) == "single_label_classification":
        notes.append("It was trained to tell classes apart: the ratings are logits, and only their differences count.")
    return Found(
        name,
        named,
        base,
        tokenizer,
        {n: t.detach().clone() for n, t in head.items()},
        labels_of(model.config, model.config.num_labels),
        None if is_token else layout_of(model.config, prefix),
        logits,
        reads_tokens=is_token,
        notes=notes,
    )


def import_model(found: Found, wanted: str, settings: Mapping[str, Any]) -> Imported:
    """Choose the family, build its net, and ask the model's own class, or its formula, for rewards of the probes."""
    n = len(found.labels)
    fitting = "scalar_head" if n == 1 else "multi_attribute"
    fitting = "gated" if found.is_gated else ("process" if found.reads_tokens else fitting)
    if wanted not in ("auto", fitting):
        raise JobError(
            f"{found.name} has {n} label{'s' if n > 1 else ''} {'a token' if found.reads_tokens else 'a text'}: it can "
            f"be imported as {fitting}, not as {wanted}.",
            "Leave the family at auto.",
        )
    build = {"scalar_head": _scalar, "multi_attribute": _attributes, "process": _process, "gated": _gated}[fitting]
    config, head, notes, reward = build(found, settings)
    family: Any = FAMILIES.get(fitting)
    fields = family.Config.model_fields
    given = {key: value for key, value in settings.items() if key in fields or key in INSISTED}
    parsed = _config(family, {"backbone": found.name, **found.settings, **config, **given})
    backbone = described(found.base, found.tokenizer)
    net = family.net(parsed, backbone)
    _fill(net, head)
    renderer = family.renderer(parsed, backbone)
    if is_causal(found.base.config.model_type) and not renderer.uses_template:
        notes = [*notes, PLAIN]
    items, encoded = _readable(family.encode(parsed, renderer, probes()), is_gated=found.is_gated)
    ids = [torch.from_numpy(np.asarray(item.ids, dtype=np.int64)) for item in encoded]
    with torch.inference_mode():
        rewards = [reward(net, found.logits(row), item) for row, item in zip(ids, encoded, strict=True)]
    return Imported(family, parsed, net, backbone, [*found.notes, *notes], items, rewards)


def _readable(encoded: Sequence[Encoded], *, is_gated: bool) -> tuple[list[Item], list[Encoded]]:
    """Probes with their ids; of a gate's those alone that were not cut, as it looks for the end of the prompt."""
    told = [(item, ids) for item, ids in zip(probes(), encoded, strict=True) if not (is_gated and ids.n_prompt_dropped)]
    if not told:
        raise JobError("max_length leaves no room for a prompt, which the gate reads.", "Give a larger max_length.")
    return [item for item, _ in told], [ids for _, ids in told]


def store(found: Imported, folder: Path, origin: Mapping[str, Any]) -> float:
    """Write the checkpoint, open it as scoring will; the largest difference from the model's own class."""
    renderer = found.family.renderer(found.config, found.backbone)
    told = [
        {"prompt": item[0], "response": item[1], "reward": reward}
        for item, reward in zip(found.probes, found.rewards, strict=True)
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
    values = scorer.score(found.probes).values
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
    if tuple(names) == ARMORM:
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
