"""Contrastive terms on states, and training that looks at samples of the policy first."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.workers.feature_training import FeatureNet
from tests.workers.making import LocalRun, make_pairs, turn
from tests.workers.noisy_world import WIDTH
from tests.workers.shifted_world import meta_training
from workers.data.schema import LabelledResponse
from workers.errors import JobCancelled, JobError, SpecError
from workers.nn.contrastive import balanced_codes, fixed_prototypes, probe_accuracy, simcse_loss, swav_loss
from workers.nn.heads import DeepHead
from workers.nn.meta_samples import discrimination, moved_uphill, read_samples

DROPPING = {"backbone": "tiny-encoder", "dropout": 0.05}


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_simcse_by_hand_and_at_its_ends() -> None:
    """Check 7."""
    first = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    second = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    found = simcse_loss(first, second, temperature=0.5)
    cosines = np.array([[1.0, math.sqrt(0.5)], [0.0, math.sqrt(0.5)]]) / 0.5
    expected = [math.log(np.exp(row).sum()) - row[i] for i, row in enumerate(cosines)]
    assert found.tolist() == pytest.approx(expected)
    x = drawn(64, 48)
    assert simcse_loss(x, x, temperature=0.1).mean() < math.log(64)
    other = drawn(64, 48, seed=1)
    assert simcse_loss(x, other, temperature=50.0).mean().item() == pytest.approx(math.log(64), abs=0.01)
    assert simcse_loss(x, x, temperature=0.05).mean() < simcse_loss(x, other, temperature=0.05).mean()


def test_codes_are_balanced() -> None:
    scores = torch.randn(40, 8, generator=torch.Generator().manual_seed(0)) * 0.2 + torch.arange(8) * 0.1
    codes = balanced_codes(scores, epsilon=0.05, n_iter=50)
    assert codes.sum(dim=1).tolist() == pytest.approx([1.0] * 40, abs=1e-4)
    assert codes.sum(dim=0).tolist() == pytest.approx([5.0] * 8, abs=0.01)
    assert float(torch.softmax(scores / 0.05, dim=1).sum(dim=0).max()) > 6.0


def test_swav_prefers_views_that_agree() -> None:
    x, other, prototypes = drawn(64, 48), drawn(64, 48, seed=1), fixed_prototypes(20, 48)
    near = swav_loss(x, x + 0.05 * other, prototypes, temperature=0.1).mean()
    assert near < swav_loss(x, other, prototypes, temperature=0.1).mean()
    assert torch.equal(prototypes, fixed_prototypes(20, 48))


def test_a_probe_finds_what_states_tell() -> None:
    chosen, rejected = drawn(300, 16), drawn(300, 16, seed=1)
    assert probe_accuracy(chosen, rejected) == pytest.approx(0.5, abs=0.1)
    assert probe_accuracy(chosen + torch.eye(16)[0] * 2, rejected) > 0.8


@pytest.mark.parametrize("term", ["simcse", "swav"])
@pytest.mark.parametrize("on", ["pairs", "difference"])
def test_contrastive_training_end_to_end(tmp_path: Path, term: str, on: str) -> None:
    local = LocalRun(tmp_path, make_pairs(32), model=DROPPING)
    ctx = local.context()
    config = {"term": term, "on": on}
    result = local.train(ctx, objective="contrastive_bt", objective_config=config, epochs=1)
    assert result["probe_difference"] < 1e-4
    told = [row["contrastive_loss"] for row in ctx.metrics if "contrastive_loss" in row]
    assert len(told) == result["n_steps"]
    assert all(0 < value < 20 for value in told)
    assert not result["backbone_frozen"]
    probe = result["finished"]["probe_accuracy"]
    assert probe["n"] == result["n_train"]
    assert 0 <= probe["before"] <= 1
    assert probe["after"] >= 0.9, "good words against bad ones"
    assert local.run("score", checkpoint=result["checkpoint"])["n_scored"] == 64


def test_a_killed_run_tells_the_probe_of_its_first_attempt(tmp_path: Path) -> None:
    local = LocalRun(tmp_path, make_pairs(32), model=DROPPING)
    spec = {"objective": "contrastive_bt", "epochs": 2, "checkpoint_every": 2}
    whole = local.train(local.context("whole"), **spec)
    killed = local.context("killed")
    killed.is_cancelled = lambda: len(killed.metrics) >= 4
    with pytest.raises(JobCancelled):
        local.train(killed, **spec)
    again = local.train(local.context("killed", attempt=2), **spec)
    assert again["finished"] == whole["finished"]


def test_both_passes_differ_by_dropout_and_the_term_moves_the_weights(tmp_path: Path) -> None:
    local = LocalRun(tmp_path, make_pairs(32), model=DROPPING)
    spec = {"epochs": 1, "objective": "contrastive_bt"}
    with_term = local.train(local.context("one"), **spec)
    without = local.train(local.context("two"), objective_config={"beta": 0.0}, **spec)
    assert with_term["validation_final"]["loss"] != without["validation_final"]["loss"]


@pytest.mark.parametrize(
    ("model", "spec", "said"),
    [
        ({"backbone": "tiny-encoder"}, {}, "has none"),
        (DROPPING, {"freeze_backbone": True}, "leaves frozen"),
    ],
)
def test_a_contrast_that_cannot_be(tmp_path: Path, model: Any, spec: Any, said: str) -> None:
    with pytest.raises(JobError, match=said):
        LocalRun(tmp_path, make_pairs(20), model=model).train(objective="contrastive_bt", **spec)


def test_discrimination_by_hand() -> None:
    """Check 5."""
    assert discrimination(torch.zeros(1, 4)).item() == pytest.approx(0.375)
    assert discrimination(torch.tensor([[0.0, 1e3, 1e6, 1e9]])).item() == pytest.approx(0.75)
    assert (discrimination(100 * drawn(200, 4)) <= 0.75).all()
    by_hand = (2 / 9) * sum(1 / (1 + math.exp(-gap)) for gap in (1.0, 3.0, 2.0))
    assert discrimination(torch.tensor([[0.0, 1.0, 3.0]])).item() == pytest.approx(by_hand)


def test_the_step_uphill_is_exact_and_leaves_no_trace() -> None:
    net = make_net()
    x = drawn(8, WIDTH)
    before = [p.detach().clone() for p in net.parameters()]

    def value() -> torch.Tensor:
        torch.randn(3)  # draws that must not be seen outside
        return discrimination(net.head(x)[None]).mean()

    slopes = torch.autograd.grad(value(), list(net.parameters()))
    torch.manual_seed(5)
    expected = torch.randn(1)
    torch.manual_seed(5)
    with moved_uphill(net, value, step_size=0.5):
        for parameter, start, slope in zip(net.parameters(), before, slopes, strict=True):
            assert torch.equal(parameter, start + 0.5 * slope)
        assert torch.equal(torch.randn(1), expected)
    for parameter, start in zip(net.parameters(), before, strict=True):
        assert torch.equal(parameter, start)


def make_net() -> Any:
    from tests.workers.feature_training import FeatureNet

    torch.manual_seed(0)
    return FeatureNet(DeepHead(WIDTH, depth=2, hidden=32))


def sampled(n_prompts: int = 6, k: int = 3) -> list[LabelledResponse]:
    """Samples of prompts, each at least two texts; one prompt has but one, and one text comes twice."""
    rows = [
        LabelledResponse(
            prompt=[turn("user", f"asked {i}")], response=[turn("assistant", f"{'good' if j else 'bad'} " * (j + 1))]
        )
        for i in range(n_prompts)
        for j in range(k)
    ]
    return [*rows, rows[0], replace(rows[0], prompt=[turn("user", "alone")], prompt_key="alone")]


def meta_run(folder: Path, rows: Any) -> LocalRun:
    class WithSamples(LocalRun):
        def context(self, name: str = "run", **options: Any) -> Any:
            return super().context(name, labelled={"samples": rows}, **options)

    return WithSamples(folder, make_pairs(32))


@pytest.mark.parametrize("frozen", [True, False])
def test_meta_training_end_to_end(tmp_path: Path, frozen: bool) -> None:
    local = meta_run(tmp_path, sampled())
    ctx = local.context()
    config = {"samples": {"dataset": "samples"}, "step_size": 0.1, "prompts_per_step": 2}
    result = local.train(ctx, objective="meta_bt", objective_config=config, freeze_backbone=frozen, epochs=1)
    assert result["finished"]["n_sample_prompts"] == 6
    assert 1 / 3 <= result["finished"]["discrimination"] < 2 / 3
    lines = [line for _, line in ctx.logs]
    assert "18 samples of 6 prompts to tell apart" in lines
    assert "Left out of the samples: 1 same sample twice" in lines
    assert "Left out of the samples: 1 one sample of its prompt" in lines
    assert sum("discrimination" in row for row in ctx.metrics) == result["n_steps"]


def test_without_a_step_it_is_plain_training_bit_for_bit(tmp_path: Path) -> None:
    """Check 5, second half."""
    local = meta_run(tmp_path, sampled())
    config = {"samples": {"dataset": "samples"}, "step_size": 0.0}
    meta = local.train(local.context("meta"), objective="meta_bt", objective_config=config)
    plain = local.train(local.context("plain"), objective="bradley_terry")
    files = [next((tmp_path / name / "checkpoint").glob("weights.safetensors")) for name in ("meta", "plain")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert meta["validation_final"] == plain["validation_final"]
    moved = local.train(local.context("moved"), objective="meta_bt", objective_config={**config, "step_size": 1.0})
    assert moved["validation_final"]["loss"] != plain["validation_final"]["loss"]


def test_samples_that_are_missing(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="no samples to look at"):
        meta_run(tmp_path, sampled()).train(objective="meta_bt")
    with pytest.raises(JobError, match="no prompt with two different responses"):
        meta_run(tmp_path / "b", sampled(k=1)).train(
            objective="meta_bt", objective_config={"samples": {"dataset": "samples"}}
        )
    with pytest.raises(SpecError):
        meta_run(tmp_path / "c", sampled()).train(objective="meta_bt", objective_config={"samples": {}})


def test_the_published_step_alone_tells_samples_apart_less(tmp_path: Path) -> None:
    """Check 6 does not hold by the step alone: accuracy stays, J falls (docs/methods/meta_bt.md says why)."""
    told = {step_size: meta_training(tmp_path / str(step_size), step_size) for step_size in (0.0, 3.0)}
    assert told[3.0][0] < told[0.0][0]
    assert told[3.0][1] >= told[0.0][1] - 0.015


def test_samples_are_told_apart_better_where_the_loss_asks_for_it(tmp_path: Path) -> None:
    """Check 6, with J in the loss beside the step."""
    plain = meta_training(tmp_path / "plain", 0.0, epochs=12)
    found = meta_training(tmp_path / "spread", 0.3, spread_weight=1.0, epochs=12)
    assert found[0] >= 1.05 * plain[0]
    assert found[1] >= plain[1] - 0.01


def test_the_weight_takes_the_slope_at_the_weights_themselves() -> None:
    """What is left: the inner gradient at the moved weights, less weight times that of the value at theta."""
    torch.manual_seed(0)
    net = FeatureNet(DeepHead(3, depth=2, hidden=4))
    x, y = torch.randn(5, 3), torch.randn(5, 3)

    def value() -> torch.Tensor:
        found: torch.Tensor = net.head(x).square().mean()
        return found

    slopes = torch.autograd.grad(value(), list(net.parameters()))
    left = []
    for weight in (0.0, 2.0):
        net.zero_grad()
        with moved_uphill(net, value, step_size=0.1, weight=weight):
            net.head(y).mean().backward()
        left.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
    for plain, found, slope in zip(*left, slopes, strict=True):
        assert torch.allclose(found, plain - 2.0 * slope)


def test_samples_are_read_once_a_text() -> None:
    found = read_samples(sampled(2, 2), lambda items: [object()] * len(items), tick=lambda: None)  # type: ignore[arg-type,misc]
    assert [len(group) for group in found.groups] == [2, 2]
    assert len(found.encoded) == 5
