"""Peer review on implicit rewards: two policies from one start, against labels of which four in ten are wrong."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.workers.likelihood_world import vowel_pairs
from tests.workers.making import LocalRun, turn
from workers.data.schema import PreferencePair
from workers.errors import JobCancelled, JobError, SpecError
from workers.families import FAMILIES
from workers.nn.checkpoints import WEIGHTS, load_weights
from workers.specs import parse_spec

FAMILY: Any = FAMILIES.get("twin_policies")
MODEL = {"backbone": "tiny-causal"}
QUICK = {"max_steps": 6, "learning_rate": 3e-3, "head_learning_rate": 3e-3}


def opened(local: LocalRun, uid: str, **model: Any) -> Any:
    return FAMILY.open(parse_spec(FAMILY.Config, {**local.model, **model}), local.checkpoints[uid].path)


def flipped(pairs: list[PreferencePair], share: float, seed: int) -> list[PreferencePair]:
    wrong = np.random.default_rng(seed).permutation(np.arange(len(pairs)) < round(share * len(pairs)))
    other = {"a": "b", "b": "a"}
    return [replace(pair, verdict=other[pair.verdict]) if w else pair for pair, w in zip(pairs, wrong, strict=True)]


def accuracy(local: LocalRun, uid: str, pairs: list[PreferencePair], output: str) -> float:
    items = [(pair.prompt, response) for pair in pairs for response in (pair.chosen, pair.rejected)]
    chosen, rejected = opened(local, uid, output=output).score(items).values.reshape(-1, 2).T
    return float((chosen > rejected).mean())


@pytest.mark.parametrize("backbone", ["tiny-causal", "tiny-causal-tied"])
def test_trained_stored_and_scored_again(tmp_path, backbone) -> None:
    pairs = vowel_pairs(40)
    local = LocalRun(tmp_path, pairs, {"backbone": backbone}, "twin_policies")
    ctx = local.context()
    result = local.train(ctx, **QUICK)
    assert result["objective"] == "peer_review_dpo"
    assert result["probe_difference"] < 1e-4
    told = result["finished"]
    assert told["shares_trained_backbone"] is False
    assert told["warnings"] == []
    items = [(pair.prompt, pair.response_a) for pair in pairs]
    a, b = (opened(local, result["checkpoint"], output=name).score(items) for name in "ab")
    members = np.array([[part["members"][name] for name in "ab"] for part in a.parts])
    assert np.allclose(members, np.stack([a.values, b.values], axis=1), atol=1e-6)
    assert np.abs(members[:, 0] - members[:, 1]).max() > 1e-4, "dropout has set them apart"
    tensors = load_weights(local.checkpoints[result["checkpoint"]].path / WEIGHTS).tensors
    assert {name.split(".")[0] for name in tensors} == {"backbone", "head", "reference"}


def test_each_policy_is_rewarded_by_its_own_log_ratio(tmp_path) -> None:
    """The family implicit, given either policy's weights, says the same."""
    local = LocalRun(tmp_path, vowel_pairs(24), {**MODEL, "beta": 0.3}, "twin_policies")
    uid = local.train(**QUICK)["checkpoint"]
    net = opened(local, uid).net
    items = [(pair.prompt, pair.response_b) for pair in local.pairs]
    single: Any = FAMILIES.get("implicit")
    config = parse_spec(single.Config, local.model)
    for output, model in (("a", net.backbone), ("b", net.head.second)):
        told = opened(local, uid, output=output)
        batch = told.encode(items)
        alone = single.build(config, FAMILY.load_backbone(config), reference=net.reference).eval()
        alone.backbone.load_state_dict(model.state_dict())
        with torch.inference_mode():
            assert np.allclose(alone(batch).numpy(), told.score(items).values, atol=1e-4)


@pytest.mark.slow
def test_peer_review_helps_where_four_in_ten_labels_are_wrong(tmp_path) -> None:
    """Check 5 of the method, one seed and half of the pairs; docs/methods/peer_review_dpo.md has five seeds of all."""
    noisy, clean = flipped(vowel_pairs(300, seed=100), 0.4, 0), vowel_pairs(300, seed=200)
    spec = {"learning_rate": 3e-3, "head_learning_rate": 3e-3, "epochs": 8, "batch_pairs": 32, "keep": "last"}
    spec |= {"validation_share": 0.05, "token_budget": 8192, "dtype": "float32"}
    found = {}
    for name, rate in (("plain", 0.0), ("reviewed", 0.4)):
        local = LocalRun(tmp_path / name, noisy, MODEL, "twin_policies")
        result = local.train(objective_config={"noise_rate": rate}, **spec)
        assert result["n_parameters"] < 1_000_000
        found[name] = {output: accuracy(local, result["checkpoint"], clean, output) for output in ("a", "b", "mean")}
    print(found)
    assert found["reviewed"]["a"] >= max(found["plain"].values()) + 0.02


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path) -> None:
    local = LocalRun(tmp_path, vowel_pairs(48), MODEL, "twin_policies")
    spec = {"epochs": 4, "checkpoint_every": 3, "objective_config": {"noise_rate": 0.3, "ramp_epochs": 1}}
    whole = local.train(local.context("whole"), **spec)
    killed = local.context("killed")
    killed.is_cancelled = lambda: len(killed.metrics) >= 12
    with pytest.raises(JobCancelled):
        local.train(killed, **spec)
    again = local.train(local.context("killed", attempt=2), **spec)
    assert again["validation_final"] == whole["validation_final"]
    assert again["finished"]["suspects"] == whole["finished"]["suspects"]


def test_both_policies_start_from_a_checkpoint(tmp_path) -> None:
    local = LocalRun(tmp_path, vowel_pairs(24), MODEL, "autoregressive")
    start = local.train(local.context("start"), **QUICK)["checkpoint"]
    local.family = "twin_policies"
    ctx = local.context("two")
    still = {**QUICK, "learning_rate": 1e-9, "head_learning_rate": 1e-9}
    uid = local.train(ctx, start_from=start, **still)["checkpoint"]
    own, tensors = (load_weights(local.checkpoints[one].path / WEIGHTS).tensors for one in (start, uid))
    name = next(name for name in own if name.endswith("q_proj.weight"))
    for prefix in ("backbone", "head.second", "reference"):
        assert torch.allclose(tensors[name.replace("backbone", prefix)], own[name], atol=1e-6), prefix
    assert any("for both policies" in line for _, line in ctx.logs)


def test_what_cannot_be_reviewed_says_so(tmp_path) -> None:
    pairs = vowel_pairs(24)
    with pytest.raises(JobError, match="choose alike for ever"):
        LocalRun(tmp_path / "a", pairs, {**MODEL, "dropout": 0.0}, "twin_policies").train(**QUICK)
    for family, objective in (
        ("implicit", "peer_review_dpo"),
        ("twin_policies", "peer_review"),
        ("twin_policies", "dpo"),
    ):
        with pytest.raises(SpecError, match="needs a family that"):
            LocalRun(tmp_path / "b", pairs, MODEL, family).train(objective=objective)
    long = [replace(pair, response_a=[turn("assistant", "x" * 900)]) for pair in pairs]
    with pytest.raises(JobError, match="There is nothing to learn from"):
        LocalRun(tmp_path / "c", long, MODEL, "twin_policies").train(**QUICK)
    result = LocalRun(tmp_path / "d", [*pairs, long[0]], MODEL, "twin_policies").train(**QUICK)
    assert result["finished"]["unread"] == {"response longer than the model reads": ["pair-0"]}
