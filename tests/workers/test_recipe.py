"""The recipe of a scalar reward model: heads, penalties, ensembles of the whole, and the grid that compares them."""

import json
import math

import numpy as np
import pytest
import torch

from tests.workers.feature_training import pair_data, seeded, train_head
from tests.workers.making import LocalRun, make_pairs
from tests.workers.source_world import make_sources, objective_of
from workers.errors import JobCancelled
from workers.nn.heads import DeepHead, ScalarHead
from workers.objectives.base import pair_targets
from workers.stats.sample_accuracy import sample_accuracy

N_TRAIN, N_TEST, WIDTH = 6000, 2000, 6


def product_world():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, N_TRAIN + N_TEST, WIDTH))
    return pair_data(a, b, a[:, 0] * a[:, 1] > b[:, 0] * b[:, 1])


def test_what_a_head_can_express(tmp_path) -> None:
    """Preference by the product of two features: nothing for a line, enough for two layers, no more for four."""
    data, found = product_world(), {}
    train, test = np.arange(N_TRAIN), np.arange(N_TRAIN, N_TRAIN + N_TEST)
    for depth in (1, 2, 4):
        head = seeded(0, lambda: DeepHead(WIDTH, depth=depth, activation="silu", hidden=32))  # noqa: B023
        net = train_head(tmp_path / str(depth), head, objective_of("bradley_terry"), data, train, n_steps=800)
        with torch.inference_mode():
            a, b = (net.head(torch.from_numpy(part.response[test])).numpy() for part in data.features)
        found[depth] = float(((a > b) == (data.targets.target[test] > 0.5)).mean())
    assert found[1] <= 0.56
    assert found[2] >= 0.9
    assert found[4] <= found[2] + 0.01


def test_the_gradient_of_the_penalty() -> None:
    rewards = torch.randn(2, 7, generator=torch.Generator().manual_seed(0)).requires_grad_()
    targets = pair_targets(make_pairs(7))
    gradients = []
    for penalty in (0.3, 0.0):
        loss = objective_of("centred_bt", penalty=penalty).loss(rewards[0], rewards[1], targets).mean()
        gradients.append(torch.autograd.grad(loss, rewards)[0])
    expected = 2 * 0.3 * rewards.detach() / rewards.numel()
    assert torch.allclose(gradients[0] - gradients[1], expected, atol=1e-6)


def test_more_penalty_means_smaller_rewards(tmp_path) -> None:
    data, sizes = make_sources(1000, degrees=0), []
    for penalty in (0.0, 1e-3, 1e-2, 1e-1):
        head = seeded(1, lambda: ScalarHead(12))
        objective = objective_of("centred_bt", penalty=penalty)
        net = train_head(tmp_path / str(penalty), head, objective, data, np.arange(1000), n_steps=300, rate=0.05)
        with torch.inference_mode():
            rewards = [net.head(torch.from_numpy(part.response)) for part in data.features]
        sizes.append(float(torch.cat(rewards).abs().mean()))
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 4


def test_acc_plus_by_hand() -> None:
    found = sample_accuracy([1, 2, 0.5, 1, 1, -1], ["x"] * 3 + ["y"] * 3)
    assert (found.accuracy, found.accuracy_plus) == (pytest.approx(5 / 6), 0.5)
    assert (found.n_pairs, found.n_samples) == (6, 2)
    assert sample_accuracy([0.0], ["x"]).accuracy_plus == 0
    with pytest.raises(ValueError, match="finite"):
        sample_accuracy([np.nan], ["x"])
    with pytest.raises(ValueError, match="one entry a pair"):
        sample_accuracy([], [])


def test_acc_plus_is_never_above_acc() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        margins = rng.normal(loc=rng.normal(), size=(20, 3))
        found = sample_accuracy(margins.ravel(), [f"s{i}" for i in range(20) for _ in range(3)])
        assert found.accuracy_plus <= found.accuracy


@pytest.mark.parametrize("freeze", [False, True])
def test_a_length_normalised_reward_is_the_same_in_training_and_in_scoring(tmp_path, freeze) -> None:
    model = {"backbone": "tiny-encoder", "length_normalisation": "log_tokens", "head_depth": 2}
    local = LocalRun(tmp_path, make_pairs(40), model)
    result = local.train(freeze_backbone=freeze, epochs=4)
    assert result["probe_difference"] < 1e-4
    assert result["validation_best"]["accuracy"]["value"] >= 0.8


def test_the_divisor_is_the_logarithm_of_the_length() -> None:
    from workers.data.render import Renderer
    from workers.families import FAMILIES
    from workers.nn.backbone import load_backbone

    family, backbone = FAMILIES.get("scalar_head"), load_backbone("tiny-encoder")
    nets = {}
    for how in ("none", "log_tokens"):
        torch.manual_seed(0)
        nets[how] = family.net(family.Config(backbone="tiny-encoder", length_normalisation=how), backbone).eval()
    encoded = Renderer(backbone.tokenizer, 200).encode([(p.prompt, p.response_a) for p in make_pairs(6)])
    with torch.inference_mode():
        plain, divided = (nets[how](encoded) for how in ("none", "log_tokens"))
    divisors = torch.tensor([math.log(math.e + item.n_response) for item in encoded])
    assert torch.allclose(divided * divisors, plain, atol=1e-6)


def test_the_recipe_grid_is_resumable_and_gives_one_table(tmp_path) -> None:
    """Two depths, two penalties, two seeds, killed on the way; every row knows the time one response takes."""
    run = LocalRun(tmp_path, make_pairs(60))
    spec = {
        "reward_model": "model",
        "question": "grid",
        "grid": {"config.head_depth": [1, 2], "objective_config": [{"penalty": 0.0}, {"penalty": 0.1}]},
        "settings": {"objective": "centred_bt", "learning_rate": 2e-3, "epochs": 1, "batch_pairs": 8,
                     "validation_share": 0.3, "token_budget": 2048, "freeze_backbone": True},
        "n_seeds": 2,
    }  # fmt: skip
    killed = run.context("grid", is_cancelled=lambda: len(killed.metrics) >= 3)
    with pytest.raises(JobCancelled):
        run.run("train_study", killed, **spec)
    again = run.context("grid", attempt=2)
    before = len(list(again.work_dir.glob("arm-*/result.json")))
    assert before >= 3
    kept = (again.work_dir / "arm-0000" / "result.json").stat().st_mtime_ns
    found = run.run("train_study", again, **spec)
    assert (again.work_dir / "arm-0000" / "result.json").stat().st_mtime_ns == kept
    assert len(found["runs"]) == 8
    assert all(row["seconds_per_response"] > 0 for row in found["runs"])
    assert len(found["means"]) == 4
    for name, mean in found["means"].items():
        assert mean["n"] == 2
        assert mean["sd"] is not None
        print(f"{name}: {mean['value']:.3f} sd {mean['sd']:.3f}")
    json.dumps(found)
