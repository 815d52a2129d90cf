"""Sources weighed by their gradients on the reward head."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.workers.feature_training import FeatureNet, seeded, train_head
from tests.workers.making import LocalRun, make_pairs
from tests.workers.source_world import WIDTH, make_sources, objective_of
from tests.workers.test_training import make_trainer
from workers.errors import JobCancelled, JobError
from workers.nn.checkpoints import weights_differ
from workers.nn.heads import DeepHead, ScalarHead
from workers.nn.source_gradients import head_gradients, head_parameters, source_means
from workers.nn.view import BatchView
from workers.stats.min_norm import min_norm_weights, normalised

BUDGET = 1 << 20


def view_of(net, data, n=64, step=1):
    return BatchView(net, data, np.arange(n), budget=BUDGET, step=step)


def test_head_gradients_are_those_of_a_whole_backward_pass(tmp_path) -> None:
    """On a real encoder; nothing reaches the backbone."""
    made = make_trainer(tmp_path, 100_000)
    net, data = made.net, made.data
    data.sources = ["one", "two"] * (len(data) // 2)
    objective = objective_of("min_norm_bt")
    view = BatchView(net, data, np.arange(len(data)), budget=100_000, step=1)
    losses = objective.validation_loss(view)
    names, means, totals = source_means(losses, data.targets.weight, view.sources)
    found = head_gradients(means, head_parameters(net))
    assert all(p.grad is None for p in net.parameters())
    assert (names, totals.tolist()) == (["one", "two"], [8, 8])
    for name, vector in zip(names, found, strict=True):
        rows = np.flatnonzero(np.array(data.sources) == name)
        net.zero_grad()
        whole = BatchView(net, data, rows, budget=100_000, step=1)
        objective.validation_loss(whole).mean().backward()
        expected = torch.cat([p.grad.flatten() for p in net.head.parameters()]).double().numpy()
        assert np.abs(vector - expected).max() < 1e-6
        assert sum(float(p.grad.abs().sum()) for p in net.backbone.parameters() if p.grad is not None) > 0


def test_the_step_is_the_weighted_sum_and_no_gradient_flows_through_the_weights() -> None:
    data = make_sources(64, degrees=60)
    net = FeatureNet(seeded(3, lambda: DeepHead(WIDTH, depth=2)))
    objective = objective_of("min_norm_bt", alpha=1.0)
    loss = objective.batch_loss(view_of(net, data)).sum() / 64
    loss.backward()
    found = torch.cat([p.grad.flatten() for p in net.parameters()]).double().numpy()
    view = view_of(net, data)
    _, means, _ = source_means(objective.validation_loss(view), data.targets.weight[:64], view.sources)
    gradients = head_gradients(means, head_parameters(net))
    weights = min_norm_weights(normalised(gradients, np.ones(2), "l2")).weights
    assert found == pytest.approx(weights @ gradients, abs=1e-6)
    assert float(loss.detach()) == pytest.approx(float(weights @ [m.item() for m in means]), abs=1e-6)


def test_momentum_is_on_the_new_gradient() -> None:
    """With alpha 0.99 the weights follow a change at once; the other way round they would stay where they were."""
    objective = objective_of("min_norm_bt", normalise="none")
    for _ in range(5):
        objective._run_on("one", np.array([1.0, 0.0]))
    assert objective._run_on("one", np.array([0.0, 1.0])) == pytest.approx([0.01, 0.99], abs=1e-9)


def test_opposed_sources_conflict_and_say_so_instead_of_nan(tmp_path) -> None:
    data = make_sources(200, degrees=0, shares=(0.5, 0.5))
    first = np.flatnonzero(np.array(data.sources) == "source 0")[:60]
    a, b = (f.response[first] for f in data.features)
    opposed = replace(
        data.kept(np.concatenate([first, first]), Counter()),
        sources=["for"] * 60 + ["against"] * 60,
    )
    opposed.features = [replace(f, response=np.concatenate([x, x])) for f, x in zip(data.features, (a, b), strict=True)]
    opposed.targets.target[60:] = 1 - opposed.targets.target[:60]
    objective = objective_of("min_norm_bt", sampling="as_is")
    objective.choose(opposed)
    head = ScalarHead(WIDTH)
    torch.nn.init.zeros_(head.weight)
    net = train_head(tmp_path, head, objective, opposed, np.arange(120), n_steps=3, batch=120, weight_decay=0.0)
    assert all(torch.isfinite(p).all() for p in net.parameters())
    told = objective.finish(net, opposed, np.arange(120), budget=BUDGET)
    assert any("sources in full conflict" in line for line in told["warnings"])
    assert told["n_conflict"] >= 1


def test_a_source_that_takes_nearly_all_weight_is_warned_of(tmp_path) -> None:
    """Without a scale the shortest gradient wins: a source that is nearly learnt holds the weight."""
    data = make_sources(2000, degrees=20, shares=(0.5, 0.5))
    easy = np.array([s == "source 0" for s in data.sources])
    for features in data.features:
        features.response[easy] *= 0.05
    objective = objective_of("min_norm_bt", normalise="none")
    objective.choose(data)
    net = train_head(tmp_path, ScalarHead(WIDTH), objective, data, np.arange(2000), n_steps=70, batch=64)
    warnings = objective.finish(net, data, np.arange(2000), budget=BUDGET)["warnings"]
    assert any("source 0 held more than 0.8" in line for line in warnings)


def test_batches_have_equally_many_of_every_source() -> None:
    data = make_sources(1000, degrees=60, shares=(0.85, 0.1, 0.05))
    rows = np.arange(900)
    objective = objective_of("min_norm_bt")
    order = objective.order(0, data, rows, np.zeros(1000, np.float32), seed=1)
    assert len(order) == 900
    assert set(order) <= set(rows)
    for start in range(0, 900, 30):
        names, counts = np.unique([data.sources[i] for i in order[start : start + 30]], return_counts=True)
        assert counts.tolist() == [10, 10, 10], names
    largest = [i for i in order if data.sources[i] == "source 0"]
    assert len(set(largest)) == len(largest), "nothing is repeated while there is something new"
    assert (objective.order(1, data, rows, np.zeros(1000, np.float32), seed=1) != order).any()
    as_is = objective_of("min_norm_bt", sampling="as_is").order(0, data, rows, np.zeros(1000, np.float32), seed=1)
    assert sorted(as_is) == rows.tolist()


def test_a_source_without_a_pair_in_the_batch_is_left_out() -> None:
    data = make_sources(64, degrees=60)
    data.sources = ["here"] * 64
    objective = objective_of("min_norm_bt")
    objective.watch.names = ("away", "here")
    net = FeatureNet(ScalarHead(WIDTH))
    objective.batch_loss(view_of(net, data, step=1))
    assert objective._told == {"lambda_away": 0.0, "lambda_here": 1.0, "full_conflict": 0.0}
    assert "away had no pair in 1 of 1 steps" in objective.finish(net, data, np.arange(64), budget=1)["warnings"][-1]


def sourced(n=48):
    return [replace(p, meta={"of": f"part {i % 2}"}) for i, p in enumerate(make_pairs(n))]


@pytest.mark.parametrize("backbone", ["tiny-encoder", "tiny-causal"])
def test_a_run_through_the_job(tmp_path, backbone) -> None:
    local = LocalRun(tmp_path, sourced(), {"backbone": backbone})
    ctx = local.context()
    result = local.train(ctx, objective="min_norm_bt", source_key="of", epochs=4, token_budget=4096)
    assert result["validation_best"]["accuracy"]["value"] >= 0.9
    assert set(result["finished"]["mean_weights"]) == {"part 0", "part 1"}
    points = [m for m in ctx.metrics if "lambda_part 0" in m]
    assert len(points) == result["n_steps"]
    assert all(m["lambda_part 0"] + m["lambda_part 1"] == pytest.approx(1) for m in points)
    assert set(result["validation_best"]["by_source"]) == {"part 0", "part 1"}
    assert 0 <= result["validation_best"]["by_source"]["part 0"]["ece"] <= 1
    json.dumps(result)


def test_a_killed_run_remembers_its_gradients(tmp_path) -> None:
    local = LocalRun(tmp_path, sourced())
    spec = {"objective": "min_norm_bt", "source_key": "of", "epochs": 2, "checkpoint_every": 2,
            "objective_config": {"alpha": 0.5}}  # fmt: skip
    whole = local.train(local.context("whole"), **spec)
    killed = local.context("killed", is_cancelled=lambda: len(killed.metrics) > 4)
    with pytest.raises(JobCancelled):
        local.train(killed, **spec)
    again = local.context("killed", attempt=2)
    resumed = local.train(again, **spec)
    assert any("Going on after step" in line for _, line in again.logs)
    paths = [local.checkpoints[r["checkpoint"]].path / "weights.safetensors" for r in (whole, resumed)]
    assert not weights_differ(*paths)
    assert whole["finished"] == resumed["finished"]


def test_one_source_is_refused(tmp_path) -> None:
    local = LocalRun(tmp_path, make_pairs(12))
    with pytest.raises(JobError, match="needs 2 to 64 of them; the pairs have 1") as caught:
        local.train(objective="min_norm_bt")
    assert "source_key" in caught.value.hint


def test_the_study_compares_by_source_under_paired_seeds(tmp_path) -> None:
    """Five seeds, three arms: mixing, equal weights on balanced batches, and weights by agreement."""
    run = LocalRun(tmp_path, sourced(60))
    arms = [
        {"name": "mixed", "settings": {"objective": "bradley_terry"}},
        {"name": "equal", "settings": {"objective": "min_norm_bt", "objective_config": {"weighting": "equal"}}},
        {"name": "min-norm", "settings": {"objective": "min_norm_bt"}},
    ]
    settings = {"learning_rate": 2e-3, "epochs": 1, "batch_pairs": 8, "validation_share": 0.3, "token_budget": 4096,
                "source_key": "of", "freeze_backbone": True}  # fmt: skip
    found = run.run("train_study", None, reward_model="model", arms=arms, settings=settings, n_seeds=5)
    assert len(found["runs"]) == 15
    for source in ("part 0", "part 1"):
        for figure in ("accuracy", "ece"):
            told = found["by_source"][source][figure]
            assert set(told["means"]) == {"mixed", "equal", "min-norm"}
            assert told["differences"]["min-norm"]["n"] == 5
            assert told["differences"]["min-norm"]["answer"] in ("better", "worse", "no difference shown")
    json.dumps(found)
