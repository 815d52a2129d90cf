"""Losses that use how strongly a response was preferred, votes on strength, and weights beyond the last stage."""

import numpy as np
import pytest
import torch

from tests.workers.making import LocalRun, make_pairs, turn
from workers.data.schema import PreferencePair
from workers.errors import JobError
from workers.jobs import JOBS
from workers.nn.checkpoints import WEIGHTS, weights_differ
from workers.objectives import OBJECTIVES
from workers.specs import parse_spec
from workers.stats.preference_votes import strength_of_votes

THREE = {"regular": "bradley_terry", "margin": "margin_bt", "scaled": "scaled_bt"}


def objective(name: str, **config):
    entry = OBJECTIVES.get(THREE.get(name, name))
    if entry.name == "bradley_terry":
        config.setdefault("centre_coefficient", 0.0)
    return entry(entry.Config(**config))


def pair(strength: int | None, verdict: str = "a", **more) -> PreferencePair:
    said = [turn("assistant", "x")], [turn("assistant", "y")]
    return PreferencePair("p", [turn("user", "q")], *said, verdict, preference_strength=strength, **more)


def loss_and_gradient(name: str, pairs: list[PreferencePair], margins: list[float], **config):
    made = objective(name, **config)
    rewards = torch.tensor(margins, requires_grad=True)
    loss = made.loss(rewards, torch.zeros(len(margins)), made.targets(pairs))
    loss.sum().backward()
    return loss.sum().item(), rewards.grad


@pytest.mark.parametrize(
    ("name", "loss", "gradient"),
    [("regular", 0.313262, -0.268941), ("margin", 1.313262, -0.731059), ("scaled", 0.626523, -0.537883)],
)
def test_values_at_margin_1_and_strength_2(name, loss, gradient) -> None:
    found, slope = loss_and_gradient(name, [pair(2)], [1.0])
    assert found == pytest.approx(loss, abs=1e-6)
    assert slope.item() == pytest.approx(gradient, abs=1e-6)


@pytest.mark.parametrize("name", THREE)
def test_a_preference_for_b_mirrors_one_for_a(name) -> None:
    a = loss_and_gradient(name, [pair(3)], [0.7])
    b = loss_and_gradient(name, [pair(3, "b")], [-0.7])
    assert a[0] == pytest.approx(b[0], abs=1e-6)
    assert a[1].item() == pytest.approx(-b[1].item(), abs=1e-6)


def test_scaled_counts_a_pair_as_often_as_its_strength() -> None:
    margins = [0.3, -1.1, 2.0]
    _, scaled = loss_and_gradient("scaled", [pair(1), pair(2), pair(3)], margins)
    copies = [0, 1, 1, 2, 2, 2]
    _, each = loss_and_gradient("regular", [pair(None)] * 6, [margins[i] for i in copies])
    summed = torch.zeros(3).index_add_(0, torch.tensor(copies), each)
    assert torch.allclose(scaled, summed, atol=1e-6)


def test_what_a_batch_is_divided_by_is_a_setting() -> None:
    by_pairs, by_strength = (
        objective("scaled", normalise=how).targets([pair(3), pair(1)]) for how in ("pairs", "strength")
    )
    assert by_pairs.weight.sum() == 2
    assert by_strength.weight.sum() == 4
    assert (by_pairs.weight * by_pairs.strength).tolist() == (by_strength.weight * by_strength.strength).tolist()


@pytest.mark.parametrize("name", ["margin", "scaled"])
def test_ties_and_unknown_strengths(name) -> None:
    rows = [pair(2, "tie"), pair(2, "both_bad"), pair(None), pair(1)]
    assert objective(name).targets(rows).is_used.tolist() == [False, False, True, True]
    strict = objective(name, unknown_strength="drop")
    assert strict.targets(rows).is_used.tolist() == [False, False, False, True]
    assert [strict.refusal(row) for row in rows[:3]] == ["tie", "both_bad", "no preference strength"]


def test_the_sign_of_a_strength() -> None:
    """HelpSteer2-Preference: -3 says that response 1, our response_a, is much better."""
    assert [pair(3, "a").signed_strength, pair(3, "b").signed_strength, pair(2, "tie").signed_strength] == [-3, 3, 0]


@pytest.mark.parametrize(
    ("votes", "strength", "kept", "reason"),
    [
        ([2, 2, -1, 3, 0], 2, (2, 2, 3), ""),
        ([-3, 0, 3], None, (-3, 0, 3), "votes too far apart"),
        ([-100, 1, 2], None, (1, 2), "not enough votes"),
        ([-100, 1, 2, 3], 2, (1, 2, 3), ""),
        ([-2, -2, -3], -2, (-2, -2, -3), ""),
        ([0, 0, 1], 0, (0, 0, 1), ""),
    ],
)
def test_votes_on_strength(votes, strength, kept, reason) -> None:
    found = strength_of_votes(votes)
    assert (found.strength, sorted(found.kept), found.reason) == (strength, sorted(kept), reason)


def test_exchanging_the_responses_changes_the_sign_of_the_label_alone() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        votes = rng.integers(-3, 4, size=int(rng.integers(3, 6))).tolist()
        found, turned = strength_of_votes(votes), strength_of_votes([-vote for vote in votes])
        if found.strength is None:
            assert turned.reason == found.reason
        elif len(votes) == 3:
            assert turned.strength == -found.strength


def test_a_vote_off_the_scale_is_an_error() -> None:
    with pytest.raises(ValueError, match="from -3 to 3"):
        strength_of_votes([4, 1, 1])


def learn(name: str, pairs: list[PreferencePair], x_a: torch.Tensor, x_b: torch.Tensor, seed: int) -> torch.nn.Module:
    """A small network trained for three epochs with the objective."""
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(x_a.shape[1], 64), torch.nn.Tanh(), torch.nn.Linear(64, 1))
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.01)
    made, rng = objective(name), np.random.default_rng(seed)
    targets = made.targets(pairs)
    for _ in range(3):
        for rows in np.array_split(rng.permutation(len(pairs)), 24):
            optimizer.zero_grad()
            made.loss(net(x_a[rows])[:, 0], net(x_b[rows])[:, 0], targets.rows(rows)).mean().backward()
            optimizer.step()
    return net


def test_strength_where_labels_are_noisier_at_small_margins() -> None:
    """Clean accuracy, mean of 6 seeds, under a teacher that is no linear function (docs/methods/scaled_bt.md)."""
    found: dict[str, list[float]] = {name: [] for name in THREE}
    for seed in range(6):
        rng = np.random.default_rng(seed)
        x_a, x_b, clean_a, clean_b = (rng.normal(size=(n, 20)) for n in (1500, 1500, 3000, 3000))
        inner, outer = rng.normal(size=(20, 8)) / np.sqrt(20), rng.normal(size=8)
        teacher = [np.tanh(2 * x @ inner) @ outer / 1.5 for x in (x_a, x_b, clean_a, clean_b)]
        margin, clean = teacher[0] - teacher[1], teacher[2] - teacher[3]
        wrong = rng.random(1500) < 0.5 * np.exp(-1.5 * np.abs(margin))
        strength = 1 + np.digitize(np.abs(margin), np.quantile(np.abs(margin), [0.4, 0.75]))
        is_a = (margin > 0) != wrong
        pairs = [pair(int(s), "a" if a else "b") for s, a in zip(strength, is_a, strict=True)]
        tensors = [torch.tensor(x, dtype=torch.float32) for x in (x_a, x_b, clean_a, clean_b)]
        for name in THREE:
            net = learn(name, pairs, *tensors[:2], seed)
            with torch.no_grad():
                said = (net(tensors[2]) - net(tensors[3]))[:, 0].numpy()
            found[name].append(float(np.mean((said > 0) == (clean > 0))))
    mean = {name: float(np.mean(values)) for name, values in found.items()}
    assert mean["scaled"] >= mean["regular"] - 0.002, mean
    assert mean["regular"] >= mean["margin"] - 0.005, mean
    assert min(mean.values()) > 0.8


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """Two stages of one training, the second from the weights of the first."""
    run = LocalRun(tmp_path_factory.mktemp("stages"), make_pairs(48))
    first_ctx = run.context("first")
    first = run.train(first_ctx, max_steps=3)["checkpoint"]
    second_ctx = run.context("second")
    second = run.train(second_ctx, max_steps=3, start_from=first, objective="scaled_bt")["checkpoint"]
    return run, second_ctx, first, second


def test_the_second_stage_starts_from_the_first(stages) -> None:
    run, ctx, first, _ = stages
    assert any("backbone and head" in line for _, line in ctx.logs)
    still = run.context("still")
    same = run.train(still, max_steps=1, start_from=first, learning_rate=1e-30, head_learning_rate=1e-30)["checkpoint"]
    assert not weights_differ(*(run.checkpoints[uid].path / WEIGHTS for uid in (first, same)))


@pytest.mark.parametrize(("factor", "same_as"), [(0.0, 1), (-1.0, 0), (0.5, None)])
def test_extrapolation(stages, factor, same_as) -> None:
    run, _, *uids = stages
    ctx = run.context(f"expo {factor}")
    job = JOBS.get("extrapolate")
    spec = parse_spec(job.Spec, {"reward_model": "model", "earlier": uids[0], "later": uids[1], "factor": factor})
    made = run.checkpoints[job().run(ctx, spec)["checkpoint"]].path / WEIGHTS
    for place, uid in enumerate(uids):
        assert weights_differ(made, run.checkpoints[uid].path / WEIGHTS) == (place != same_as)


def test_other_backbones_cannot_be_extrapolated(stages) -> None:
    run, _, first, _ = stages
    other = LocalRun(run.folder / "other", run.pairs, model={"backbone": "tiny-causal"}, checkpoints=run.checkpoints)
    ctx = other.context("causal")
    causal = other.train(ctx, max_steps=1)["checkpoint"]
    job = JOBS.get("extrapolate")
    with pytest.raises(JobError, match="do not have the same weights"):
        job().run(ctx, parse_spec(job.Spec, {"reward_model": "model", "earlier": first, "later": causal}))
