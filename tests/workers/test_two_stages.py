"""Regression on ratings, then Bradley-Terry from its weights; and comparisons that are of the same prompts alone."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.workers.attributes_world import rated_pairs, rated_rows
from tests.workers.making import LocalRun
from tests.workers.two_stage_world import TwoStageWorld, stages
from workers.data.schema import LabelledResponse, PreferencePair
from workers.errors import JobError, SpecError
from workers.jobs import JOBS
from workers.nn.checkpoints import WEIGHTS, weights_differ
from workers.specs import parse_spec

MODEL = {"backbone": "tiny-encoder", "attributes": ["kind", "clear"]}


def test_two_stages_are_no_worse_than_the_better_single_one(tmp_path) -> None:
    """Settings were fixed before the first run; five seeds."""
    found = []
    for seed in range(5):
        world = TwoStageWorld(seed)
        found.append({name: world.accuracy(head) for name, head in stages(tmp_path / str(seed), world, seed).items()})
    mean = {name: float(np.mean([row[name] for row in found])) for name in found[0]}
    print(found, mean)
    lost = [max(row["regression"], row["scaled alone"]) - row["both"] for row in found]
    assert np.mean(lost) <= 0.005
    assert mean["both"] > mean["scaled alone"]


def test_the_second_stage_begins_with_the_rewards_of_the_regression(tmp_path) -> None:
    local = LocalRun(tmp_path, rated_pairs(40), MODEL, "multi_attribute")
    first = local.train(
        local.context("first", labelled={"pairs": rated_rows(60)}), objective="attribute_regression", max_steps=3
    )["checkpoint"]
    ctx = local.context("still")
    still = local.train(
        ctx, objective="scaled_bt", start_from=first, max_steps=1, learning_rate=1e-30, head_learning_rate=1e-30
    )["checkpoint"]
    assert any("backbone and head" in line for _, line in ctx.logs)
    assert not weights_differ(*(local.checkpoints[uid].path / WEIGHTS for uid in (first, still)))
    moved = local.train(local.context("moved"), objective="scaled_bt", start_from=first, max_steps=3)["checkpoint"]
    assert weights_differ(*(local.checkpoints[uid].path / WEIGHTS for uid in (first, moved)))


def rated_alike(pairs: list[PreferencePair]) -> list[LabelledResponse]:
    """A rating of both responses of every pair."""
    said = [(pair.prompt, response) for pair in pairs for response in (pair.response_a, pair.response_b)]
    return [
        LabelledResponse(prompt, response, {"kind": float(i % 5), "clear": float(i % 3)}, response_id=i)
        for i, (prompt, response) in enumerate(said)
    ]


def test_ratings_and_preferences_of_the_same_prompts_have_one_hash(tmp_path) -> None:
    pairs = [replace(pair, verdict="a") for pair in rated_pairs(30)]
    local = LocalRun(tmp_path, pairs, MODEL, "multi_attribute")

    def prompts(name: str, **more: Any) -> str:
        ctx = local.context(name, labelled={"pairs": more.pop("rows", rated_alike(pairs))})
        return str(local.train(ctx, max_steps=1, **more)["prompts_sha256"])

    own = prompts("ratings", objective="attribute_regression")
    assert prompts("pairs", objective="scaled_bt") == own
    assert prompts("fewer", objective="attribute_regression", rows=rated_alike(pairs[1:])) != own
    assert prompts("order", objective="attribute_regression", rows=rated_alike(pairs)[::-1]) == own


def compared(local: LocalRun, sources: dict[str, Any], arms: list[dict[str, Any]]) -> dict[str, Any]:
    ctx = local.context("study")
    ctx.pairs = sources
    job: Any = JOBS.get("train_study")
    quick = {"epochs": 1, "batch_pairs": 8, "validation_share": 0.3, "token_budget": 512, "max_steps": 1}
    spec = {
        "reward_model": "model",
        "source": {"dataset": "pairs"},
        "arms": arms,
        "settings": quick,
        "n_seeds": 1,
    }
    found: dict[str, Any] = job().run(ctx, parse_spec(job.Spec, spec))
    return found


def test_a_study_of_other_prompts_is_blocked(tmp_path) -> None:
    pairs = rated_pairs(40)
    local = LocalRun(tmp_path, pairs)
    sources = {"pairs": pairs, "again": pairs[::-1], "fewer": pairs[2:]}
    arms = [{"name": "one"}, {"name": "two", "settings": {"source": {"dataset": "again"}}}]
    found = compared(local, sources, arms)
    assert len({row["prompts_sha256"] for row in found["runs"]}) == 1
    arms[1]["settings"] = {"source": {"dataset": "fewer"}}
    with pytest.raises(JobError, match=r"one and two were not trained and measured on the same prompts"):
        compared(LocalRun(tmp_path / "b", pairs), sources, arms)


def test_measures_that_differ_are_not_compared(tmp_path) -> None:
    local = LocalRun(tmp_path, rated_pairs(40), MODEL, "multi_attribute")
    arms = [{"name": n, "settings": {"objective": n}} for n in ("scaled_bt", "attribute_regression")]
    with pytest.raises(SpecError) as caught:
        compared(local, {"pairs": local.pairs}, arms)
    assert "ratings or labels" in caught.value.errors[0]["detail"]
