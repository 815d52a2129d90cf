"""A trained reward model as a checkpoint, which is opened again before it counts."""

from pathlib import Path
from typing import Any

import numpy as np

from workers.context import JobContext
from workers.errors import JobError
from workers.families import FAMILIES
from workers.families.base import Item
from workers.nn.backbone import Backbone
from workers.nn.checkpoints import read_about, write_about, write_checkpoint
from workers.nn.failures import explaining_disk
from workers.nn.net import Net
from workers.nn.reward_net import RewardNet
from workers.nn.scoring import net_rewards
from workers.nn.training_state import Progress
from workers.nn.units import UnitData
from workers.specs import parse_spec

SAME_REWARD = 1e-4


def store_checkpoint(
    ctx: JobContext,
    folder: Path,
    net: Net,
    backbone: Backbone,
    *,
    family: Any,
    config: Any,
    data: UnitData,
    progress: Progress,
) -> float:
    """Write the checkpoint, open it as scoring will, and refuse it when it gives the probes other rewards."""
    ctx.progress(1, 1, "Saving and checking the reward model")
    net.backbone.requires_grad_(True)
    renderer = family.renderer(config, backbone)
    rewards = _probe_rewards(net, family.encode(config, renderer, data.probes))
    about = {
        "format": 1,
        "family": family.name,
        "config": config.model_dump(mode="json"),
        **({"pooling": net.pooling} if isinstance(net, RewardNet) else {}),
        "rendering": renderer.fingerprint,
        "data_sha256": data.fingerprint,
        "trained_in": progress.dtype,
        "probes": [_probe(item, reward) for item, reward in zip(data.probes, rewards, strict=True)],
    }
    with explaining_disk("the checkpoint"):
        write_checkpoint(folder, net, backbone, about)
    return verify_checkpoint(folder, family, config)


def _probe(item: Item, reward: float) -> dict[str, Any]:
    extra = {"extra": dict(item[2])} if len(item) == 3 and item[2] else {}
    return {"prompt": item[0], "response": item[1], **extra, "reward": reward}


def _probe_rewards(net: Net, encoded: Any) -> list[float]:
    trained_in, net.dtype = net.dtype, "float32"
    values = net_rewards(net.eval(), encoded, 2048)
    net.dtype = trained_in
    return [float(v) for v in values]


def rewrite_probes(folder: Path, family_name: str, config: dict[str, Any]) -> None:
    """Give the probes of a checkpoint the rewards that its weights give them now."""
    family: Any = FAMILIES.get(family_name)
    about = read_about(folder)
    items = [(p["prompt"], p["response"], p.get("extra", {})) for p in about["probes"]]
    values = family.open(parse_spec(family.Config, config), folder).score(items).values
    for probe, value in zip(about["probes"], values, strict=True):
        probe["reward"] = float(value)
    write_about(folder, about)


def verify_checkpoint(folder: Path, family: Any, config: Any) -> float:
    """Largest difference between the stored rewards of the probes and those of a scorer opened afresh."""
    probes = read_about(folder)["probes"]
    scorer = family.open(config.model_copy(update={"scoring_dtype": "float32"}), folder)
    found = scorer.score([(probe["prompt"], probe["response"], probe.get("extra", {})) for probe in probes]).values
    stored = np.array([probe["reward"] for probe in probes], dtype=np.float64)
    error = float(np.abs(found - stored).max()) if len(probes) else 0.0
    if not error <= SAME_REWARD:
        raise JobError(
            f"The saved checkpoint gives other rewards than the model that was trained (difference {error:.2g}).",
            "The checkpoint was refused. Check the disk, and that the backbone loads the same way twice.",
        )
    return error
