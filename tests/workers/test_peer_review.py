"""Peer review: what each member learns from, in which order, and what that is worth when labels are wrong."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.workers.making import LocalRun, make_pairs
from tests.workers.noisy_world import WIDTH, clean_accuracy, make_world, rewards, train
from workers.errors import JobCancelled, JobError, SpecError
from workers.nn.heads import DeepHead
from workers.nn.peer_review import choose_top, jaccard
from workers.nn.twin import TwinHead
from workers.objectives import OBJECTIVES
from workers.specs import parse_spec


def peer(**config: Any) -> Any:
    entry: Any = OBJECTIVES.get("peer_review")
    return entry(parse_spec(entry.Config, {"centre_coefficient": 0.0, **config}))


def plain() -> Any:
    entry: Any = OBJECTIVES.get("bradley_terry")
    return entry(entry.Config(centre_coefficient=0.0))


def twins(output: Any = "a") -> TwinHead:
    return TwinHead(WIDTH, output=output, depth=2, activation="relu", hidden=128)


def test_the_lowest_margins_of_every_source_are_dropped() -> None:
    margins = np.array([5.0, 4.0, -1.0, 3.0, 0.1, 0.2, 0.3, 0.4])
    sources = ["easy"] * 4 + ["hard"] * 4
    kept = choose_top(margins, sources, drop=0.25, rng=np.random.default_rng(0))
    assert kept.tolist() == [True, True, False, True, False, True, True, True]
    whole = choose_top(margins, [""] * 8, drop=0.25, rng=np.random.default_rng(0))
    assert whole.tolist() == [True, True, False, True, False, True, True, True]
    assert choose_top(margins, sources, drop=0.0, rng=np.random.default_rng(0)).all()


def test_small_sources_are_dropped_from_at_the_right_rate() -> None:
    rng = np.random.default_rng(0)
    n = [choose_top(np.arange(3.0), [""] * 3, drop=0.4, rng=rng).sum() for _ in range(2000)]
    assert np.mean(n) == pytest.approx(3 - 1.2, abs=0.03)
    assert choose_top(np.array([-1.0]), ["alone"], drop=0.49, rng=rng).all()


def test_the_ramp() -> None:
    found = peer(noise_rate=0.4)
    assert [found.drop_share(epoch, 1) for epoch in range(5)] == pytest.approx([0, 0.4 / 3, 0.8 / 3, 0.4, 0.4])
    one_epoch = peer(noise_rate=0.4, ramp_steps=30)
    assert [one_epoch.drop_share(0, step) for step in (1, 16, 31, 90)] == pytest.approx([0, 0.2, 0.4, 0.4])


@pytest.mark.parametrize(("rate", "said"), [(0.5, "flip the dataset first"), (0.7, "flip"), (-0.1, "not below 0")])
def test_a_noise_rate_that_cannot_be(rate: float, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        peer(noise_rate=rate)
    assert said in caught.value.errors[0]["detail"]


def test_easy_pairs_come_first_and_doubtful_ones_are_dealt_out() -> None:
    world = make_world(0, noise=0.2, n=400, n_test=10)
    margins = np.random.default_rng(1).normal(size=400).astype(np.float32)
    objective = peer(noise_rate=0.2, buckets=4)
    assert sorted(objective.order(2, world.data, world.rows, margins, seed=0)) == list(range(400))
    order = objective.order(2, world.data, world.rows, margins, seed=0)
    signed = np.sign(world.data.targets.target - 0.5) * margins
    doubtful = np.zeros(400, dtype=bool)
    doubtful[np.argsort(signed)[:80]] = True
    assert [doubtful[part].sum() for part in np.array_split(order, 4)] == [20, 20, 20, 20]
    easy = signed[order[~doubtful[order]]]
    assert (np.diff([part.mean() for part in np.array_split(easy, 4)]) < 0).all()
    assert np.array_equal(order, objective.order(2, world.data, world.rows, margins, seed=0))
    first = objective.order(0, world.data, world.rows, margins, seed=0)
    assert np.array_equal(first, plain().order(0, world.data, world.rows, margins, seed=0))


def test_without_a_noise_rate_each_member_is_trained_plainly(tmp_path: Path) -> None:
    """Check 3: eta = 0 reproduces plain training of each member on full batches, bit for bit."""
    world = make_world(0, noise=0.4, n=300, n_test=100)
    both = train(tmp_path / "twins", twins, peer(noise_rate=0.0), world, epochs=3, max_grad_norm=1e9)
    for number in range(2):

        def member(number: int = number) -> DeepHead:
            found = twins().members[number]
            assert isinstance(found, DeepHead)
            return found

        alone = train(tmp_path / f"alone {number}", member, plain(), world, epochs=3, max_grad_norm=1e9)
        own = both.head.members[number].state_dict()  # type: ignore[union-attr,operator]
        for name, tensor in alone.head.state_dict().items():
            assert torch.equal(tensor, own[name]), name


def test_members_choose_differently_from_the_first_step(tmp_path: Path) -> None:
    world = make_world(0, noise=0.4, n=600, n_test=10)
    net = train(tmp_path, twins, peer(noise_rate=0.4, ramp_steps=1), world, epochs=0.2)
    features = [torch.from_numpy(part.response) for part in world.data.features or ()]
    with torch.inference_mode():
        margins = (net.head(features[0]) - net.head(features[1])).numpy()
    margins = np.sign(world.data.targets.target - 0.5)[:, None] * margins
    rng = np.random.default_rng(0)
    a, b = (choose_top(margins[:, m], world.data.sources, drop=0.4, rng=rng) for m in range(2))
    assert jaccard(a, b) < 1


def test_twins_of_one_weight_are_refused(tmp_path: Path) -> None:
    def same() -> TwinHead:
        head = twins()
        head.members[1].load_state_dict(head.members[0].state_dict())
        return head

    with pytest.raises(JobError, match="choose alike for ever"):
        train(tmp_path, same, peer(), make_world(0, noise=0.2, n=60, n_test=10), epochs=1)


def clean_share(net: Any, world: Any, noise: float) -> float:
    """Share of right labels among the pairs that a member would hand on."""
    x = [part.response for part in world.data.features]
    margins = np.sign(world.data.targets.target - 0.5)[:, None] * (rewards(net, x[0]) - rewards(net, x[1]))
    shares = []
    for m in range(2):
        kept = np.argsort(-margins[:, m])[: round((1 - noise) * len(margins))]
        shares.append(1 - world.is_flipped[kept].mean())
    return float(np.mean(shares))


def test_peer_review_beats_plain_training_where_four_in_ten_labels_are_wrong(tmp_path: Path) -> None:
    """Checks 1, 2 and 6, one seed; bench/real/peer_review.py has four, and the ablations."""
    world = make_world(0, noise=0.4, gap=0.3)
    usual = {"rate": 0.003, "weight_decay": 0.0, "batch": 64, "max_grad_norm": 1e9}
    pair = train(tmp_path / "plain", twins, peer(noise_rate=0.0), world, **usual)
    crm = train(tmp_path / "crm", twins, peer(noise_rate=0.4), world, **usual)
    alone, reviewed = clean_accuracy(pair, world), clean_accuracy(crm, world)
    x = np.concatenate([world.test_a, world.test_b])
    found = rewards(pair, x)
    mean = (found / found.std(axis=0)).mean(axis=1)
    n = len(world.test_a)
    averaged = float((mean[:n] > mean[n:]).mean())
    assert reviewed[0] >= alone[0] + 0.05
    assert reviewed[0] >= averaged + 0.03
    assert clean_share(crm, world, 0.4) >= 0.78
    x_a, x_b = (part.response for part in world.data.features or ())
    margins = np.sign(world.data.targets.target - 0.5) * (rewards(crm, x_a) - rewards(crm, x_b)).mean(axis=1)
    suspects = np.argsort(margins)[: len(margins) // 10]
    assert world.is_flipped[suspects].mean() >= 2 * 0.4


def test_the_three_outputs() -> None:
    head, outputs = twins("mean").eval(), torch.tensor([[1.0, 10.0], [3.0, 30.0]])
    head.standardise_by(outputs)
    assert head.reward(outputs).tolist() == pytest.approx([-1.0, 1.0])
    assert twins("a").eval().reward(outputs).tolist() == [1.0, 3.0]
    assert twins("b").eval().reward(outputs).tolist() == [10.0, 30.0]
    assert twins("b").train().reward(outputs).tolist() == [5.5, 16.5]
    assert head.parts(outputs) == [{"members": {"a": 1.0, "b": 10.0}}, {"members": {"a": 3.0, "b": 30.0}}]


@pytest.mark.parametrize("output", ["a", "mean"])
@pytest.mark.parametrize("frozen", [True, False])
def test_end_to_end(tmp_path: Path, output: str, frozen: bool) -> None:
    pairs = make_pairs(60, tie_every=20)
    local = LocalRun(tmp_path, pairs, model={"backbone": "tiny-encoder", "output": output}, family="twin_head")
    ctx = local.context()
    result = local.train(ctx, freeze_backbone=frozen, objective_config={"noise_rate": 0.2}, epochs=4)
    assert result["objective"] == "peer_review"
    assert result["left_out"] == {"tie": 3}
    assert result["probe_difference"] < 1e-4
    told = result["finished"]
    assert told["noise_rate"] == {"value": 0.2, "source": "given"}
    assert told["shares_trained_backbone"] is not frozen
    assert any("departs from the method" in line for _, line in ctx.logs) is not frozen
    assert set(result["validation_best"]["outputs"]) == {"a", "b", "mean"}
    assert len(told["suspects"]) == result["n_train"] // 10
    assert min(row["kept_share"] for row in ctx.metrics if "kept_share" in row) < 0.95
    scored = local.run("score", checkpoint=result["checkpoint"])
    assert scored["n_scored"] == 120


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    local = LocalRun(tmp_path, make_pairs(48), model={"backbone": "tiny-encoder"}, family="twin_head")
    spec = {"epochs": 4, "checkpoint_every": 3, "objective_config": {"noise_rate": 0.3, "ramp_epochs": 1}}
    whole = local.train(local.context("whole"), **spec)
    killed = local.context("killed")
    killed.is_cancelled = lambda: len(killed.metrics) >= 12
    with pytest.raises(JobCancelled):
        local.train(killed, **spec)
    resumed = local.context("killed", attempt=2)
    again = local.train(resumed, **spec)
    assert any("Going on after step" in line for _, line in resumed.logs)
    assert again["validation_final"] == whole["validation_final"]
    assert again["finished"]["suspects"] == whole["finished"]["suspects"]


def test_a_single_head_cannot_be_reviewed(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        LocalRun(tmp_path, make_pairs(20)).train(objective="peer_review")
    assert "two heads" in caught.value.errors[0]["detail"]
