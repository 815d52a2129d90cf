"""Training: it learns, it resumes bit for bit after kill -9, it stops when asked, it says what went wrong."""

import json
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.workers.making import LocalRun, make_pairs
from workers.data.render import Renderer
from workers.errors import JobCancelled, JobError
from workers.families import FAMILIES
from workers.nn import failures, trainer
from workers.nn.backbone import load_backbone
from workers.nn.checkpoints import weights_differ
from workers.nn.optimisation import learning_rate_share, make_optimizer
from workers.nn.reward_net import RewardNet
from workers.nn.tiny import TINY_NAMES
from workers.nn.trainer import Plan, Trainer
from workers.nn.training_state import Progress, StateStore
from workers.nn.units import read_units
from workers.objectives import OBJECTIVES

ROOT = Path(__file__).resolve().parents[2]


def weights_of(local: LocalRun, result: dict) -> Path:
    return local.checkpoints[result["checkpoint"]].path / "weights.safetensors"


@pytest.mark.parametrize("backbone", TINY_NAMES)
def test_it_learns_and_its_checkpoint_scores_the_same(local, backbone) -> None:
    local.model = {"backbone": backbone}
    ctx = local.context()
    result = local.train(ctx, epochs=4)
    assert result["validation_final"]["accuracy"]["value"] == 1.0
    assert result["validation_final"]["accuracy"]["n"] == result["n_validation"]
    assert result["n_train"] + result["n_validation"] == result["n_pairs"] == len(local.pairs)
    assert result["probe_difference"] < 1e-4
    assert ctx.fraction_done == 1.0
    first, last = ctx.metrics[0], [m for m in ctx.metrics if "loss" in m][-1]
    assert first["loss"] == pytest.approx(math.log(2), abs=0.05)
    assert last["loss"] < 0.3
    expected = {"accuracy", "margin_mean", "learning_rate", "grad_norm", "pairs_per_s", "tokens_per_s", "eta_s"}
    assert expected <= last.keys()
    validation = next(m for m in ctx.metrics if "validation_loss" in m)
    assert {"validation_accuracy", "validation_low", "validation_high", "validation_n"} <= validation.keys()
    assert validation["validation_accuracy"] + validation["validation_swapped_accuracy"] == pytest.approx(1.0)
    json.dumps(result)


def test_same_seed_same_weights_other_seed_others(local) -> None:
    first, again = local.train(local.context("1"), max_steps=3), local.train(local.context("2"), max_steps=3)
    other = local.train(local.context("3"), max_steps=3, seed=7)
    assert not weights_differ(weights_of(local, first), weights_of(local, again))
    assert weights_differ(weights_of(local, first), weights_of(local, other))


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from tests.workers.making import LocalRun, make_pairs
import workers.nn.folders as folders

where, backbone, spec = sys.argv[2], sys.argv[3], eval(sys.argv[4])
local = LocalRun(Path(sys.argv[1]), make_pairs(48), {"backbone": backbone, "dropout": spec.pop("dropout", 0.0)})
ctx = local.context("killed")

def die():
    os.kill(os.getpid(), signal.SIGKILL)

if where.startswith("step"):
    report = ctx.metric
    def metric(step, **values):
        report(step, **values)
        if step == int(where[4:]):
            die()
    ctx.metric = metric
else:  # while a state is being written, the n-th time a file of it reaches the disk
    left = [int(where[4:])]
    sync = folders._sync
    def dying_sync(path):
        left[0] -= 1
        if not left[0]:
            die()
        sync(path)
    folders._sync = dying_sync
local.train(ctx, **spec)
"""


@pytest.mark.parametrize(
    ("backbone", "where", "options"),
    [
        ("tiny-encoder", "step8", {"epochs": 3, "checkpoint_every": 3}),
        ("tiny-causal", "step5", {"epochs": 2, "checkpoint_every": 2, "accumulation": 2, "dropout": 0.1}),
        ("tiny-encoder", "sync12", {"epochs": 3, "checkpoint_every": 3}),
    ],
    ids=["encoder", "causal-with-dropout", "while-saving"],
)
def test_killed_training_goes_on_bit_for_bit(tmp_path, backbone, where, options) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path), where, backbone, repr(options)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -9, done.stderr
    model = {"backbone": backbone, "dropout": options.pop("dropout", 0.0)}
    local = LocalRun(tmp_path, make_pairs(48), model)
    resumed_ctx = local.context("killed", attempt=2)
    resumed = local.train(resumed_ctx, **options)
    whole = local.train(local.context("whole"), **options)
    assert any("Going on after step" in line for _, line in resumed_ctx.logs)
    assert len([m for m in resumed_ctx.metrics if "loss" in m]) < whole["n_steps"]
    assert not weights_differ(weights_of(local, resumed), weights_of(local, whole))
    for key in ("n_steps", "kept_step", "validation_final", "validation_best"):
        assert resumed[key] == whole[key]


def test_an_ended_run_that_is_started_again_only_saves_again(local) -> None:
    first = local.train(local.context("same"))
    ctx = local.context("same", attempt=2)
    second = local.train(ctx)
    assert not [m for m in ctx.metrics if "loss" in m]
    assert not weights_differ(weights_of(local, first), weights_of(local, second))


def test_other_settings_do_not_continue_a_state(local) -> None:
    local.train(local.context("same"), max_steps=2)
    ctx = local.context("same", attempt=2)
    local.train(ctx, max_steps=2, learning_rate=1e-4)
    assert any("starting again" in line for _, line in ctx.logs)
    assert len([m for m in ctx.metrics if "loss" in m]) == 2


def make_trainer(tmp_path, budget: int, backbone: str = "tiny-encoder", n: int = 16) -> Trainer:
    loaded = load_backbone(backbone)
    objective_type = OBJECTIVES.get("bradley_terry")
    objective = objective_type(objective_type.Config())
    data = read_units(make_pairs(n), Renderer(loaded.tokenizer, 200), objective, on_read=lambda _: None)
    torch.manual_seed(0)
    plan = Plan(
        n_steps=4, n_pairs=n, learning_rate=1e-3, head_learning_rate=1e-3, n_warmup=1, weight_decay=0.01,
        max_grad_norm=1.0, eval_every=10, checkpoint_every=10, patience=None, token_budget=budget, seed=0,
    )  # fmt: skip
    return Trainer(
        LocalRun(tmp_path, []).context(),
        RewardNet(loaded, "last"),
        objective,
        data,
        (np.arange(n), np.arange(0)),
        plan=plan,
        states=StateStore(tmp_path / "states"),
        progress=Progress("", "float32"),
    )


@pytest.mark.parametrize("backbone", TINY_NAMES)
def test_micro_batches_add_up_to_the_whole_batch(tmp_path, backbone) -> None:
    """Loss and gradient do not depend on the token budget, and equal a plain padded batch."""
    found = []
    for budget in (100_000, 700, 1):
        made = make_trainer(tmp_path / str(budget), budget, backbone)
        losses = [
            made._backward(1, np.sort(rows), 16.0)[0]
            for rows in np.array_split(np.arange(16), 4 if budget < 900 else 1)
        ]
        found.append((sum(losses), torch.cat([p.grad.flatten() for p in made.net.parameters() if p.grad is not None])))
    plain = make_trainer(tmp_path / "plain", 1, backbone)
    net = plain.net
    a, b = (net.outputs_of(net._padded(side)) for side in plain.data.columns)
    sign = torch.tensor(np.sign(plain.data.targets.target - 0.5), dtype=torch.float32)
    loss = -torch.nn.functional.logsigmoid(sign * (a - b)).mean() + 0.01 * (a + b).square().mean()
    loss.backward()
    found.append((loss.item(), torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])))
    for other_loss, gradient in found[:-1]:
        assert other_loss == pytest.approx(found[-1][0], abs=1e-6)
        assert torch.allclose(gradient, found[-1][1], atol=1e-6)


def test_cancel_is_prompt_and_leaves_the_last_state(local) -> None:
    asked: list[float] = []

    def is_cancelled() -> bool:
        if len(ctx.metrics) >= 5 and not asked:
            asked.append(time.monotonic())
        return bool(asked)

    ctx = local.context(is_cancelled=is_cancelled)
    with pytest.raises(JobCancelled):
        local.train(ctx, epochs=50, checkpoint_every=2, validation_share=0)
    assert time.monotonic() - asked[0] < 2
    assert StateStore(ctx.work_dir / "states").newest().step == 4


def test_a_loss_that_is_not_a_number_ends_the_run_and_keeps_the_last_good_state(local) -> None:
    ctx = local.context()
    local.train(ctx, max_steps=2, checkpoint_every=1)
    made = make_trainer(local.folder / "nan", 500)
    made.states.save(made.progress, made.net, made.optimizer, made.margins)
    with torch.no_grad():
        made.net.head.bias.fill_(float("nan"))
    with pytest.raises(JobError, match="no longer a finite number at step 1") as caught:
        made.run()
    assert "learning_rate" in caught.value.hint
    assert "The state of step 0 is kept" in caught.value.hint
    assert made.states.newest() is not None


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"),
    ],
)
def test_out_of_memory_says_what_to_change(tmp_path, monkeypatch, error) -> None:
    made = make_trainer(tmp_path, 500)

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(made.net, "forward_bucketed", fail)
    with pytest.raises(JobError, match="ran out of memory") as caught:
        made.run()
    assert "token_budget" in caught.value.hint


def test_other_runtime_errors_are_not_called_memory() -> None:
    with pytest.raises(RuntimeError, match="shape"), failures.explaining_memory("x"):
        raise RuntimeError("shape mismatch")


def test_a_real_allocation_that_fails_is_explained() -> None:
    with pytest.raises(JobError, match="ran out of memory"), failures.explaining_memory("Use less."):
        torch.empty(1 << 60, dtype=torch.uint8)


def test_early_stop_and_best_weights(local) -> None:
    """With a rate far too high the loss rises again: training stops, and the best weights are the ones kept."""
    ctx = local.context()
    result = local.train(ctx, epochs=40, learning_rate=0.3, early_stop_patience=2, eval_every=2, warmup_share=0)
    assert "Stopped early" in result["ended"]
    assert result["kept_step"] == result["validation_best"]["step"] < result["n_steps"]
    family = FAMILIES.get("scalar_head")
    assert family.open(family.Config(backbone="tiny-encoder"), local.checkpoints[result["checkpoint"]].path)


def test_ties_and_twins_are_left_out_and_counted(local) -> None:
    local.pairs = make_pairs(24, tie_every=4)
    twin = local.pairs[1]
    local.pairs = [*local.pairs, type(twin)("twin", twin.prompt, twin.response_a, twin.response_a, "a")]
    result = local.train(max_steps=1)
    assert result["left_out"] == {"tie": 6, "same response twice": 1}
    assert result["n_pairs"] == 25
    with_ties = local.train(local.context("ties"), max_steps=1, objective_config={"ties": "half"})
    assert with_ties["left_out"] == {"same response twice": 1}


def test_truncation_is_counted_and_told(local) -> None:
    local.model = {"backbone": "tiny-encoder", "max_length": 48}
    ctx = local.context()
    result = local.train(ctx, max_steps=1)
    assert result["n_truncated"] > 0
    assert result["n_response_cut"] > 0
    assert any("lost their start" in line for _, line in ctx.logs)


def test_nothing_to_learn_from(local) -> None:
    local.pairs = make_pairs(4, tie_every=1)
    with pytest.raises(JobError, match="nothing to learn from") as caught:
        local.train()
    assert caught.value.hint


def test_a_rule_cannot_be_trained(local) -> None:
    local.family, local.model = "length", {}
    with pytest.raises(JobError, match="not made by training"):
        local.train()


def test_a_checkpoint_that_scores_otherwise_is_refused(local, monkeypatch) -> None:
    from workers.nn import storing

    ctx = local.context()
    honest = storing._probe_rewards
    monkeypatch.setattr(storing, "_probe_rewards", lambda *a: [v + 0.01 for v in honest(*a)])
    with pytest.raises(JobError, match="other rewards than the model that was trained"):
        local.train(ctx, max_steps=1)
    assert not local.checkpoints


def test_the_schedule_rises_then_falls() -> None:
    shares = [learning_rate_share(step, n_warmup=4, n_steps=20) for step in range(1, 21)]
    assert shares[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert shares[4:] == sorted(shares[4:], reverse=True)
    assert 0 < shares[-1] < 0.02
    assert learning_rate_share(1, n_warmup=0, n_steps=1) == 1.0


def test_biases_and_norms_do_not_decay() -> None:
    net = RewardNet(load_backbone("tiny-encoder"), "mean")
    groups = make_optimizer(net, 1e-3, head_learning_rate=1e-2, weight_decay=0.1).param_groups
    assert sum(len(g["params"]) for g in groups) == len(list(net.parameters()))
    for group in groups:
        assert all((p.ndim > 1) == (group["weight_decay"] > 0) for p in group["params"])
    assert {g["peak_lr"] for g in groups} == {1e-3, 1e-2}


def test_durations_in_words() -> None:
    assert [trainer.in_words(s) for s in (0.2, 59, 600, 7200)] == ["1 s", "59 s", "10 min", "2.0 h"]
