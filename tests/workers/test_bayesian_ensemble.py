"""Gaussian heads: limits of the mix, spread that means something, and what it saves a policy from."""

import json

import numpy as np
import pytest
import torch

from tests.workers.making import LocalRun, make_pairs
from tests.workers.robust_world import (
    WIDTH,
    best_of_n_curves,
    mixed,
    nominal_accuracy,
    of_regions,
    pushed_hard,
    stage_two,
)
from workers.errors import JobError, SpecError
from workers.families import FAMILIES
from workers.nn.gaussian_heads import LEAST_SIGMA, MOST_SIGMA, GaussianHeads, subsets
from workers.specs import parse_spec
from workers.stats.auroc import auroc
from workers.stats.bootstrap import bootstrap_interval
from workers.stats.over_optimisation import best_of_n, tilted_policy
from workers.stats.robust_mix import mean_correlation, means_apart, robust_mix


def draws(k=5, n=1000, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, k)), np.exp(rng.normal(size=(n, k)))


def test_limits_of_the_mix() -> None:
    mu, sigma = draws()
    assert (mixed(mu, sigma, 1.0).mixed == mu[np.arange(len(mu)), sigma.argmin(axis=1)]).all()
    assert (mixed(mu, sigma, 0.0).mixed == mu.min(axis=1)).all()
    single = [mixed(mu[:, :1], sigma[:, :1], w).mixed for w in (0.0, 0.4, 1.0)]
    assert all(one == pytest.approx(mu[:, 0]) for one in single)
    steps = np.stack([mixed(mu, sigma, w).mixed for w in np.linspace(0, 1, 11)])
    assert (np.diff(steps, axis=0) >= -1e-12).all()


def test_the_mean_of_minima_is_below_the_least_mean() -> None:
    for seed in range(50):
        mu, sigma = draws(n=64, seed=seed)
        each, whole = (mixed(mu, sigma, 0.0, min_mode=mode).mixed for mode in ("per_sample", "per_batch"))
        assert each.mean() <= whole.mean() == pytest.approx(mu.mean(axis=0).min())


@pytest.mark.parametrize(
    ("mu", "sigma", "w", "says"),
    [
        (np.zeros((2, 3)), np.zeros((2, 3)), (0.5, 0.5), "above 0"),
        (np.zeros((2, 3)), np.ones((2, 2)), (0.5, 0.5), "one shape"),
        (np.zeros((2, 3)), np.ones((2, 3)), (0.5, 0.6), "add up to 1"),
        (np.zeros((2, 3)), np.ones((2, 3)), (-0.5, 1.5), "0 or more"),
    ],
)
def test_bad_mixes(mu, sigma, w, says) -> None:
    with pytest.raises(ValueError, match=says):
        robust_mix(mu, sigma, w_nominal=w[0], w_min=w[1])


def test_the_head_mixes_as_the_statistic_does() -> None:
    torch.manual_seed(0)
    head = GaussianHeads(6, n_heads=4, w_nominal=0.3, w_min=0.7)
    torch.nn.init.normal_(head.mu.weight)
    torch.nn.init.normal_(head.s.weight, std=30)
    with torch.no_grad():
        outputs = head(torch.randn(200, 6))
    mu, sigma = head.split(outputs)
    assert float(sigma.min()) == pytest.approx(LEAST_SIGMA)
    assert float(sigma.max()) == MOST_SIGMA
    assert head.parts(outputs) is None, "nothing is told before the heads are on one scale"
    head.calibrate(mu.detach().double().numpy())
    scaled = [part.detach().double().numpy() for part in head.comparable(outputs)]
    expected = robust_mix(*scaled, w_nominal=0.3, w_min=0.7)
    assert head.reward(outputs).detach().numpy() == pytest.approx(expected.mixed, abs=1e-5)
    part = head.parts(outputs)[7]
    assert set(part) == {"mu", "sigma", "nominal", "minimum", "k_star", "mixed"}
    assert part["k_star"] == expected.k_star[7]
    assert part["mu"][part["k_star"]] == part["nominal"]
    json.dumps(part)


def test_heads_that_are_not_comparable_are_not_mixed() -> None:
    head = GaussianHeads(3, n_heads=2, w_nominal=0.4, w_min=0.6, standardise=False)
    outputs = head(torch.randn(10, 3))
    head.calibrate(np.random.default_rng(0).normal(size=(500, 2)) + np.array([0.0, 0.3]))
    head.reward(outputs)
    head.calibrate(np.random.default_rng(0).normal(size=(500, 2)) + np.array([0.0, 3.0]))
    with pytest.raises(JobError, match="heads not comparable: run calibrate first"):
        head.reward(outputs)
    assert means_apart([0.0, 1.0], [2.0, 2.0]) == pytest.approx(0.5)
    assert means_apart([0.0, 1.0], [0.0, 0.0]) == np.inf


def test_every_head_sees_its_own_prompts() -> None:
    keys = [f"p{i // 2}" for i in range(200)]
    rows = np.arange(160)
    counts = subsets(keys, rows, n_heads=3, share=0.8, rng=np.random.default_rng(0))
    assert (counts[160:] == 1).all()
    assert (counts[:160].sum(axis=0) == 2 * 64).all()
    assert (counts[0:160:2] == counts[1:160:2]).all(), "the pairs of a prompt stay together"
    assert (counts[:160, 0] != counts[:160, 1]).any()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return stage_two(tmp_path_factory.mktemp("nll"))


def test_the_heads_know_where_they_have_not_been(trained) -> None:
    for near, far in of_regions(trained):
        assert far.mean() >= 1.5 * near.mean()
        assert auroc(np.concatenate([near, far]), np.repeat([False, True], 1000)) >= 0.75


def test_squared_error_leaves_no_spread(tmp_path, trained) -> None:
    """The negative control: sigma falls to a hundredth, tells nothing of B, and the report says so."""
    world = stage_two(tmp_path, loss="mse")
    near, far = of_regions(world)[1]
    usual = of_regions(trained)[1][0].mean()
    assert near.mean() < 0.05 * usual
    assert far.mean() < 1.5 * near.mean()
    assert any("has collapsed" in line for line in world.report["warnings"])
    assert any("nearly the same" in line for line in world.report["warnings"])
    assert trained.report["warnings"] == []


def test_the_surest_head_is_as_accurate_as_stage_one(trained) -> None:
    found, before = nominal_accuracy(trained)
    assert abs(found - before) <= 0.02
    assert before > 0.78
    assert set(trained.report["held_out"]) == {"nominal", "minimum", "mixed", "stage1"}


def test_a_policy_that_is_pushed_hard_keeps_more_of_the_gold_reward() -> None:
    gains, is_lowest = pushed_hard(range(10))
    interval = bootstrap_interval(gains, lambda v: float(v.mean()), rng=np.random.default_rng(0))
    assert is_lowest
    assert np.mean(gains) >= 0.1
    assert interval.low > 0


def test_best_of_n_turns_over_sooner_on_the_nominal_reward() -> None:
    """Mean curves over 10 worlds, N = 1 to 256, in which one response in five is worse than the heads can know."""
    mean = best_of_n_curves(range(10))
    peak = {w: int(np.argmax(curve)) for w, curve in mean.items()}
    assert peak[1.0] < 8, "the nominal reward turns over"
    assert peak[1.0] <= peak[0.4]
    assert mean[0.4][-1] > mean[1.0][-1]


def test_the_tilted_policy_is_the_best_one() -> None:
    rng = np.random.default_rng(0)
    base, reward_ = rng.dirichlet(np.ones(6), size=1), rng.normal(size=(1, 6))

    def value(policy):
        return float((policy * reward_).sum() - 0.5 * (policy * np.log(policy / base)).sum())

    best = tilted_policy(base, reward_, 0.5)
    assert all(value(best) >= value(rng.dirichlet(np.ones(6), size=1)) for _ in range(500))
    draws_ = rng.integers(6, size=(40_000, 4))
    assert best_of_n(reward_, reward_, 4) == pytest.approx(reward_[0][draws_].max(axis=1).mean(), abs=0.02)


def test_correlation_of_heads() -> None:
    column = np.random.default_rng(0).normal(size=(50, 1))
    assert mean_correlation(np.hstack([column, 2 * column + 1])) == pytest.approx(1)
    assert np.isnan(mean_correlation(column))
    assert np.isnan(mean_correlation(np.hstack([column, np.ones((50, 1))])))


@pytest.fixture
def staged(tmp_path):
    """A stage-1 checkpoint, and a run of the second stage that can start from it."""
    first = LocalRun(tmp_path / "one", make_pairs(60))
    stage1 = first.train(epochs=3)["checkpoint"]
    model = {"backbone": "tiny-encoder", "n_heads": 3, "n_refits": 3}
    return LocalRun(tmp_path / "two", make_pairs(60), model, "bayesian_ensemble", first.checkpoints), stage1


@pytest.mark.parametrize("spec", [{}, {"freeze_backbone": False}, {"objective_config": {"stage2_loss": "mse"},
                                  "objective": "gaussian_margins"}], ids=["frozen", "whole", "mse"])  # fmt: skip
def test_both_stages_through_the_job(staged, spec) -> None:
    run, stage1 = staged
    ctx = run.context()
    result = run.train(ctx, start_from=stage1, epochs=6, **spec)
    assert result["probe_difference"] < 1e-4
    assert result["validation_best"]["accuracy"]["value"] >= 0.8
    assert result["finished"]["held_out"]["stage1"]["value"] >= 0.8
    assert (result["finished"]["w_nominal"], result["finished"]["w_min"]) == (0.4, 0.6)
    assert any("its margins are what stage 2 learns" in line for _, line in ctx.logs)
    run.run("score", ctx, checkpoint=result["checkpoint"])
    part = next(iter(ctx.parts[result["checkpoint"]].values()))
    assert part["mixed"] == pytest.approx(0.4 * part["nominal"] + 0.6 * part["minimum"], abs=1e-5)
    assert len(part["mu"]) == 3
    json.dumps(result)


def test_what_stage_two_needs(staged) -> None:
    run, _ = staged
    with pytest.raises(JobError, match="this run starts from none") as caught:
        run.train(objective="gaussian_margins", objective_config={"stage2_loss": "mse"})
    assert "start_from" in caught.value.hint
    deep = LocalRun(run.folder / "deep", make_pairs(30), {"backbone": "tiny-encoder", "head_depth": 2})
    deep.checkpoints = run.checkpoints
    other = deep.train(max_steps=1)["checkpoint"]
    with pytest.raises(JobError, match="scalar head of one layer"):
        run.train(run.context("deep"), start_from=other)
    ctx = run.context("alone")
    assert run.train(ctx, epochs=2)["checkpoint"]
    assert any("No stage-1 checkpoint" in line for _, line in ctx.logs)


def test_weights_that_do_not_add_up_are_refused() -> None:
    config = FAMILIES.get("bayesian_ensemble").Config
    with pytest.raises(SpecError, match="add up to 1"):
        parse_spec(config, {"w_nominal": 0.4, "w_min": 0.4})
    assert GaussianHeads(WIDTH, n_heads=1, w_nominal=1, w_min=0).n_heads == 1
