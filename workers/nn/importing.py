"""A public reward model as a checkpoint: loaded by transformers, taken over exactly, and checked against its class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors import safe_open
from torch import Tensor

from workers.data.render import Encoded
from workers.data.schema import Message
from workers.errors import JobError, SpecError
from workers.families import FAMILIES
from workers.families.base import Item
from workers.nn.backbone import (
    Backbone,
    described,
    explained,
    insist_finite,
    is_causal,
    load_classifier,
    read_config,
    weight_files,
)
from workers.nn.checkpoints import read_about, write_checkpoint
from workers.nn.exported_reading import take_reading
from workers.nn.head_layouts import PUBLIC_HEADS, Layout, head_tensors, layout_of, refuse_layout
from workers.nn.import_builders import BUILDERS, is_right_or_wrong
from workers.nn.import_exported import exported_config, find_exported
from workers.nn.internlm2 import raw_config
from workers.nn.net import Net
from workers.nn.public_found import Found, labels_of
from workers.nn.public_models import find_logit, find_public, take_template
from workers.specs import parse_spec

SAME_REWARD = 1e-4
SEQUENCE, TOKEN = "ForSequenceClassification", "ForTokenClassification"
INSISTED = frozenset({"weights"})
"""Settings that are refused, not left out, where a family has no such field."""
PLAIN = (
    "It comes without a chat template: conversations become plain role labels, which it has hardly seen in training. "
    "Give the template of its training as chat_template."
)


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
    if ours := exported_config(name, revision):
        return find_exported(name, revision, ours, template=template)
    told = raw_config(name, revision)
    architectures = told.get("architectures") if told else getattr(read_config(name, revision), "architectures", None)
    named = architectures[0] if isinstance(architectures, list) and architectures else "none"
    if not isinstance(named, str):
        raise JobError(f"The config.json of {name} names the class {named!r}.", "Get its files again.")
    if not named.endswith((SEQUENCE, TOKEN)) or has_head_of_its_own(name, revision, named):
        return find_public(name, revision, named, wanted=wanted, template=template)
    return _find_classifier(name, revision, named, template)


def has_head_of_its_own(name: str, revision: str | None, named: str) -> bool:
    """Whether a class called a classifier is none of transformers', and its head has several layers (INF-ORM)."""
    if hasattr(transformers, named):
        return False
    held: set[str] = set()
    for file in weight_files(name, revision):
        with explained(name, partial(safe_open, file, framework="pt")) as tensors:
            held |= set(tensors.keys())
    return any(set(head.layout.weights) <= held for head in PUBLIC_HEADS if head.first)


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
    base, layout = getattr(model, prefix), None if is_token else layout_of(model.config, prefix)
    pooler = getattr(base, "pooler", None)

    def logits(ids: Tensor) -> Tensor:
        """Of one text alone, without padding; the class needs its pooler back, which no backbone here keeps."""
        if pooler is not None:
            base.pooler = pooler
        with torch.inference_mode():
            found: Tensor = model.eval()(input_ids=ids[None], attention_mask=torch.ones_like(ids[None])).logits[0]
        if pooler is not None:
            base.pooler = None
        return found.float() + shift

    notes = []
    told, labels = take_reading(model.config, name), labels_of(model.config, model.config.num_labels)
    if told and any(told.constants.values()) and not is_token:
        if told.constants.keys() != set(labels):
            raise refuse_layout(name, list(told.constants), labels, "its labels are not those it was exported with")
        shift = torch.tensor([told.constants[label] for label in labels])
        notes.append("Its constants, which its class has no place for, were added to its logits.")
    else:
        shift = torch.zeros(len(labels))
    if not is_token and getattr(model.config, "problem_type", None) == "single_label_classification":
        notes.append("It was trained to tell classes apart: the ratings are logits, and only their differences count.")
    return Found(
        name,
        named,
        base,
        tokenizer,
        shifted({n: t.detach().clone() for n, t in head.items()}, layout, shift),
        labels,
        layout,
        logits,
        reads_tokens=is_token,
        notes=notes,
        exported=told,
    )


def shifted(head: dict[str, Tensor], layout: Layout | None, shift: Tensor) -> dict[str, Tensor]:
    """The tensors of a head with `shift` added to what its last layer gives."""
    if layout is None or not shift.any():
        return head
    name = f"{layout.last}.bias"
    return {**head, name: head.get(name, torch.zeros(len(shift))).float() + shift}


def import_model(found: Found, wanted: str, settings: Mapping[str, Any]) -> Imported:
    """Choose the family, build its net, and ask the model's own class, or its formula, for rewards of the probes."""
    insist_finite(found.name, found.head)
    fitting = fitting_family(found, wanted)
    settings = {**said_of_itself(found), **{n: v for n, v in settings.items() if (n, v) != ("rendering", "auto")}}
    config, head, notes, reward = BUILDERS[fitting](found, settings)
    family: Any = FAMILIES.get(fitting)
    fields = family.Config.model_fields
    is_spent = fitting == "scalar_head" and len(found.labels) > 1  # its weights are in the head then
    insisted = frozenset() if is_spent else INSISTED
    given = {key: value for key, value in settings.items() if key in fields or key in insisted}
    parsed = _config(family, {"backbone": found.name, **found.settings, **config, **given})
    backbone = described(found.base, found.tokenizer)
    net = family.net(parsed, backbone)
    _fill(net, head)
    renderer = family.renderer(parsed, backbone)
    if found.needs_template and not renderer.uses_template:
        raise JobError(
            f"{found.name} is read at a token that its chat template ends in; plain role labels have none.",
            "Leave rendering at auto.",
        )
    if is_causal(found.base.config.model_type) and not renderer.uses_template and found.exported is None:
        notes = [*notes, PLAIN]
    items, encoded = _readable(family.encode(parsed, renderer, probes()), is_gated=found.is_gated)
    insist_known_ids(found, encoded)
    ids = [torch.from_numpy(np.asarray(item.ids, dtype=np.int64)) for item in encoded]
    with torch.inference_mode():
        rewards = [reward(net, found.logits(row), item) for row, item in zip(ids, encoded, strict=True)]
    return Imported(family, parsed, net, backbone, [*found.notes, *notes], items, rewards)


def fitting_family(found: Found, wanted: str) -> str:
    """What a model can become, first what it usually is. JobError where that is not what is wanted."""
    n = len(found.labels)
    is_rated = found.exported is not None and not found.exported.is_scalar
    possible = ["multi_attribute", "scalar_head"]
    if found.is_gated or found.reads_tokens:
        possible = ["gated" if found.is_gated else "process"]
    elif n == 1:
        possible = ["multi_attribute" if is_rated else "scalar_head"]
    elif n == 2 and is_right_or_wrong(found.labels):
        possible.reverse()
    if wanted not in ("auto", *possible):
        raise JobError(
            f"{found.name} has {n} label{'s' if n > 1 else ''} {'a token' if found.reads_tokens else 'a text'}: it can "
            f"be imported as {' or '.join(possible)}, not as {wanted}.",
            "Leave the family at auto.",
        )
    return possible[0] if wanted == "auto" else wanted


def said_of_itself(found: Found) -> dict[str, Any]:
    """Settings that a folder exported from here carries; what a run gives goes before them."""
    told = found.exported
    if told is None:
        return {}
    if told.family in ("policy_discriminator", "reference_verifier"):
        raise JobError(
            f"{found.name} was exported from a {told.family}, which reads a reference beside the response.",
            "Import knows no references: use the checkpoint that it was exported from.",
        )
    said: dict[str, Any] = {"rendering": told.rendering}
    if not told.is_scalar:
        said["weights"] = {name: weight for name, weight in told.weights.items() if weight}
    if told.steps:
        said |= {"aggregation": told.steps.aggregation}
        said |= {f"step_{n}": v for n, v in told.steps.model_dump(exclude={"aggregation"}).items() if v}
    return said


def insist_known_ids(found: Found, encoded: Sequence[Encoded]) -> None:
    """JobError where the tokenizer gives ids that the model has no embedding for: it is another model's."""
    rows, largest = len(found.base.get_input_embeddings().weight), max(int(item.ids.max()) for item in encoded)
    if largest >= rows:
        raise JobError(
            f"The tokenizer of {found.name} gives the id {largest}, and its embedding has {rows} rows: they do not "
            "belong together.",
            "Put the tokenizer beside it that it was trained with.",
        )


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
