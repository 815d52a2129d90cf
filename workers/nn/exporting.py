"""A checkpoint as a folder that transformers opens: by its own class where one computes the same, else by ours."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workers.context import CheckpointRef
from workers.data.loading_code import Reading, loading_code
from workers.errors import JobError
from workers.families import FAMILIES
from workers.jobs.export_checkpoint import PLAIN, refusal
from workers.nn.checkpoints import read_about
from workers.nn.export_checks import verified
from workers.nn.export_classes import filled, text_fit, token_fit
from workers.nn.export_code import FILE, add_code, with_code
from workers.nn.export_heads import LinearHead, linear_head
from workers.nn.exported_reading import KEY, exported_reading
from workers.specs import parse_spec

SAME_AS_MADE = 1e-3
"""Made on another machine, perhaps in another precision."""
RIGHT = "right"
"""The one label of a process reward model's tokens."""
CODE = (
    f"It brings code: no class of transformers computes these rewards, so their class is a file of the folder, "
    f"{FILE.name}, which needs torch and transformers alone. trust_remote_code=True runs that file: read it first. "
    "Without it transformers does not open the folder."
)


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
    """Write model, tokenizer and probes into `folder`. JobError says why its rewards cannot travel."""
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
    head = linear_head(reference.family, net.head, config)
    labels = [RIGHT] if is_steps else head.names
    fit = token_fit(net, head) if is_steps else text_fit(net, head)
    if fit is None:
        model, constants = with_code(net, head, labels), dict.fromkeys(labels, 0.0)
    else:
        model, constants = filled(net, fit, head, labels)
    reading = Reading(
        constants=constants,
        weights=dict(zip(head.names, head.weights, strict=True)),
        steps=step_settings(config) if is_steps else {},
        compared=compared_settings(renderer) if reference.family == "policy_discriminator" else {},
        is_verified=reference.family == "reference_verifier",
        brings_code=fit is None,
    )
    pad_id = renderer.tokenizer.pad_token_id
    looks_for_padding = fit is not None and not is_steps and fit.layout.pooling == "last"
    one_at_a_time = looks_for_padding and pad_id in {int(item.ids[-1]) for item in encoded}
    model.config.pad_token_id = None if one_at_a_time else pad_id
    setattr(model.config, KEY, exported_reading(reference.family, reading, renderer))
    model.save_pretrained(folder, safe_serialization=True)
    renderer.tokenizer.init_kwargs.pop("auto_map", None)  # whoever trusts our file must not run somebody else's
    renderer.tokenizer.save_pretrained(folder)
    if reading.brings_code:
        add_code(folder)
    parts = scores.parts or [{} for _ in probes]
    told = [told_probe(*probe) for probe in zip(probes, encoded, scores.values, parts, strict=True)]
    difference = verified(folder, told, reading, renderer.tokenizer)
    (folder / "probes.json").write_text(json.dumps(told, ensure_ascii=False, indent=1), encoding="utf-8")
    return Exported(
        class_name=type(model).__name__,
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
    if why := refusal(reference.family, reference.config):
        raise JobError(why, PLAIN)


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
    notes = [CODE] if reading.brings_code else []
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
