"""A goal state in a file beside a checkpoint, such as one for an attribute; it is of use to that checkpoint alone."""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from workers.errors import JobError
from workers.nn.checkpoints import WEIGHTS

ADVICE = "Compute the goal again with this checkpoint."


def save_goal(path: Path, goal: Tensor, checkpoint: Path) -> None:
    """Write the goal (width,) with the hash of the weights it was computed with."""
    save_file({"goal": goal.detach().float().cpu().contiguous()}, path, metadata={"weights_sha256": _hash(checkpoint)})


def load_goal(path: Path, checkpoint: Path, *, width: int) -> Tensor:
    """The goal (width,). JobError where it is damaged, of another width, or of other weights."""
    try:
        with safe_open(path, framework="pt") as found:
            told: dict[str, str]
            goal: Tensor
            told, goal = found.metadata() or {}, found.get_tensor("goal")
    except (SafetensorError, OSError) as error:
        raise JobError(f"{path.name} is not a goal state: {error}", ADVICE) from error
    if goal.shape != (width,):
        raise JobError(f"The goal in {path.name} has {goal.numel()} numbers, the model's states {width}.", ADVICE)
    if told.get("weights_sha256") != _hash(checkpoint):
        raise JobError(f"The goal in {path.name} was computed with other weights than this checkpoint's.", ADVICE)
    if not bool(torch.isfinite(goal).all()):
        raise JobError(f"The goal in {path.name} holds numbers that are not finite.", ADVICE)
    return goal


def _hash(checkpoint: Path) -> str:
    with (checkpoint / WEIGHTS).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
