"""Several processes train one model: real processes, started by accelerate, that talk over gloo."""

import threading
import time

import psutil
import pytest
import torch

from tests.workers.making import LocalRun, make_pairs
from workers.errors import JobCancelled, JobError, SpecError
from workers.nn.checkpoints import WEIGHTS, load_weights

SETTINGS = {"batch_pairs": 8, "validation_share": 0.25, "epochs": 1, "seed": 3, "dtype": "float32"}


@pytest.fixture
def run(tmp_path) -> LocalRun:
    return LocalRun(tmp_path, make_pairs(40))


def weights_of(run: LocalRun, result) -> dict[str, torch.Tensor]:
    return dict(load_weights(run.checkpoints[result["checkpoint"]].path / WEIGHTS).tensors)


def test_two_processes_take_the_steps_of_one(run) -> None:
    alone_ctx, two_ctx = run.context("alone"), run.context("two")
    alone, two = run.train(alone_ctx, **SETTINGS), run.train(two_ctx, **SETTINGS, processes=2)
    assert two["processes"] == 2
    losses = [[m["loss"] for m in ctx.metrics if "loss" in m] for ctx in (alone_ctx, two_ctx)]
    assert len(losses[0]) == len(losses[1]) >= 4
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    accuracy = [[m["accuracy"] for m in ctx.metrics if "accuracy" in m] for ctx in (alone_ctx, two_ctx)]
    assert accuracy[0] == pytest.approx(accuracy[1])
    before, after = weights_of(run, alone), weights_of(run, two)
    # AdamW divides by the root of tiny second moments: where a gradient is near 0, its rounding shows in full.
    far = max(float((before[name] - after[name]).abs().max()) for name in before)
    assert far < 2e-3
    assert two["validation_final"]["loss"] == pytest.approx(alone["validation_final"]["loss"], abs=1e-3)


def test_a_cancel_ends_every_process(run) -> None:
    started = threading.Event()
    at_work: list[int] = []

    def is_cancelled() -> bool:
        if ctx.metrics and not started.is_set():
            at_work.append(sum("workers.training_process" in p.cmdline() for p in processes_of(ctx)))
            started.set()
        return started.is_set()

    ctx = run.context("cancelled", is_cancelled=is_cancelled)
    with pytest.raises(JobCancelled):
        run.train(ctx, **{**SETTINGS, "epochs": 200}, processes=2)
    assert at_work == [3], "two processes, and the launcher"
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and processes_of(ctx):
        time.sleep(0.1)
    assert not processes_of(ctx)


def test_an_error_in_the_processes_is_told_in_words(run) -> None:
    run.model = {"backbone": "/nowhere/at/all"}
    with pytest.raises(JobError, match="nowhere"):
        run.train(run.context("broken"), **SETTINGS, processes=2)


def test_processes_have_nothing_to_share_with_a_frozen_backbone(run) -> None:
    with pytest.raises(SpecError, match="frozen"):
        run.train(**SETTINGS, processes=2, freeze_backbone=True)


def processes_of(ctx) -> list[psutil.Process]:
    """Processes that were started for this run and still live."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(ctx.work_dir) in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found
