"""A model split over processes by FSDP: real processes over gloo, a configuration of accelerate that a run names."""

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.workers.making import LocalRun, make_pairs
from tests.workers.test_processes import processes_of
from workers.accelerate_files import FOLDER_VARIABLE
from workers.data.schema import LabelledResponse
from workers.errors import JobCancelled, JobError
from workers.families import FAMILIES
from workers.nn.checkpoints import WEIGHTS, load_weights, weights_differ
from workers.nn.sharding import equal_shares
from workers.nn.training_state import StateStore
from workers.objectives import OBJECTIVES
from workers.objectives.soft_margin_bt import STRENGTH

SETTINGS: dict[str, Any] = {"validation_share": 0.25, "epochs": 6, "seed": 3, "dtype": "float32", "checkpoint_every": 4}
TWO = {**SETTINGS, "accelerate_config": "two.yaml"}
CONFIG = """
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
num_processes: 2
num_machines: 1
use_cpu: true
mixed_precision: 'no'
fsdp_config: {fsdp_version: 2, fsdp_reshard_after_forward: true, fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP}
"""


@pytest.fixture(autouse=True)
def _configurations(tmp_path_factory, monkeypatch) -> None:
    folder = tmp_path_factory.mktemp("accelerate")
    (folder / "two.yaml").write_text(CONFIG)
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))


@pytest.fixture
def run(tmp_path) -> LocalRun:
    return LocalRun(tmp_path, make_pairs(52))


def told(ctx, name: str) -> list[float]:
    return [row[name] for row in ctx.metrics if name in row]


def labelled_of(run: LocalRun) -> list[LabelledResponse]:
    """The responses of the pairs, with what a person might have said of them."""
    return [
        LabelledResponse(
            pair.prompt,
            pair.response_a,
            ratings={"help": i % 5, "care": (i + 1) % 3, "correct": i % 2},
            reference=pair.response_b,
        )
        for i, pair in enumerate(run.pairs)
    ]


def path_of(run: LocalRun, result) -> Any:
    return run.checkpoints[result["checkpoint"]].path


@pytest.mark.parametrize("backbone", ["tiny-causal", "tiny-encoder"])
def test_a_split_model_takes_the_steps_of_a_whole_one(run, backbone) -> None:
    run.model = {"backbone": backbone}
    alone_ctx, two_ctx = run.context("alone"), run.context("two")
    alone, two = run.train(alone_ctx, **SETTINGS), run.train(two_ctx, **TWO)
    assert len(told(two_ctx, "loss")) == len(told(alone_ctx, "loss")) >= 20
    assert told(two_ctx, "loss") == pytest.approx(told(alone_ctx, "loss"), abs=1e-5)
    assert told(two_ctx, "grad_norm") == pytest.approx(told(alone_ctx, "grad_norm"), rel=1e-3)
    assert max(told(alone_ctx, "grad_norm")) > 1, "some gradients are clipped, by the norm over both processes"
    assert told(two_ctx, "validation_loss") == pytest.approx(told(alone_ctx, "validation_loss"), abs=1e-4)
    held = two["n_parameters_held"]
    assert sum(held) == two["n_parameters"] == alone["n_parameters"]
    assert max(held) < 0.51 * two["n_parameters"]
    assert (two["processes"], two["accelerate"]["config"]) == (2, "two.yaml")
    weights = [load_weights(path_of(run, result) / WEIGHTS).tensors for result in (alone, two)]
    assert weights[0].keys() == weights[1].keys()
    assert {tensor.dtype for tensor in weights[1].values()} == {torch.float32}
    assert max(float((weights[0][n] - weights[1][n]).abs().max()) for n in weights[0]) < 5e-3
    family = FAMILIES.get("scalar_head")
    scorers = [family.open(family.Config(**run.model), path_of(run, result)) for result in (alone, two)]
    items = [(pair.prompt, pair.response_a) for pair in run.pairs]
    rewards = [scorer.score(items).values for scorer in scorers]
    assert np.abs(rewards[0] - rewards[1]).max() < 1e-3


def test_a_killed_split_run_goes_on_bit_for_bit_and_a_cancel_ends_every_process(run) -> None:
    whole = run.train(run.context("whole"), **TWO, max_steps=9)
    asked: list[float] = []
    ctx = run.context("killed", is_cancelled=lambda: len(told(ctx, "loss")) >= 7 and not asked.append(time.monotonic()))
    with pytest.raises(JobCancelled):
        run.train(ctx, **TWO, max_steps=9)
    assert time.monotonic() - asked[0] < 5
    assert not processes_of(ctx)
    assert StateStore(ctx.work_dir / "states").newest().step == 4
    again = run.context("killed", attempt=2)
    resumed = run.train(again, **TWO, max_steps=9)
    assert any("Going on after step" in line for _, line in again.logs)
    assert len(told(again, "loss")) == 5
    assert not weights_differ(path_of(run, resumed) / WEIGHTS, path_of(run, whole) / WEIGHTS)
    assert resumed["validation_final"] == whole["validation_final"]


@pytest.mark.slow
def test_one_pair_a_batch_and_an_early_stop(run) -> None:
    """The second process has nothing of its own to do, and passes through the net all the same.

    At such a rate two runs soon go apart by rounding alone: only their first steps can be compared.
    """
    settings = {"batch_pairs": 1, "learning_rate": 0.3, "warmup_share": 0, "eval_every": 2, "early_stop_patience": 2}
    alone_ctx, two_ctx = run.context("alone"), run.context("two")
    run.train(alone_ctx, **SETTINGS, **settings)
    two = run.train(two_ctx, **TWO, **settings)
    assert "Stopped early" in two["ended"]
    assert told(two_ctx, "loss")[:2] == pytest.approx(told(alone_ctx, "loss")[:2], rel=1e-3)
    assert two["kept_step"] == two["validation_best"]["step"] < two["n_steps"]
    assert two["probe_difference"] <= 1e-4


@pytest.mark.slow
def test_adapters_of_a_split_model_and_layers_computed_again(run) -> None:
    settings = {"lora_rank": 2, "gradient_checkpointing": True, "max_steps": 6}
    alone_ctx, two_ctx = run.context("alone"), run.context("two")
    alone, two = run.train(alone_ctx, **SETTINGS, **settings), run.train(two_ctx, **TWO, **settings)
    assert told(two_ctx, "loss") == pytest.approx(told(alone_ctx, "loss"), abs=1e-5)
    weights = [load_weights(path_of(run, result) / WEIGHTS).tensors for result in (alone, two)]
    assert weights[0].keys() == weights[1].keys()
    assert not [name for name in weights[1] if "lora" in name]
    assert max(float((weights[0][n] - weights[1][n]).abs().max()) for n in weights[0]) < 5e-3


@pytest.mark.slow
def test_a_split_run_that_diverges_keeps_its_last_good_weights(run) -> None:
    """One pair weighs more than a float can say: its batch has no finite loss, in whichever process it is computed."""
    run.pairs = [replace(pair, weight=1e300 if pair.pair_id == "pair-20" else 1.0) for pair in run.pairs]
    with pytest.raises(JobError, match="no longer a finite number at step") as caught:
        run.train(run.context("diverged"), **{**TWO, "checkpoint_every": 1, "validation_share": 0})
    assert "are kept as a checkpoint" in caught.value.hint
    assert len(run.checkpoints) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "objective", "config"),
    [
        ("scalar_head", "margin_bt", {}),
        ("scalar_head", "scaled_bt", {}),
        ("scalar_head", "centred_bt", {}),
        ("scalar_head", "soft_margin_bt", {}),
        ("scalar_head", "outcome_bce", {}),
        ("multi_attribute", "attribute_regression", {"attributes": ["help", "care"]}),
        ("reference_verifier", "verification", {}),
    ],
)
def test_other_objectives_on_a_split_model(run, family, objective, config) -> None:
    run.family, run.model = family, {"backbone": "tiny-causal", **config}
    run.pairs = [
        replace(pair, preference_strength=1 + i % 3, meta={STRENGTH: 0.5 + i % 3}) for i, pair in enumerate(run.pairs)
    ]
    found = []
    for name, settings in (("alone", SETTINGS), ("two", TWO)):
        ctx = run.context(name)
        ctx.labelled = {"labelled": labelled_of(run)}
        source = {"dataset": "labelled" if OBJECTIVES.get(objective).rows == "labelled" else "pairs"}
        run.train(ctx, **{**settings, "max_steps": 4, "objective": objective, "source": source})
        found.append(told(ctx, "loss"))
    assert len(found[1]) == 4
    assert found[1] == pytest.approx(found[0], abs=1e-5)


@pytest.mark.parametrize(("n_groups", "size"), [(3, 2), (1, 4), (5, 4), (4, 4)])
def test_groups_are_cut_until_every_process_has_equally_many(n_groups, size) -> None:
    groups = np.array_split(np.arange(24), n_groups)
    shares = equal_shares(groups, size)
    assert len(shares) % size == 0
    assert sorted(np.concatenate(shares)) == list(range(24))
    assert [len(group) for group in equal_shares([np.arange(1)], 2)] == [1], "one unit cannot be cut"
