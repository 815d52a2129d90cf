"""A checkpoint as a folder that transformers opens with its own class, where a class computes the same rewards."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor

from workers.context import CheckpointRef
from workers.data.loading_code import loading_code
from workers.errors import JobError
from workers.families import FAMILIES
from workers.jobs.export_checkpoint import EXPORTED, PLAIN
from workers.nn.checkpoints import read_about
from workers.nn.head_layouts import Layout, layout_of
from workers.specs import parse_spec

SAME_REWARD = 1e-5
#: tanh(x) = x - x^3/3: at this scale the cube is lost in rounding, and float32 keeps seven figures at any scale.
IDENTITY_SCALE = 2.0**-12


@dataclass(frozen=True)
class Exported:
    """What was written. The reward is the class's logit plus `constant`."""

    class_name: str
    constant: float
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
    net = scorer.net.cpu()
    probes = [(p["prompt"], p["response"]) for p in read_about(reference.path)["probes"]]  # type: ignore[arg-type]
    encoded = scorer.encode(probes)
    rewards = scorer.score(probes).values
    kind = class_of(net.backbone.config)
    layout = fitting_layout(net, config, kind)
    model, constant = filled(net, kind, layout)
    pad_id = scorer.renderer.tokenizer.pad_token_id
    ends = {int(item.ids[-1]) for item in encoded}
    one_at_a_time = layout.pooling == "last" and pad_id in ends
    model.config.pad_token_id = None if one_at_a_time else pad_id
    model.save_pretrained(folder, safe_serialization=True)
    scorer.renderer.tokenizer.save_pretrained(folder)
    difference = verified(folder, encoded, rewards, constant)
    told = [
        {"prompt": item[0], "response": item[1], "input_ids": [int(i) for i in ids.ids], "reward": float(reward)}
        for item, ids, reward in zip(probes, encoded, rewards, strict=True)
    ]
    (folder / "probes.json").write_text(json.dumps(told, ensure_ascii=False, indent=1), encoding="utf-8")
    notes = []
    if constant:
        notes.append(
            f"This class has no place for the constant {constant:+.9g} of the reward head: add it to the logit."
        )
    if one_at_a_time:
        notes.append("Its padding token also ends a text: give the model one text at a time, without padding.")
    code = loading_code(scorer.renderer, constant=constant)
    return Exported(kind.__name__, constant, difference, one_at_a_time, notes, code)


def refuse_family(reference: CheckpointRef) -> None:
    if reference.path is None:
        raise JobError("This reward model is a rule or lives elsewhere: it has no weights to export.")
    if reference.family not in EXPORTED:
        raise JobError(f"No class of transformers computes the rewards of the family {reference.family}.", PLAIN)
    if reference.config.get("length_normalisation", "none") != "none":
        raise JobError("No class of transformers divides a reward by the length of the response.", PLAIN)


def class_of(config: Any) -> Any:
    """The sequence-classification class for a backbone."""
    mapping: Any = transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
    if type(config) not in mapping:
        raise JobError(f"transformers has no class that classifies texts with a {config.model_type} backbone.", PLAIN)
    return mapping[type(config)]


def fitting_layout(net: Any, config: Any, kind: Any) -> Layout:
    """The layout of the class, where it pools as the net does and its head can hold ours."""
    layout = layout_of(net.backbone.config, kind.base_model_prefix)
    if layout is None:
        raise JobError(f"The head of {kind.__name__} computes something else than a reward head does.", PLAIN)
    if net.pooling != layout.pooling:
        raise JobError(
            f"{kind.__name__} reads the {layout.pooling} token; this reward model reads {WORDS[net.pooling]}.", PLAIN
        )
    width = net.backbone.config.hidden_size
    if config.head_depth == layout.depth and (layout.depth == 1 or is_alike(config, layout, width)):
        return layout
    if config.head_depth == 1 and layout.activation == "tanh":
        return layout
    raise JobError(
        f"{kind.__name__} has a head of {layout.depth} layer{'s' if layout.depth > 1 else ''}"
        f"{f' with {layout.activation} between them' if layout.first else ''}; this one has {config.head_depth}"
        f"{f' with {config.head_activation}' if config.head_depth > 1 else ''}.",
        PLAIN,
    )


WORDS = {"mean": "the mean of all tokens", "response_mean": "the mean of the response's tokens"} | {
    "first": "the first token",
    "last": "the last token",
}


def is_alike(config: Any, layout: Layout, width: int) -> bool:
    return config.head_activation == layout.activation and (config.head_width or width) == width


def filled(net: Any, kind: Any, layout: Layout) -> tuple[Any, float]:
    """A model of the class with the weights of the net, and what its head has no place for."""
    config = kind.config_class.from_dict(
        {**net.backbone.config.to_dict(), "num_labels": 1, "id2label": {0: "reward"}, "label2id": {"reward": 0}}
    )
    config.problem_type = "regression"
    model = kind(config).eval()
    own, prefix = model.state_dict(), kind.base_model_prefix
    given = {f"{prefix}.{name}": tensor for name, tensor in net.backbone.state_dict().items()}
    given |= head_weights(net.head.state_dict(), layout)
    constant = 0.0
    if f"{layout.last}.bias" not in own:
        constant = float(given.pop(f"{layout.last}.bias"))
    if odd := sorted(own.keys() ^ given.keys()):
        raise JobError(f"The class {kind.__name__} has other tensors than this backbone: {', '.join(odd[:5])}.", PLAIN)
    model.load_state_dict(given)
    return model, constant


def head_weights(head: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """By the names of the class; a head of one layer passes a tanh unharmed when it is scaled down and up again."""
    if "layers.0.weight" in head:
        return {
            f"{layout.first}.weight": head["layers.0.weight"],
            f"{layout.first}.bias": head["layers.0.bias"],
            f"{layout.last}.weight": head["layers.2.weight"],
            f"{layout.last}.bias": head["layers.2.bias"],
        }
    last = {f"{layout.last}.weight": head["weight"], f"{layout.last}.bias": head["bias"]}
    if not layout.first:
        return last
    width = head["weight"].shape[1]
    first = {f"{layout.first}.weight": torch.eye(width) * IDENTITY_SCALE, f"{layout.first}.bias": torch.zeros(width)}
    return {**last, **first, f"{layout.last}.weight": head["weight"] / IDENTITY_SCALE}


def verified(folder: Path, encoded: Any, rewards: Any, constant: float) -> float:
    """Open the folder as anybody would; the largest difference, which must be rounding."""
    auto = transformers.AutoModelForSequenceClassification
    model = auto.from_pretrained(folder, use_safetensors=True, dtype=torch.float32, trust_remote_code=False).eval()
    found = []
    with torch.inference_mode():
        for item in encoded:
            ids = torch.from_numpy(np.asarray(item.ids, dtype=np.int64))[None]
            found.append(float(model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, 0]) + constant)
    difference = float(np.abs(np.array(found) - rewards).max()) if found else 0.0
    if not difference <= SAME_REWARD * max(1.0, float(np.abs(rewards).max(initial=0.0))):
        raise JobError(
            f"Opened by {type(model).__name__}, the exported folder gives other rewards (difference {difference:.2g}),"
            " so it was not kept.",
            PLAIN,
        )
    return difference
