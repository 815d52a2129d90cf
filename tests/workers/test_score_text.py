"""Typed texts, scored by several checkpoints at once."""

import math

import pytest

from tests.workers.making import LocalRun, make_pairs, turn
from workers.context import CheckpointRef
from workers.errors import SpecError
from workers.families import FAMILIES
from workers.jobs import JOBS
from workers.specs import parse_spec

PROMPT = [turn("user", "question 1 why")]
TEXTS = ["good good good", "bad bad"]


def said(*texts, **more):
    return [{"messages": [turn("assistant", text)], **more} for text in texts]


@pytest.fixture
def play(tmp_path):
    run = LocalRun(tmp_path, make_pairs(24))

    def start(*refs: CheckpointRef, **spec):
        ctx = run.context("play")
        ctx.checkpoints.update({ref.uid: ref for ref in refs})
        job = JOBS.get("score_text")
        raw = {"checkpoints": [ref.uid for ref in refs], "prompt": PROMPT, "responses": said(*TEXTS), **spec}
        return job().run(ctx, parse_spec(job.Spec, raw))

    start.run = run
    return start


def trained(play, family="scalar_head", backbone="tiny-encoder", **spec):
    play.run.family, play.run.model = family, {"backbone": backbone}
    uid = play.run.train(play.run.context(f"train-{family}"), max_steps=4, **spec)["checkpoint"]
    return play.run.checkpoints[uid]


def test_the_rewards_are_those_of_the_scorer(play) -> None:
    reference = trained(play)
    found = play(reference, CheckpointRef("rule", "length", {}, None))
    family = FAMILIES.get("scalar_head")
    items = [(PROMPT, [turn("assistant", text)]) for text in TEXTS]
    own = family.open(parse_spec(family.Config, reference.config), reference.path).score(items).values
    assert found["rewards"][0]["values"] == pytest.approx(own.tolist(), abs=1e-6)
    assert found["rewards"][1]["values"] == [14, 7]
    assert (found["n_scored"], found["n_unscored"]) == (4, 0)


def test_tokens_are_told_when_asked_for_and_sum_to_the_reward(play) -> None:
    reference = trained(play, "autoregressive", "tiny-causal")
    (row,) = play(reference)["rewards"]
    tokens = row["parts"][0]["tokens"]
    assert "good good good" in "".join(token["text"] for token in tokens)
    assert sum(token["reward"] for token in tokens) == pytest.approx(row["values"][0], rel=1e-4)
    assert play(reference, per_token=False)["rewards"][0]["parts"] == [None, None]


def test_a_model_that_cannot_be_asked_says_why_and_the_others_go_on(play) -> None:
    refs = [
        CheckpointRef("untrained", "scalar_head", {}, None),
        CheckpointRef("verifier", "reference_verifier", {"backbone": "tiny-encoder"}, None),
        CheckpointRef("rule", "length", {}, None),
    ]
    untrained, verifier, rule = play(*refs)["rewards"]
    assert "no weights yet" in untrained["error"]["message"]
    assert untrained["values"] == [None, None]
    assert verifier["reasons"] == ["no reference answer"] * 2
    assert verifier["error"] is None
    assert rule["values"] == [14, 7]
    assert "no weights" in play(refs[1], reference="42")["rewards"][0]["error"]["message"]


def test_steps_that_are_sent_are_those_that_are_rated(play, tmp_path) -> None:
    from workers.nn.checkpoints import write_checkpoint

    family = FAMILIES.get("process")
    config = parse_spec(family.Config, {"backbone": "tiny-causal"})
    backbone = family.load_backbone(config)
    write_checkpoint(tmp_path / "process", family.net(config, backbone), backbone, {})
    reference = CheckpointRef("process", "process", config.model_dump(), tmp_path / "process")
    text = "first we add\nthen we divide"
    (row,) = play(reference, responses=[*said(text), *said(text, steps=["first", "we add\nthen we divide"])])["rewards"]
    assert [[step["text"] for step in part["steps"]] for part in row["parts"]] == [
        ["first we add", "then we divide"],
        ["first", "we add\nthen we divide"],
    ]
    for value, part in zip(row["values"], row["parts"], strict=True):
        assert value == pytest.approx(min(step["probability"] for step in part["steps"]), abs=1e-6)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"responses": said("  ")}, "some text"),
        ({"prompt": [turn("user", " ")]}, "some text"),
        ({"responses": []}, "responses"),
        ({"responses": said("one two", steps=["one", "three"])}, "steps of response 1"),
        ({"prompt": [turn("nobody", "x")]}, "role"),
        ({"checkpoints": ["a", "a"]}, "once"),
    ],
)
def test_bad_texts_are_refused_before_anything_is_loaded(play, spec, says) -> None:
    with pytest.raises(SpecError, match=says):
        play(CheckpointRef("rule", "length", {}, None), **spec)


def test_a_reward_that_is_not_a_number_is_no_reward(play, monkeypatch) -> None:
    from workers.families.length import LengthScorer

    real = LengthScorer.score

    def broken(self, items, **options):
        scores = real(self, items, **options)
        scores.values[0] = math.nan
        return scores

    monkeypatch.setattr(LengthScorer, "score", broken)
    (row,) = play(CheckpointRef("rule", "length", {}, None))["rewards"]
    assert row["values"] == [None, 7.0]
    assert row["reasons"] == ["its reward is not a number", None]
