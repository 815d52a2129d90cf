"""Every registered family that trains a net: batch size, order and padding change no reward beyond 1e-4.

A family that needs more than the items below carry is skipped with its reason; EXTRA_CONFIG is where it says what
its config needs.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.workers.making import turn
from workers.errors import JobError
from workers.families import FAMILIES
from workers.families.base import Item, NetFamily
from workers.nn.backbone import load_backbone
from workers.nn.checkpoints import write_checkpoint
from workers.nn.reward_net import RewardNet

SAME = 1e-4
BACKBONES = ("tiny-encoder", "tiny-causal")
EXTRA_CONFIG: dict[str, dict[str, Any]] = {"gated": {"gate_width": 16}}
FROM_A_FIRST_STAGE = ("gated",)
"""Families that take the backbone from a checkpoint; here it is loaded by its name."""
NETS = [
    name
    for name, family in FAMILIES.items()
    if isinstance(family, type) and issubclass(family, NetFamily) and "pointwise" in family.capabilities
]


def make_items(n: int = 14) -> list[Item]:
    """Of every length, several responses to a prompt, some longer than a tiny backbone reads."""
    rng = np.random.default_rng(0)
    made: list[Item] = []
    for number in range(n):
        steps = [f"step {i} " * int(rng.integers(1, 5)) for i in range(int(rng.integers(1, 4)))]
        if number == n - 1:
            steps.append("very long " * 30)
        prompt = [turn("user", f"question {number // 3} " + "why " * (number // 3))]
        extra = {
            "steps": steps,
            "reference": [turn("assistant", f"the answer is {number // 3}")],
            "rater": "somebody",
            "source": "here",
        }
        made.append((prompt, [turn("assistant", "".join(steps))], extra))
    return made


def opened(name: str, backbone_name: str, folder: Path) -> tuple[Any, Any]:
    """(config, scorer) of a checkpoint with a random head, opened as scoring opens it; or a skip."""
    family: Any = FAMILIES.get(name)
    try:
        config = family.Config(backbone=backbone_name, **EXTRA_CONFIG.get(name, {}))
        backbone = load_backbone(backbone_name) if name in FROM_A_FIRST_STAGE else family.load_backbone(config)
        net = family.net(config, backbone)
    except (JobError, ValidationError) as error:
        pytest.skip(f"{name} on {backbone_name}: {error}")
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in net.head.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
        for parameter in net.backbone.parameters():  # else a policy is its own reference, and its rewards are all 0
            parameter.add_(torch.randn_like(parameter) * 0.02)
    write_checkpoint(folder, net, backbone, {"format": 1})
    return config, family.open(config, folder)


def fitting(name: str, config: Any) -> list[Item]:
    family: Any = FAMILIES.get(name)
    items = make_items()
    reasons = [family.unfit(config, item) for item in items]
    found = [item for item, reason in zip(items, reasons, strict=True) if reason is None]
    if not found:
        pytest.skip(f"{name} reads none of the items: {reasons[0]}")
    return found


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("name", NETS)
def test_batches_and_order_change_no_reward(name, backbone, tmp_path) -> None:
    config, scorer = opened(name, backbone, tmp_path / "checkpoint")
    items = fitting(name, config)
    alone = np.array([scorer.score([item]).values[0] for item in items])
    has_reward = np.isfinite(alone)
    assert has_reward.any()
    assert np.ptp(alone[has_reward]) > 1e-3, "the rewards are all alike, so nothing would show"
    order = np.random.default_rng(1).permutation(len(items))
    for budget in (64, 300, 100_000):
        scorer.token_budget = budget
        together = scorer.score(items).values
        turned = scorer.score([items[i] for i in order]).values
        assert np.array_equal(np.isfinite(together), has_reward)
        assert np.abs(together - alone)[has_reward].max() < SAME
        assert np.abs(turned - alone[order])[has_reward[order]].max() < SAME


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("name", NETS)
def test_the_side_of_the_padding_changes_no_reward(name, backbone, tmp_path) -> None:
    config, scorer = opened(name, backbone, tmp_path / "checkpoint")
    net = scorer.net
    if not isinstance(net, RewardNet) or type(net).features is not RewardNet.features or net.head.needs_prompt:
        pytest.skip(f"{name} reads its states itself; its batches are compared above")
    encoded = scorer.encode(fitting(name, config))
    if any(item.marks is not None for item in encoded):
        pytest.skip(f"{name} reads at positions; its batches are compared above")
    with torch.inference_mode():
        found = {side: net.reward(net.outputs_of(net._padded(encoded, side))) for side in ("left", "right")}
        packed = net.reward(net(encoded))
    assert (found["left"] - found["right"]).abs().max() < SAME
    assert (packed - found["right"]).abs().max() < SAME
