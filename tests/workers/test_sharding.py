"""A model split over processes by FSDP: real processes over gloo, a configuration of accelerate that a run names."""

import copy
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from tests.workers.making import LocalRun, make_pairs, turn
from tests.workers.test_processes import processes_of
from workers.accelerate_files import FOLDER_VARIABLE
from workers.data.render import Encoded
from workers.data.schema import LabelledResponse
from workers.errors import JobCancelled, JobError
from workers.families import FAMILIES
from workers.nn import likelihood_net
from workers.nn.causal_lm import load_causal_lm
from workers.nn.checkpoints import WEIGHTS, load_weights, weights_differ
from workers.nn.sharding import equal_shares, split_net, whole
from workers.nn.training_state import StateStore
from workers.nn.world import World
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
            **steps_of(pair.response_a, i),
        )
        for i, pair in enumerate(run.pairs)
    ]


def steps_of(response, i: int) -> dict[str, Any]:
    """The words of a response, some of them not labelled."""
    steps = [f"{word} " for word in response[0]["content"].split()]
    return {"steps": steps, "step_labels": [None if k == i % 4 else (i + k) % 2 for k in range(len(steps))]}


MODELS: dict[str, dict[str, Any]] = {
    "multi_attribute": {"attributes": ["help", "care"]},
    "twin_policies": {"dropout": 1e-9},  # which drops nothing: masks are drawn for each group, and groups are others
}
FAMILIES_SPLIT = [name for name, family in FAMILIES.items() if "split" in family.capabilities]
FAMILIES_SPLIT.sort(key=lambda name: name != "scalar_head")


def all_that_is_offered() -> list[tuple[str, str]]:
    """Every family with its usual objective, and every objective that is not among them with one family."""
    usual = [(name, FAMILIES.get(name).default_objective) for name in FAMILIES_SPLIT]
    others = [
        next((family, name) for family in FAMILIES_SPLIT if entry.needs <= FAMILIES.get(family).capabilities)
        for name, entry in OBJECTIVES.items()
        if entry.is_one_pass and name not in {objective for _, objective in usual}
    ]
    return [*usual, *others]


def train_both(run: LocalRun, family: str, config: dict[str, Any], **settings: Any) -> list[tuple[Any, Any]]:
    """Context and result of a run in one process, and of the same with the model split over two."""
    run.family, run.model = family, {"backbone": "tiny-causal", **MODELS.get(family, {}), **config}
    run.pairs = [
        replace(
            pair,
            preference_strength=1 + i % 3,
            meta={STRENGTH: 0.5 + i % 3},
            reference=[turn("assistant", f"an answer {i}")],
        )
        for i, pair in enumerate(run.pairs)
    ]
    objective = settings.get("objective", FAMILIES.get(family).default_objective)
    source = {"dataset": "labelled" if OBJECTIVES.get(objective).rows == "labelled" else "pairs"}
    found = []
    for name, own in (("alone", SETTINGS), ("two", TWO)):
        ctx = run.context(name)
        ctx.labelled = {"labelled": labelled_of(run)}
        found.append((ctx, run.train(ctx, **{**own, "source": source, **settings})))
    return found


def rewards_of(run: LocalRun, result) -> Any:
    family = FAMILIES.get(run.family)
    scorer = family.open(family.Config(**run.model), path_of(run, result))
    return scorer.score(
        [(row.prompt, row.response, {"reference": row.reference, "steps": row.steps}) for row in labelled_of(run)]
    ).values


def path_of(run: LocalRun, result) -> Any:
    return run.checkpoints[result["checkpoint"]].path


@pytest.mark.parametrize("backbone", ["tiny-causal", pytest.param("tiny-encoder", marks=pytest.mark.slow)])
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


@pytest.mark.parametrize("family", ["scalar_head", pytest.param("implicit", marks=pytest.mark.slow)])
def test_a_killed_split_run_goes_on_bit_for_bit_and_a_cancel_ends_every_process(run, family) -> None:
    if family == "implicit":
        run.family, run.model = family, {"backbone": "tiny-causal"}
    uncut = run.train(run.context("whole"), **TWO, max_steps=9)
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
    assert not weights_differ(path_of(run, resumed) / WEIGHTS, path_of(run, uncut) / WEIGHTS)
    assert resumed["validation_final"] == uncut["validation_final"]


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


@pytest.mark.parametrize(
    ("family", "config"),
    [
        ("implicit", {}),
        pytest.param("implicit", {"reference": "none"}, marks=pytest.mark.slow),
        pytest.param("implicit", {"backbone": "tiny-causal-tied"}, marks=pytest.mark.slow),
        pytest.param("autoregressive", {}, marks=pytest.mark.slow),
        pytest.param("policy_discriminator", {}, marks=pytest.mark.slow),
        pytest.param("process", {}, marks=pytest.mark.slow),
        pytest.param("process", {"head_depth": 2, "step_mark": " #"}, marks=pytest.mark.slow),
    ],
)
def test_other_families_take_the_steps_of_a_whole_model_and_score_like_it(run, family, config) -> None:
    (alone_ctx, alone), (two_ctx, two) = train_both(run, family, config, max_steps=8)
    assert len(told(two_ctx, "loss")) == 8
    assert told(two_ctx, "loss") == pytest.approx(told(alone_ctx, "loss"), abs=1e-5)
    assert told(two_ctx, "validation_loss") == pytest.approx(told(alone_ctx, "validation_loss"), abs=1e-4)
    assert told(two_ctx, "grad_norm") == pytest.approx(told(alone_ctx, "grad_norm"), rel=1e-3)
    assert min(told(two_ctx, "grad_norm")) > 1e-3
    held = two["n_parameters_held"]
    assert sum(held) == two["n_parameters"] == alone["n_parameters"]
    assert max(held) < 0.51 * two["n_parameters"], "the reference lies in parts as well"
    rewards = [rewards_of(run, result) for result in (alone, two)]
    assert rewards[0].std() > 0
    assert np.abs(rewards[0] - rewards[1]).max() < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("is_checkpointed", [False, True])
def test_a_split_policy_in_bf16(run, is_checkpointed) -> None:
    settings = {"dtype": "bf16", "gradient_checkpointing": is_checkpointed, "max_steps": 4}
    (alone_ctx, alone), (two_ctx, two) = train_both(run, "implicit", {}, **settings)
    assert alone["dtype"] == two["dtype"] == "bf16"
    assert told(two_ctx, "loss") == pytest.approx(told(alone_ctx, "loss"), abs=1e-2)


@pytest.mark.slow
def test_adapters_of_a_policy_from_a_checkpoint_that_is_its_reference(run) -> None:
    """The reference is renewed before the net is split, and stays what it was while the adapters are trained."""
    run.family, run.model = "implicit", {"backbone": "tiny-causal"}
    first = run.train(run.context("first"), **SETTINGS, max_steps=2)
    (alone_ctx, alone), (two_ctx, two) = train_both(
        run, "implicit", {}, start_from=first["checkpoint"], lora_rank=2, gradient_checkpointing=True, max_steps=4
    )
    assert told(two_ctx, "loss")[0] == pytest.approx(np.log(2), abs=1e-5), "the policy is its reference at first"
    assert told(two_ctx, "loss") == pytest.approx(told(alone_ctx, "loss"), abs=1e-5)
    weights = [load_weights(path_of(run, result) / WEIGHTS).tensors for result in (first, two)]
    assert all(torch.equal(weights[0][n.replace("reference.", "backbone.")], weights[1][n]) for n in weights[1]
               if n.startswith("reference."))  # fmt: skip
    assert np.abs(rewards_of(run, alone) - rewards_of(run, two)).max() < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(("family", "objective"), all_that_is_offered())
def test_all_that_is_offered_on_a_split_model(run, family, objective) -> None:
    (alone_ctx, alone), (two_ctx, two) = train_both(run, family, {}, objective=objective, max_steps=4)
    assert len(told(two_ctx, "loss")) == 4
    assert max(two["n_parameters_held"]) < 0.51 * two["n_parameters"] == 0.51 * alone["n_parameters"]
    assert told(two_ctx, "loss") == pytest.approx(told(alone_ctx, "loss"), abs=1e-5)


WRAPS = {
    "layers": {"FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP"},
    "none": {},
    "whole": {"FSDP_AUTO_WRAP_POLICY": "NO_WRAP"},
    "every module": {"FSDP_AUTO_WRAP_POLICY": "SIZE_BASED_WRAP", "FSDP_MIN_NUM_PARAMS": "1"},
    "kept together": {"FSDP_RESHARD_AFTER_FORWARD": "false"},
}


def test_logits_in_chunks_that_the_backward_computes_again(tmp_path) -> None:
    """Every way to split, the head's weight the embedding's or its own: rewards and gradients are those of a whole net.

    After the pass every process has its part alone of the reference's layers, also where layers are kept together.
    """
    torch.multiprocessing.spawn(_compare_split_likelihoods, args=(str(tmp_path),), nprocs=2)
    for rank in range(2):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert len(found) == len(WRAPS) * 2
        assert all(case["n_chunks"] > 2 for case in found)
        assert max(case["rewards"] for case in found) < 1e-4
        assert max(case["gradients"] for case in found) < 1e-4
        assert all(case["is_reference_let_go"] for case in found)


def _compare_split_likelihoods(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    likelihood_net.LOGITS_AT_ONCE = 4 * 260
    world = World(rank, 2, "cpu", is_sharded=True)
    found = []
    for backbone in ("tiny-causal", "tiny-causal-tied"):
        for name, variables in WRAPS.items():
            for variable in ("FSDP_AUTO_WRAP_POLICY", "FSDP_MIN_NUM_PARAMS"):
                os.environ.pop(variable, None)
            os.environ.update({"FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "true", **variables})
            found.append(_compare(backbone, replace(world, splits_whole=name == "whole"), name))
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


def _compare(backbone: str, world: World, name: str) -> dict[str, Any]:
    family = FAMILIES.get("implicit")
    net: Any = family.net(family.Config(backbone=backbone), load_causal_lm(backbone))
    with torch.no_grad():
        for parameter in net.reference.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    parts = copy.deepcopy(net)
    split_net(parts, world)
    batch = [Encoded(ids=np.arange(5, 5 + n, dtype=np.int32), n_response=n - 3) for n in (7, 12, 9)]
    rewards = [one(batch) for one in (net, parts)]
    layers = [module for module in parts.reference.modules() if isinstance(module, FSDPModule)]
    is_let_go = all(isinstance(p, DTensor) for layer in layers for p in layer.parameters())
    for made in rewards:
        made.sum().backward()
    pairs = zip(net.parameters(), parts.parameters(), strict=True)
    differences = [float((own.grad - whole(part.grad)).abs().max()) for own, part in pairs if own.requires_grad]
    return {
        "rewards": float((rewards[0] - rewards[1]).detach().abs().max()),
        "gradients": max(differences),
        "n_chunks": sum(item.n_response for item in batch) // 4,
        "is_reference_let_go": is_let_go and bool(layers) is (name != "whole"),
    }


@pytest.mark.parametrize(("n_groups", "size"), [(3, 2), (1, 4), (5, 4), (4, 4)])
def test_groups_are_cut_until_every_process_has_equally_many(n_groups, size) -> None:
    groups = np.array_split(np.arange(24), n_groups)
    shares = equal_shares(groups, size)
    assert len(shares) % size == 0
    assert sorted(np.concatenate(shares)) == list(range(24))
    assert [len(group) for group in equal_shares([np.arange(1)], 2)] == [1], "one unit cannot be cut"
