"""A checkpoint as a folder that transformers opens with its own class, where a class computes the same rewards."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor

from workers.context import CheckpointRef
from workers.data.loading_code import Reading, loading_code
from workers.errors import JobError
from workers.families import FAMILIES
from workers.jobs.export_checkpoint import EXPORTED, PLAIN, refusal
from workers.nn.checkpoints import read_about
from workers.nn.export_heads import LinearHead, linear_head
from workers.nn.exported_reading import KEY, exported_reading
from workers.nn.head_layouts import IDENTITY_SCALE, Layout, layout_of
from workers.nn.steps import aggregate
from workers.specs import parse_spec

SAME_REWARD = 1e-5
SAME_AS_MADE = 1e-3
"""Made on another machine, perhaps in another precision."""
RIGHT = "right"
"""The one label of a process reward model's tokens."""


@dataclass(frozen=True)
class Exported:
    """What was written. What the class gives of an output, plus `constants` of it, makes the reward by `weights`."""

    class_name: str
    constants: dict[str, float]
    weights: dict[str, float]
    constant: float
    """What all constants add to the reward."""
    difference: float
    one_at_a_time: bool
    notes: list[str]
    code: str
    """Python that opens the folder and gives a response its reward."""


def export_folder(reference: CheckpointRef, folder: Path) -> Exported:
    """Write model, tokenizer and probes into `folder`. JobError says why no class of transformers can do it."""
    refuse_family(reference)
    family: Any = FAMILIES.get(reference.family)
    config = parse_spec(family.Config, {**reference.config, "scoring_dtype": "float32"})
    scorer: Any = family.open(config, reference.path)
    net, renderer = scorer.net.cpu(), scorer.renderer
    about = read_about(Path(reference.path or ""))
    probes = [(p["prompt"], p["response"], p.get("extra", {})) for p in about["probes"]]
    encoded, scores = scorer.encode(probes), scorer.score(probes)
    insist_as_made(about, config, scores.values)
    is_steps = reference.family == "process"
    kind = class_of(net.backbone.config, is_steps=is_steps)
    head = linear_head(reference.family, net.head, config)
    layout = token_layout(kind, net, head) if is_steps else fitting_layout(net, head, kind)
    model, constants = filled(net, kind, layout, head, [RIGHT] if is_steps else head.names)
    reading = Reading(
        constants=constants,
        weights=dict(zip(head.names, head.weights, strict=True)),
        steps=step_settings(config) if is_steps else {},
        compared=compared_settings(renderer) if reference.family == "policy_discriminator" else {},
        is_verified=reference.family == "reference_verifier",
    )
    pad_id = renderer.tokenizer.pad_token_id
    one_at_a_time = not is_steps and layout.pooling == "last" and pad_id in {int(item.ids[-1]) for item in encoded}
    model.config.pad_token_id = None if one_at_a_time else pad_id
    setattr(model.config, KEY, exported_reading(reference.family, reading, renderer))
    model.save_pretrained(folder, safe_serialization=True)
    renderer.tokenizer.save_pretrained(folder)
    parts = scores.parts or [{} for _ in probes]
    told = [told_probe(*probe) for probe in zip(probes, encoded, scores.values, parts, strict=True)]
    difference = verified(folder, told, reading)
    (folder / "probes.json").write_text(json.dumps(told, ensure_ascii=False, indent=1), encoding="utf-8")
    return Exported(
        class_name=kind.__name__,
        constants={name: value for name, value in constants.items() if value},
        weights=dict(reading.weights) if head.is_rated else {},
        constant=reading.constant,
        difference=difference,
        one_at_a_time=one_at_a_time,
        notes=notes_of(reference.family, reading, head, one_at_a_time=one_at_a_time),
        code=loading_code(renderer, reading),
    )


def refuse_family(reference: CheckpointRef) -> None:
    if reference.path is None:
        raise JobError("This reward model is a rule or lives elsewhere: it has no weights to export.")
    if reference.family not in EXPORTED:
        raise JobError(refusal(reference.family), PLAIN)
    if reference.config.get("length_normalisation", "none") != "none":
        raise JobError("No class of transformers divides a reward by the length of the response.", PLAIN)


def insist_as_made(about: Mapping[str, Any], config: Any, rewards: Any) -> None:
    """JobError where probes get other rewards than are stored with them, and no setting was changed that may do so."""
    stored = np.array([probe["reward"] for probe in about["probes"]])
    made_with = {**about.get("config", {}), "scoring_dtype": config.scoring_dtype}
    if not len(stored) or parse_spec(type(config), made_with) != config:
        return
    difference = float(np.abs(rewards - stored).max())
    if not difference <= SAME_AS_MADE * max(1.0, float(np.abs(stored).max())):
        raise JobError(
            f"This checkpoint gives its probes other rewards than when it was made (difference {difference:.2g}): its "
            "files were changed.",
            "Restore them, or make the checkpoint again.",
        )


def step_settings(config: Any) -> dict[str, str]:
    said = {"aggregation": config.aggregation, "tag": config.step_tag}
    return {**said, "mark": config.step_mark, "answer": config.step_answer}


def compared_settings(renderer: Any) -> dict[str, Any]:
    """How a policy discriminator puts its one text together, by the names of the card's code."""
    ids = {"SEPARATOR": renderer.separator_id, "REWARD": renderer.reward_id}
    return {"JOINT": "" if renderer.is_continued else "\n", "EACH": renderer.most, "ROOM": renderer.room, **ids}


def class_of(config: Any, *, is_steps: bool) -> Any:
    """The class for a backbone that classifies texts, or tokens."""
    what = "tokens" if is_steps else "texts"
    mapping: Any = (
        transformers.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING
        if is_steps
        else transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
    )
    if type(config) not in mapping:
        raise JobError(f"transformers has no class that classifies {what} with a {config.model_type} backbone.", PLAIN)
    return mapping[type(config)]


def fitting_layout(net: Any, head: LinearHead, kind: Any) -> Layout:
    """The layout of the class, where it pools as the net does and its head can hold ours."""
    layout = layout_of(net.backbone.config, kind.base_model_prefix)
    if layout is None:
        raise JobError(f"The head of {kind.__name__} computes something else than a reward head does.", PLAIN)
    if net.pooling != layout.pooling:
        raise JobError(
            f"{kind.__name__} reads the {layout.pooling} token; this reward model reads {WORDS[net.pooling]}.", PLAIN
        )
    width = net.backbone.config.hidden_size
    if len(head.layers) == layout.depth and (layout.depth == 1 or is_alike(head, layout, width)):
        return layout
    if len(head.layers) == 1 and layout.activation == "tanh":
        return layout
    between = f" with {layout.activation} between them" if layout.first else ""
    raise refuse_depth(kind, head, layout.depth, between)


def token_layout(kind: Any, net: Any, head: LinearHead) -> Layout:
    """The one linear layer by which a class reads tokens, by the name it has there."""
    if len(head.layers) > 1:
        raise refuse_depth(kind, head, 1)
    with torch.device("meta"):
        own = kind(net.backbone.config).state_dict()
    name = next((n for n in ("score", "classifier") if f"{n}.weight" in own), None)
    if name is None:
        raise JobError(f"The head of {kind.__name__} computes something else than a reward head does.", PLAIN)
    return Layout("last", name)


def refuse_depth(kind: Any, head: LinearHead, depth: int, between: str = "") -> JobError:
    own = f" with {head.activation}" if len(head.layers) > 1 else ""
    return JobError(
        f"{kind.__name__} has a head of {depth} layer{'s' if depth > 1 else ''}{between}; this one has "
        f"{len(head.layers)}{own}.",
        PLAIN,
    )


WORDS = {"mean": "the mean of all tokens", "response_mean": "the mean of the response's tokens"} | {
    "first": "the first token",
    "last": "the last token",
}


def is_alike(head: LinearHead, layout: Layout, width: int) -> bool:
    return head.activation == layout.activation and len(head.layers[0][0]) == width


def filled(net: Any, kind: Any, layout: Layout, head: LinearHead, labels: list[str]) -> tuple[Any, dict[str, float]]:
    """A model of the class with the weights of the net, and what its head has no place for, by output."""
    named = {"num_labels": len(labels), "id2label": dict(enumerate(labels))}
    named |= {"label2id": {name: i for i, name in enumerate(labels)}}
    config = kind.config_class.from_dict({**net.backbone.config.to_dict(), **named})
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


def told_probe(item: Any, encoded: Any, reward: float, part: Mapping[str, Any]) -> dict[str, Any]:
    """A text with its token ids and what it must get."""
    told = {"prompt": item[0], "response": item[1], **item[2], "input_ids": [int(i) for i in encoded.ids]}
    if "attributes" in part:
        told["ratings"] = part["attributes"]
    if "steps" in part:
        told["positions"] = [int(i) for i in encoded.marks]
        told["probabilities"] = [step["probability"] for step in part["steps"]]
    return {**told, "reward": float(reward)}


def notes_of(family: str, reading: Reading, head: LinearHead, *, one_at_a_time: bool) -> list[str]:
    notes = []
    if head.is_rated:
        parts = " ".join(f"{w:+.6g} {name}" for name, w in reading.weights.items() if w).removeprefix("+")
        notes.append(f"It gives ratings; the reward is made of them: {parts}.")
    told = {name: value for name, value in reading.constants.items() if value}
    if told and head.is_rated:
        listed = ", ".join(f"{name} {value:+.9g}" for name, value in told.items())
        notes.append(f"This class has no place for the constants of the ratings: add to each logit its own ({listed}).")
    elif told:
        notes.append(
            f"This class has no place for the constant {reading.constant:+.9g} of the reward head: add it to the logit."
        )
    if reading.steps:
        notes.append(
            f"The sigmoid of a token's logit is the probability that its step is right; the reward is their "
            f"{reading.steps['aggregation']}."
        )
    if reading.needs_reference:
        notes.append("It reads a reference beside the response: no reward without one.")
    if family == "goal_conditioned":
        notes.append(
            "It gives the reward of a response; the goal state, and with it the values of tokens, stays behind."
        )
    if one_at_a_time:
        notes.append("Its padding token also ends a text: give the model one text at a time, without padding.")
    return notes


def verified(folder: Path, probes: Sequence[Mapping[str, Any]], reading: Reading) -> float:
    """Open the folder as anybody would; the largest difference, which must be rounding."""
    auto = (
        transformers.AutoModelForTokenClassification
        if reading.steps
        else transformers.AutoModelForSequenceClassification
    )
    model = auto.from_pretrained(folder, use_safetensors=True, dtype=torch.float32, trust_remote_code=False).eval()
    found, wanted = [0.0], [0.0]
    for probe in probes:
        ids = torch.tensor([probe["input_ids"]])
        with torch.inference_mode():
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
        told, reward = read_logits(logits, probe, reading)
        found += [*told, reward]
        wanted += [*(probe.get("ratings") or {}).values(), *probe.get("probabilities", ()), probe["reward"]]
    difference = float(np.abs(np.array(found) - np.array(wanted)).max())
    if not difference <= SAME_REWARD * max(1.0, float(np.abs(wanted).max())):
        raise JobError(
            f"Opened by {type(model).__name__}, the exported folder gives other rewards (difference {difference:.2g}),"
            " so it was not kept.",
            PLAIN,
        )
    return difference


def read_logits(logits: Tensor, probe: Mapping[str, Any], reading: Reading) -> tuple[list[float], float]:
    """Ratings or probabilities where there are some, and the reward."""
    if reading.steps:
        p = (logits[probe["positions"], 0] + reading.constant).sigmoid()
        aggregation: Any = reading.steps["aggregation"]
        return p.tolist(), float(aggregate(p[None], aggregation)[0])
    shift, weight = (torch.tensor([t[n] for n in reading.weights]) for t in (reading.constants, reading.weights))
    outputs = logits + shift
    return outputs.tolist() if "ratings" in probe else [], float(outputs @ weight)
