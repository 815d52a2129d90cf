"""Checkpoints of any families as one reward model."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.workers.making import LocalRun, make_pairs
from workers.context import CheckpointRef
from workers.errors import JobError, SpecError
from workers.families import FAMILIES
from workers.nn.checkpoints import read_about
from workers.specs import parse_spec
from workers.stats.ensembles import pair_votes, rank_sums, standardised, vote_share


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """Two trained models, the second also multiplied by 1000, and the rule that counts characters."""
    folder, checkpoints = tmp_path_factory.mktemp("members"), {}
    for number, backbone in enumerate(("tiny-encoder", "tiny-causal")):
        run = LocalRun(folder / backbone, make_pairs(40), {"backbone": backbone}, checkpoints=checkpoints)
        checkpoints[f"m{number}"] = checkpoints[run.train(max_steps=4 + number)["checkpoint"]]
    loud = folder / "loud"
    shutil.copytree(checkpoints["m1"].path, loud)
    tensors = load_file(loud / "weights.safetensors")
    changed = {n: t * 1000 if n.startswith("head.") else t for n, t in tensors.items()}
    save_file({n: t.contiguous() for n, t in changed.items()}, loud / "weights.safetensors")
    checkpoints["loud"] = CheckpointRef("loud", "scalar_head", {"backbone": "tiny-causal"}, loud)
    checkpoints["length"] = CheckpointRef("length", "length", {}, None)
    return folder, checkpoints


def ensemble(tmp_path, members, uids, combine="standardised_mean", pairs=None):
    run = LocalRun(tmp_path, pairs or make_pairs(40, seed=3), {"members": uids, "combine": combine}, "ensemble")
    run.checkpoints.update(members[1])
    return run


def items_of(run):
    return [(p.prompt, response) for p in run.pairs for response in (p.response_a, p.response_b)]


def rewards_of(run, result):
    found = run.checkpoints[result["checkpoint"]]
    family = FAMILIES.get("ensemble")
    return family.open(family.Config(**found.config), found.path).score(items_of(run))


def measured(run, ctx=None):
    return run.run("train_rm", ctx)


@pytest.mark.parametrize("combine", ["standardised_mean", "vote"])
def test_a_member_a_thousand_times_louder_ranks_no_different(tmp_path, members, combine) -> None:
    found = []
    for name in ("m1", "loud"):
        run = ensemble(tmp_path / name, members, ["m0", name], combine)
        found.append(rewards_of(run, measured(run)).values)
    assert (np.argsort(found[0], kind="stable") == np.argsort(found[1], kind="stable")).all()
    assert found[0] == pytest.approx(found[1], abs=1e-4)


def test_as_they_are_the_loud_member_decides(tmp_path, members) -> None:
    run = ensemble(tmp_path, members, ["m0", "loud"], "mean")
    scores = rewards_of(run, measured(run))
    loud = [part["members"]["2 scalar_head"] for part in scores.parts]
    assert np.corrcoef(scores.values, loud)[0, 1] > 0.999


def test_the_checkpoint_stands_on_its_own(tmp_path, members) -> None:
    run = ensemble(tmp_path, members, ["m0", "m1", "length"])
    ctx = run.context()
    result = measured(run, ctx)
    assert ctx.fraction_done == 1.0
    assert result["probe_difference"] < 1e-4
    assert [row["name"] for row in result["members"]][:3] == ["1 scalar_head", "2 scalar_head", "3 length"]
    assert {row["name"] for row in result["members"][3:]} == {"ensemble", "majority of members, pair by pair"}
    path = run.checkpoints[result["checkpoint"]].path
    assert {p.name for p in path.iterdir()} == {"member-0", "member-1", "reward_model.json"}
    for uid in ("m0", "m1"):
        run.checkpoints.pop(uid)
    scores = rewards_of(run, result)
    alone = [FAMILIES.get(m["family"]) for m in read_about(path)["members"]]
    own = [
        family.open(
            parse_spec(family.Config, told["config"]), path / f"member-{i}" if told["has_files"] else None
        ).score(items_of(run)).values
        for i, (family, told) in enumerate(zip(alone, read_about(path)["members"], strict=True))
    ]  # fmt: skip
    known = np.unique([repr(item) for item in items_of(run)], return_index=True)[1]
    columns = np.stack(own, axis=1)
    expected = standardised(columns, columns[known].mean(axis=0), columns[known].std(axis=0))
    assert scores.values == pytest.approx(expected.mean(axis=1), abs=1e-4)
    assert scores.parts[3]["spread"] == pytest.approx(expected[3].std(), abs=1e-4)
    run.run("score", ctx, checkpoint=result["checkpoint"])
    assert len(ctx.scores[result["checkpoint"]]) == 80
    run.run("evaluate", ctx, checkpoint=result["checkpoint"])
    json.dumps(result)


def test_rewards_measured_before_a_kill_are_read_again(tmp_path, members) -> None:
    run = ensemble(tmp_path, members, ["m0", "m1"])
    measured(run, run.context("one"))
    again = run.context("one", attempt=2)
    kept = {p.name: p.stat().st_mtime_ns for p in again.work_dir.glob("rewards-*.npy")}
    measured(run, again)
    assert {p.name: p.stat().st_mtime_ns for p in again.work_dir.glob("rewards-*.npy")} == kept
    assert len(kept) == 2


def test_a_vote_by_hand() -> None:
    reference = [np.array([0.0, 1.0, 2.0, 3.0]), np.array([5.0, 5.0, 6.0, 7.0])]
    assert vote_share([[1.5, 5.0]], reference) == pytest.approx([(2 / 4 + 1 / 4) / 2])
    assert pair_votes([[1.0, 2.0, 3.0]], [[0.0, 2.0, 4.0]]) == pytest.approx([0.5])
    rewards = [[1, 10], [2, 30], [3, 20], [9, 9]]
    assert rank_sums(rewards, ["p", "p", "p", "q"]) == pytest.approx([0, 3, 3, 0])
    assert rank_sums(np.array(rewards) * [1, 1000], ["p", "p", "p", "q"]) == pytest.approx([0, 3, 3, 0])
    with pytest.raises(ValueError, match="do not vary"):
        standardised([[1.0]], [0.0], [0.0])


def test_what_cannot_be_combined(tmp_path, members) -> None:
    folder, checkpoints = members
    mute = folder / "mute"
    if not mute.exists():
        shutil.copytree(checkpoints["m0"].path, mute)
        tensors = load_file(mute / "weights.safetensors")
        zero = {n: torch.zeros_like(t) if n.startswith("head.") else t for n, t in tensors.items()}
        save_file(zero, mute / "weights.safetensors")
    run = ensemble(tmp_path / "mute", members, ["m0", "mute"])
    run.checkpoints["mute"] = CheckpointRef("mute", "scalar_head", {"backbone": "tiny-encoder"}, mute)
    with pytest.raises(JobError, match="2 scalar_head gives every response the same reward"):
        measured(run)
    run = ensemble(tmp_path / "none", members, ["m0", "m1"])
    run.pairs = []
    with pytest.raises(JobError, match="two responses or more"):
        measured(run)
    with pytest.raises(JobError, match="has not been measured"):
        FAMILIES.get("ensemble").open(FAMILIES.get("ensemble").Config(members=["a", "b"]), None)


@pytest.mark.parametrize(
    ("config", "says"), [({"members": ["a"]}, "at least 2"), ({"members": ["a", "a"]}, "named twice")]
)
def test_bad_settings(config, says) -> None:
    with pytest.raises(SpecError, match=says):
        parse_spec(FAMILIES.get("ensemble").Config, config)


@pytest.mark.parametrize(
    ("spec", "pointer"),
    [({"objective": "bradley_terry"}, "/objective"), ({"freeze_backbone": True}, "/freeze_backbone")],
)
def test_it_is_measured_not_trained(tmp_path, members, spec, pointer) -> None:
    run = ensemble(tmp_path, members, ["m0", "m1"])
    with pytest.raises(SpecError, match="measured, not trained") as caught:
        run.run("train_rm", **spec)
    assert [e["pointer"] for e in caught.value.errors] == [pointer]
    with pytest.raises(SpecError, match="compare its members"):
        run.run("train_study", None, reward_model="model", arms=[{"name": "a"}, {"name": "b"}])
