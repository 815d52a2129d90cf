"""LoRA, gradient checkpointing, and what is kept when a run ends badly."""

import errno
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.workers.making import LocalRun, make_pairs
from tests.workers.test_training import make_trainer
from workers.errors import JobCancelled, JobError, SpecError
from workers.nn.adapters import add_adapters, fold_adapters, has_adapters
from workers.nn.backbone import load_backbone
from workers.nn.checkpoints import WEIGHTS, load_weights, weights_differ
from workers.nn.tiny import TINY_NAMES
from workers.nn.training_state import StateStore


@pytest.mark.parametrize("backbone", TINY_NAMES)
def test_lora_trains_adapters_and_head_and_leaves_an_ordinary_checkpoint(local, backbone) -> None:
    local.model = {"backbone": backbone}
    ctx = local.context()
    result = local.train(ctx, lora_rank=4, epochs=4)
    assert result["probe_difference"] <= 1e-4
    assert result["validation_final"]["accuracy"]["value"] >= 0.9
    kept = load_weights(ctx.checkpoints[result["checkpoint"]].path / WEIGHTS).tensors
    assert not [name for name in kept if "lora" in name]
    before = load_backbone(backbone).model.state_dict()
    changed = {n for n, t in before.items() if not torch.equal(kept[f"backbone.{n}"], t)}
    assert changed
    assert not {name for name in changed if "embed" in name or "norm" in name.lower()}, "only linear layers learn"


def test_folding_changes_no_reward() -> None:
    from tests.workers.test_nets import make_items, make_net

    net, renderer = make_net("tiny-encoder", "mean")
    batch = renderer.encode(make_items(6))
    add_adapters(net, rank=3, alpha=None)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    assert net.is_packed()
    with torch.inference_mode():
        before = net(batch)
        assert torch.allclose(before, net.outputs_of(net._padded(batch)), atol=1e-5)
    fold_adapters(net)
    assert not has_adapters(net.backbone)
    assert net.is_packed()
    with torch.inference_mode():
        assert torch.allclose(net(batch), before, atol=1e-5)


def test_a_killed_lora_run_ends_with_the_weights_of_an_unbroken_one(local) -> None:
    whole = local.context("whole")
    first = local.train(whole, lora_rank=2, checkpoint_every=2, epochs=3)
    killed = local.context("killed", is_cancelled=lambda: len(killed.metrics) > 7)
    with pytest.raises(JobCancelled):
        local.train(killed, lora_rank=2, checkpoint_every=2, epochs=3)
    resumed = local.context("killed", attempt=2)
    second = local.train(resumed, lora_rank=2, checkpoint_every=2, epochs=3)
    assert any("Going on after step" in line for _, line in resumed.logs)
    paths = [ctx.checkpoints[r["checkpoint"]].path / WEIGHTS for ctx, r in ((whole, first), (resumed, second))]
    assert not weights_differ(*paths)


def test_states_of_a_lora_run_hold_what_is_trained_alone(local) -> None:
    ctx = local.context()
    local.train(ctx, lora_rank=2, max_steps=2)
    names = set(load_weights(next((ctx.work_dir / "states").glob("step-*")) / WEIGHTS).tensors)
    assert {"head.weight", "head.bias"} <= names
    assert all(name.startswith("head.") or "lora_" in name for name in names)


def test_adapters_on_a_frozen_backbone_are_refused(local) -> None:
    with pytest.raises(SpecError) as caught:
        local.train(lora_rank=4, freeze_backbone=True)
    assert [e["pointer"] for e in caught.value.errors] == ["/lora_rank"]


@pytest.mark.parametrize("backbone", TINY_NAMES)
def test_gradient_checkpointing_changes_no_gradient(tmp_path, backbone) -> None:
    found = []
    for wanted in (False, True):
        made = make_trainer(tmp_path / str(wanted), 100_000, backbone)
        if wanted:
            made.net.backbone.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        made.net.train()
        made._backward(1, np.arange(16), 16.0)
        found.append(torch.cat([p.grad.flatten() for p in made.net.parameters() if p.grad is not None]))
    assert torch.allclose(found[0], found[1], atol=1e-6)


def test_gradient_checkpointing_and_adapters_go_together(local) -> None:
    result = local.train(lora_rank=2, gradient_checkpointing=True, max_steps=2)
    assert result["n_steps"] == 2


def test_a_diverged_run_keeps_its_last_good_weights_and_names_the_batch(tmp_path) -> None:
    pairs = make_pairs(48)
    pairs[17] = replace(pairs[17], weight=float("inf"))
    run = LocalRun(tmp_path, pairs)
    ctx = run.context()
    with pytest.raises(JobError, match="no longer a finite number") as caught:
        run.train(ctx, checkpoint_every=1, validation_share=0, batch_pairs=4, epochs=1, seed=1)
    assert "pair-17" in caught.value.message
    assert "are kept as a checkpoint" in caught.value.hint
    assert len(ctx.checkpoints) == 1
    (kept,) = ctx.checkpoints.values()
    assert all(bool(t.isfinite().all()) for t in load_weights(kept.path / WEIGHTS).tensors.values())


def test_a_full_disk_is_named_and_the_state_before_it_is_whole(local, monkeypatch) -> None:
    ctx = local.context()
    written = StateStore.save

    def save(self, progress, *rest, **more) -> None:
        if progress.step > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        written(self, progress, *rest, **more)

    monkeypatch.setattr(StateStore, "save", save)
    with pytest.raises(JobError, match="disk is full") as caught:
        local.train(ctx, checkpoint_every=1)
    assert "goes on from the last saved state" in caught.value.hint
    assert StateStore(ctx.work_dir / "states").newest().step == 2


@pytest.mark.parametrize("backbone", TINY_NAMES)
def test_compile_is_left_aside_on_a_cpu(tmp_path, backbone) -> None:
    """It makes nothing faster there: the same losses, the same weights, and the log says so."""
    losses, paths = [], []
    for wanted in (False, True):
        run = LocalRun(tmp_path / str(wanted), make_pairs(40), {"backbone": backbone})
        ctx = run.context()
        result = run.train(ctx, compile=wanted, max_steps=3)
        losses.append([row["loss"] for row in ctx.metrics if "loss" in row])
        paths.append(run.checkpoints[result["checkpoint"]].path / WEIGHTS)
        assert any("compile is left aside" in line for _, line in ctx.logs) == wanted
    assert losses[0] == losses[1]
    assert not weights_differ(*paths)
