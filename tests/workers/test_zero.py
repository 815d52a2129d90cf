"""DeepSpeed's ZeRO 1 and 2 over two processes on CPUs; skipped where the optional package is not installed."""

from importlib.util import find_spec

import pytest

from tests.workers.making import LocalRun, make_pairs
from workers.accelerate_files import FOLDER_VARIABLE
from workers.errors import JobCancelled, JobError
from workers.nn.checkpoints import WEIGHTS, load_weights, weights_differ

SETTINGS = {"validation_share": 0.25, "epochs": 6, "seed": 3, "dtype": "float32", "checkpoint_every": 4}
CONFIG = """
compute_environment: LOCAL_MACHINE
distributed_type: DEEPSPEED
num_processes: 2
num_machines: 1
mixed_precision: 'no'
deepspeed_config: {{zero_stage: {stage}}}
"""
needs_deepspeed = pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed")


@pytest.fixture
def run(tmp_path, monkeypatch) -> LocalRun:
    folder = tmp_path / "accelerate"
    folder.mkdir()
    for stage in (1, 2):
        (folder / f"zero{stage}.yaml").write_text(CONFIG.format(stage=stage))
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
    return LocalRun(tmp_path, make_pairs(52))


@needs_deepspeed
@pytest.mark.slow
@pytest.mark.parametrize(("stage", "backbone"), [(1, "tiny-causal"), (2, "tiny-encoder")])
def test_split_moments_take_the_steps_of_one_process_and_go_on_after_a_kill(run, stage, backbone) -> None:
    run.model, config = {"backbone": backbone}, {"accelerate_config": f"zero{stage}.yaml"}
    alone_ctx, two_ctx = run.context("alone"), run.context("two")
    alone, two = run.train(alone_ctx, **SETTINGS), run.train(two_ctx, **SETTINGS, **config)
    for name in ("loss", "validation_loss"):
        told = [[row[name] for row in ctx.metrics if name in row] for ctx in (alone_ctx, two_ctx)]
        assert told[1] == pytest.approx(told[0], abs=1e-4)
    assert len([row for row in two_ctx.metrics if "loss" in row]) >= 20
    norms = [[row["grad_norm"] for row in ctx.metrics if "grad_norm" in row] for ctx in (alone_ctx, two_ctx)]
    assert norms[1] == pytest.approx(norms[0], rel=1e-2)
    weights = [load_weights(run.checkpoints[result["checkpoint"]].path / WEIGHTS).tensors for result in (alone, two)]
    assert weights[0].keys() == weights[1].keys()
    killed = run.context("killed", is_cancelled=lambda: len([m for m in killed.metrics if "loss" in m]) >= 6)
    with pytest.raises(JobCancelled):
        run.train(killed, **SETTINGS, **config)
    again = run.context("killed", attempt=2)
    resumed = run.train(again, **SETTINGS, **config)
    assert any("Going on after step 4" in line for _, line in again.logs)
    paths = [run.checkpoints[result["checkpoint"]].path / WEIGHTS for result in (two, resumed)]
    assert not weights_differ(*paths)


@pytest.mark.skipif(find_spec("deepspeed") is not None, reason="deepspeed is installed")
def test_without_the_package_the_run_says_what_to_install(run) -> None:
    with pytest.raises(JobError, match="not installed") as caught:
        run.train(**SETTINGS, accelerate_config="zero2.yaml")
    assert "--no-deps" in caught.value.hint
