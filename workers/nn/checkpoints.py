"""The files of a trained reward model: weights as safetensors, the backbone's config and tokenizer, and probes.

weights.safetensors    backbone.* and head.*, float32
backbone/              config.json and tokenizer files: opens without the place the backbone came from
reward_model.json      what it is, and eight texts with the rewards they must get
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from workers.errors import JobError
from workers.nn.backbone import Backbone, keep_backbone, open_backbone
from workers.nn.folders import write_folder

WEIGHTS, ABOUT, BACKBONE = "weights.safetensors", "reward_model.json", "backbone"


@dataclass(frozen=True)
class Weights:
    tensors: Mapping[str, Tensor]

    def load_into(self, net: nn.Module) -> None:
        """Copy every tensor; nothing may be missing, left over or of another shape."""
        own = net.state_dict()
        wrong = sorted(n for n in own.keys() & self.tensors.keys() if own[n].shape != self.tensors[n].shape)
        amiss = {*wrong, *(own.keys() ^ self.tensors.keys())}
        if any(name.startswith("head.") for name in amiss):
            raise JobError(
                "The reward head in this checkpoint does not fit its backbone.",
                "Use a checkpoint that train_rm has written for this reward model.",
            )
        odd = sorted(own.keys() ^ self.tensors.keys()) + wrong
        if odd:
            raise JobError(
                f"The weights of this checkpoint do not fit its backbone ({len(odd)} tensors, the first is {odd[0]}).",
                "The backbone's code may have changed with transformers: use the version the checkpoint was made with.",
            )
        net.load_state_dict(dict(self.tensors))


def write_checkpoint(folder: Path, net: nn.Module, backbone: Backbone, about: Mapping[str, Any]) -> None:
    """Same weights, same bytes: nothing in the files depends on when they were written."""

    def fill(draft: Path) -> None:
        save_weights(net, draft / WEIGHTS)
        keep_backbone(backbone, draft / BACKBONE)
        write_about(draft, about)

    write_folder(folder, fill)


def read_checkpoint(folder: Path) -> tuple[Backbone, Weights]:
    if not (folder / WEIGHTS).is_file() or not (folder / BACKBONE / "config.json").is_file():
        raise JobError(
            f"The folder {folder.name} is not a checkpoint: {WEIGHTS} or the backbone's config is missing.",
            "Use a checkpoint that train_rm has written.",
        )
    try:
        return open_backbone(folder / BACKBONE), load_weights(folder / WEIGHTS)
    except SafetensorError as error:
        raise JobError(f"The weights of this checkpoint are damaged: {error}", "Train it again.") from error


def read_about(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    return found


def insist_same_rendering(folder: Path, family: Any, config: Any, backbone: Backbone) -> None:
    """JobError where a conversation would become other token ids than when the checkpoint was made.

    How many tokens are read may differ: that is a setting of the reward model. Checkpoints that say nothing pass.
    """
    about = read_about(folder) if (folder / ABOUT).is_file() else {}
    stored, told = about.get("rendering"), about.get("config")
    if not isinstance(stored, str) or not isinstance(told, dict):
        return
    made_with = config.model_copy(update={name: told[name] for name in type(config).model_fields if name in told})
    was = family.renderer(made_with, backbone)
    if was.fingerprint != stored:
        raise JobError(
            "The tokenizer or chat template of this checkpoint gives other token ids than when it was made (rendering "
            f"{stored}, now {was.fingerprint}), so its rewards would mean something else.",
            "Its tokenizer files were changed, or this version of transformers reads them in another way: restore them,"
            " use the versions that its run names, or make the checkpoint again.",
        )
    now = family.renderer(config.model_copy(update={"max_length": made_with.max_length}), backbone)
    if now.fingerprint != stored:
        words = {True: "the chat template", False: "plain role labels"}
        raise JobError(
            f"This checkpoint was made on conversations as {words[was.uses_template]}; the reward model's settings now "
            f"ask for {words[now.uses_template] if now.uses_template != was.uses_template else 'another text'}.",
            f"Set rendering to {made_with.rendering} again, or make a checkpoint with these settings.",
        )


def write_about(folder: Path, about: Mapping[str, Any]) -> None:
    text = json.dumps(about, ensure_ascii=False, indent=1, sort_keys=True)
    (folder / ABOUT).write_text(text + "\n", encoding="utf-8")


def save_weights(net: nn.Module, path: Path, *, only: Collection[str] | None = None) -> None:
    """Tied tensors are stored once for each name: loading needs no knowledge of the ties."""
    seen: set[int] = set()
    tensors = {}
    for name, tensor in net.state_dict().items():
        if only is not None and name not in only:
            continue
        flat = tensor.detach().cpu().contiguous()
        tensors[name] = flat.clone() if flat.data_ptr() in seen else flat
        seen.add(flat.data_ptr())
    save_file(tensors, path)


def load_weights(path: Path) -> Weights:
    return Weights(load_file(path, device="cpu"))


def count_parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def weights_differ(left: Path, right: Path) -> bool:
    """Is any bit different? For tests and for comparing runs."""
    a, b = load_file(left), load_file(right)
    return a.keys() != b.keys() or any(not torch.equal(a[name], b[name]) for name in a)
