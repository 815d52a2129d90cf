"""A mixture of heads asked for the rewards of people, who are known by their pairs alone, in the real jobs."""

import numpy as np
import pytest

from tests.workers.making import LocalRun, turn
from tests.workers.tastes import item, pair_of, personal_run, scorer_of, taste_pairs
from workers.families import FAMILIES
from workers.jobs import JOBS
from workers.nn.backbone import load_backbone
from workers.nn.joined import split_texts
from workers.nn.tiny import TINY_NAMES
from workers.specs import parse_spec

PEOPLE = {
    "likes good": [pair_of("good good", "bad", n) for n in range(5)],
    "likes bad": [pair_of("bad", "good good", n) for n in range(5)],
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[LocalRun, str]:
    """Two heads whose router is told by the prompt; the pairs to be scored then have prompts that tell nothing."""
    pairs = taste_pairs(160, hint=True)
    local = personal_run(tmp_path_factory.mktemp("mixed"), "mixture", "tiny-encoder", pairs, n_heads=2)
    uid = local.train(epochs=20, learning_rate=1e-3)["checkpoint"]
    local.pairs = taste_pairs(60, seed=5)
    return local, uid


def right(rewards: dict[int, float], local: LocalRun, *, good_first: bool) -> float:
    """Share of the pairs in which the response with good words has the higher reward, or the lower."""
    return float(np.mean([(rewards[p.response_a_id] > rewards[p.response_b_id]) == good_first for p in local.pairs]))


def test_a_source_is_scored_for_people_of_opposite_tastes(trained) -> None:
    local, uid = trained
    ctx = local.context("scores")
    local.run("score", ctx, checkpoint=uid)
    plain = dict(ctx.scores[uid])
    keys = {}
    for name, pairs in PEOPLE.items():
        told = local.run("score", ctx, checkpoint=uid, person={"pairs": pairs})
        assert told["n_scored"] == 120
        keys[name] = uid + told["person"]["extra"]
    assert ctx.scores[uid] == plain
    assert {part["label"] for part in ctx.parts[uid].values()} == {"no context"}
    assert set(ctx.scores) == {uid, *keys.values()}
    assert len(set(keys.values())) == 2
    assert right(ctx.scores[keys["likes good"]], local, good_first=True) >= 0.95
    assert right(ctx.scores[keys["likes bad"]], local, good_first=False) >= 0.95
    for key in keys.values():
        assert {part["label"] for part in ctx.parts[key].values()} == {"personalised by own pairs"}
    assert local.run("score", ctx, checkpoint=uid, person={"pairs": PEOPLE["likes bad"]})["n_scored"] == 0


def test_a_rater_of_the_source_is_never_told_the_answer(trained) -> None:
    """The pair of the same prompt stays out, so those items have another context than the rest."""
    local, uid = trained
    ctx = local.context("rater")
    for number, good_first in (("0", True), ("1", False)):
        person = {"source": {"dataset": "pairs"}, "rater": f"rater {number}", "rater_key": "who"}
        told = local.run("score", ctx, checkpoint=uid, person=person)
        assert told["person"]["n_pairs"] >= 4
        assert right(ctx.scores[uid + told["person"]["extra"]], local, good_first=good_first) >= 0.95


def test_neither_batches_nor_order_change_a_reward(trained) -> None:
    local, uid = trained
    person = {"pairs": PEOPLE["likes bad"]}
    found = []
    for name, budget in (("usual", None), ("one by one", 64), ("reversed", 700)):
        ctx = local.context(name)
        ctx.pairs["pairs"] = local.pairs[::-1] if name == "reversed" else local.pairs
        key = local.run("score", ctx, checkpoint=uid, person=person, token_budget=budget)["person"]["extra"]
        found.append(ctx.scores[uid + key])
    assert list(found[0]) != list(found[2])
    scorer = scorer_of(local, {"checkpoint": uid})
    pair = local.pairs[7]
    alone = scorer.score([(pair.prompt, pair.response_a, {"context": PEOPLE["likes bad"]})]).values[0]
    assert found[0][pair.response_a_id] == pytest.approx(alone, abs=1e-4)
    for other in found[1:]:
        assert other == pytest.approx(found[0], abs=1e-4)


def test_typed_texts_are_rated_for_each_person(trained) -> None:
    local, uid = trained
    job = JOBS.get("score_text")
    values = {}
    for name, pairs in PEOPLE.items():
        raw = {
            "checkpoints": [uid],
            "prompt": [turn("user", "question 7")],
            "responses": [{"messages": [turn("assistant", text)]} for text in ("good good good", "bad bad")],
            "person": {"pairs": pairs},
        }
        (row,) = job().run(local.context("ask"), parse_spec(job.Spec, raw))["rewards"]
        assert row["error"] is None
        assert [part["label"] for part in row["parts"]] == ["personalised by own pairs"] * 2
        values[name] = row["values"]
    assert values["likes good"][0] > values["likes good"][1]
    assert values["likes bad"][0] < values["likes bad"][1]


@pytest.mark.parametrize("backbone", TINY_NAMES)
@pytest.mark.parametrize("name", ["mixture", "latent_user"])
def test_a_context_that_items_share_is_tokenised_once(backbone, name, monkeypatch) -> None:
    family = FAMILIES.get(name)
    config = family.Config(backbone=backbone)
    renderer = family.renderer(config, load_backbone(backbone))
    others = [item("lone"), item("none", {"context": []}), item("other", {"context": PEOPLE["likes good"]})]
    items = [*(item(f"text {n}", {"context": PEOPLE["likes bad"]}) for n in range(8)), *others]
    alone = [family.encode(config, renderer, [one])[0] for one in items]
    read, encode = [], renderer.encode
    monkeypatch.setattr(renderer, "encode", lambda texts: read.extend(texts) or encode(texts))
    together = family.encode(config, renderer, items)
    assert len(read) == len(items) + 2 * 2 * 5
    for one, found in zip(alone, together, strict=True):
        assert np.array_equal(one.ids, found.ids)
        assert one.n_response == found.n_response
        assert [len(text) for text in split_texts(one)[1]] == [len(text) for text in split_texts(found)[1]]
