"""Score and evaluate, the baselines, and the plain-file context they run in here."""

import json

import numpy as np
import pytest

from tests.workers.making import make_pairs, turn
from workers.context import CheckpointRef
from workers.data.schema import PreferencePair, ScoredPairs
from workers.environment import available_cpus, describe_environment, keep_freed_memory, peak_rss_mib
from workers.errors import JobCancelled, JobError
from workers.families import FAMILIES
from workers.jobs import score
from workers.jobs.evaluate import slice_metrics


def rule(local, family: str, **config) -> str:
    local.checkpoints[family] = CheckpointRef(family, family, config, None)
    return family


def test_length_counts_the_response_and_nothing_else() -> None:
    family = FAMILIES.get("length")
    items = [([turn("user", "long " * 50)], [turn("assistant", "two words")]), ([], [turn("assistant", "日本 é")])]
    assert family.open(family.Config(), None).score(items).values.tolist() == [9.0, 4.0]
    assert family.open(family.Config(unit="words"), None).score(items).values.tolist() == [2.0, 2.0]
    assert family.open(family.Config(prefer="shorter"), None).score(items).values.tolist() == [-9.0, -4.0]


def test_random_is_the_same_for_the_same_text_and_uniform() -> None:
    family = FAMILIES.get("random")
    items = [([turn("user", "q")], [turn("assistant", f"response {i}")]) for i in range(2000)]
    values = family.open(family.Config(), None).score(items).values
    assert np.array_equal(values, family.open(family.Config(), None).score(items).values)
    assert len(set(values)) == 2000
    assert abs(values.mean() - 0.5) < 0.03
    other = family.open(family.Config(seed=1), None).score(items).values
    assert abs(np.corrcoef(values, other)[0, 1]) < 0.1
    moved = [([turn("user", "q"), turn("assistant", "response 0")], [])]
    assert family.open(family.Config(), None).score(moved).values[0] != values[0]


def test_scoring_goes_block_by_block_and_never_twice(local, monkeypatch) -> None:
    monkeypatch.setattr(score, "BLOCK", 10)
    uid, ctx = rule(local, "length"), local.context()
    first = local.run("score", ctx, checkpoint=uid)
    assert first["n_scored"] == 2 * len(local.pairs) == len(ctx.scores[uid])
    assert [m["n_scored"] for m in ctx.metrics][:2] == [10, 20]
    assert local.run("score", ctx, checkpoint=uid)["n_scored"] == 0
    json.dumps(first)


def test_scoring_goes_on_where_it_was_stopped(local, monkeypatch) -> None:
    monkeypatch.setattr(score, "BLOCK", 10)
    uid = rule(local, "random")
    ctx = local.context(is_cancelled=lambda: len(ctx.scores.get(uid, {})) >= 30)
    with pytest.raises(JobCancelled):
        local.run("score", ctx, checkpoint=uid)
    assert len(ctx.scores[uid]) == 30
    ctx.is_cancelled = lambda: False
    assert local.run("score", ctx, checkpoint=uid)["n_scored"] == 2 * len(local.pairs) - 30


def test_a_trained_model_is_scored_and_evaluated(local) -> None:
    ctx = local.context()
    uid = local.train(ctx, epochs=4)["checkpoint"]
    found = local.run("evaluate", ctx, checkpoint=uid, slice_by=["topic", "nothing"])
    assert found["accuracy"]["value"] > 0.95
    assert found["accuracy"]["low"] < found["accuracy"]["value"]
    assert found["n_pairs"] == found["accuracy"]["n"] == len(local.pairs)
    assert found["mean_margin"] > 0
    assert sum(part["n_pairs"] for part in found["slices"]["topic"].values()) == len(local.pairs)
    assert list(found["slices"]["nothing"]) == ["(none)"]
    assert found["scoring"]["n_tokens"] > 0
    json.dumps(found)


def test_zero_margins_are_wrong_and_ties_are_left_out(local) -> None:
    same = [turn("assistant", "five!")]
    other = [turn("assistant", "eight...")]
    prompt = [turn("user", "q")]
    rows = [(same, other, "b"), (same, other, "a"), (same, [turn("assistant", "cinq!")], "a"), (same, other, "tie")]
    local.pairs = [
        PreferencePair(f"{i}", prompt, a, b, verdict, response_a_id=2 * i + 1, response_b_id=2 * i + 2)
        for i, (a, b, verdict) in enumerate(rows)
    ]
    found = local.run("evaluate", checkpoint=rule(local, "length"))
    assert found["accuracy"]["value"] == pytest.approx(1 / 3)
    assert (found["n_pairs"], found["n_zero_margin"], found["n_tie"], found["n_unscored"]) == (3, 1, 1, 0)
    assert found["mean_margin"] == pytest.approx((3 - 3 + 0) / 3)


def test_nothing_to_evaluate_on(local) -> None:
    local.pairs = make_pairs(3, tie_every=1)
    with pytest.raises(JobError, match="no pair with a chosen") as caught:
        local.run("evaluate", checkpoint=rule(local, "length"))
    assert caught.value.hint


def test_many_slices_end_in_one() -> None:
    n = 120
    pairs = ScoredPairs(np.ones(n), np.zeros(n), meta=[{"k": i} for i in range(n)])
    found = slice_metrics(pairs, ["k"])["k"]
    assert len(found) == 51
    assert next(iter(found)) == "(all others)"
    assert found["(all others)"]["n_pairs"] == 70


def test_cut_texts_are_told(local) -> None:
    local.model = {"backbone": "tiny-encoder", "max_length": 40}
    ctx = local.context()
    found = local.run("score", ctx, checkpoint=local.train(ctx, max_steps=1)["checkpoint"])
    assert found["n_truncated"] > 0
    assert found["n_response_cut"] > 0
    assert any("lost their end" in line for level, line in ctx.logs if level == "warning")


def test_environment() -> None:
    found = json.loads(json.dumps(describe_environment()))
    assert found["versions"]["numpy"] == np.__version__
    assert found["n_cpus"] == available_cpus() >= 1
    assert peak_rss_mib() > 10
    assert keep_freed_memory() in (True, False)


def test_pair_sides() -> None:
    pair = make_pairs(1)[0]
    assert {id(pair.chosen), id(pair.rejected)} == {id(pair.response_a), id(pair.response_b)}
    tie = make_pairs(1, tie_every=1)[0]
    with pytest.raises(ValueError, match="no response was chosen"):
        _ = tie.chosen
    with pytest.raises(ValueError, match="no response was rejected"):
        _ = tie.rejected
