"""Mixtures and latent users end to end: trained by the real job on texts, stored, verified, opened and scored."""

from dataclasses import replace

import numpy as np
import pytest

from tests.workers.making import turn
from tests.workers.tastes import WORDS, item, pair_of, personal_run, scorer_of, taste_pairs
from workers.errors import JobError, SpecError
from workers.families import FAMILIES
from workers.nn.backbone import load_backbone
from workers.nn.joined import join_texts, split_texts
from workers.nn.tiny import TINY_NAMES


@pytest.mark.parametrize("backbone", TINY_NAMES)
def test_a_mixture_is_trained_and_then_routed_by_contexts(tmp_path, backbone) -> None:
    local = personal_run(tmp_path, "mixture", backbone, taste_pairs(160, hint=True), n_heads=2)
    ctx = local.context("heads")
    heads = local.train(ctx, epochs=20, rater_key="who", learning_rate=1e-3)
    assert heads["backbone_frozen"]
    assert heads["objective"] == "mixture_nll"
    assert heads["probe_difference"] < 1e-4
    assert heads["finished"]["gain_over_coin"]["low"] > 0.02
    assert heads["finished"]["tastes"] == [[1], [2]]
    assert len(heads["finished"]["raters"]) == 8
    plain = scorer_of(local, heads).score([item("good good"), item("good good", {"context": WORDS[0]})])
    assert [part["label"] for part in plain.parts] == ["no context", "not personalised"]
    assert plain.values[0] == pytest.approx(plain.values[1], abs=1e-5)

    local.pairs = taste_pairs(100, with_context=True)
    routed = local.train(
        local.context("router"),
        objective="mixture_router",
        start_from=heads["checkpoint"],
        epochs=20,
        learning_rate=2e-3,
    )
    assert routed["finished"]["n_contexts"] == 2
    items = [item(text, {"context": c}) for c in WORDS for text in ("good good", "bad bad")]
    found = scorer_of(local, routed).score([*items, item("good", {"context": "never seen"})])
    assert [part["label"] for part in found.parts] == ["personalised"] * 4 + ["not personalised"]
    assert found.values[0] > found.values[1]
    assert found.values[2] < found.values[3]
    assert routed["validation_final"]["accuracy"]["value"] >= 0.9

    scored = local.context("scores")
    told = local.run("score", scored, checkpoint=routed["checkpoint"])
    assert told["n_scored"] == 2 * len(local.pairs)
    assert {part["label"] for part in scored.parts[routed["checkpoint"]].values()} == {"personalised"}


def test_a_mixture_is_personalised_by_labelled_pairs(tmp_path) -> None:
    """Without training: the heads are weighed by how well they explain the pairs an item brings."""
    local = personal_run(tmp_path, "mixture", "tiny-encoder", taste_pairs(160, hint=True), n_heads=2)
    scorer = scorer_of(local, local.train(epochs=20, learning_rate=1e-3))
    people = [
        {"context": [pair_of(liked, other, n) for n in range(6)]}
        for liked, other in (("good good", "bad"), ("bad", "good good"))
    ]
    items = [item(text, extra) for extra in people for text in ("good good", "bad bad")]
    items += [item("good", {"context": []}), item("good"), item("good", {"context": "never seen"})]
    items += [item("good", {"context": [pair_of("good", "bad", 1)]})]
    found = scorer.score(items)
    assert found.values[0] > found.values[1]
    assert found.values[2] < found.values[3]
    labels = ["personalised by own pairs"] * 4 + ["no context"] * 2 + ["not personalised", "personalised by own pairs"]
    assert [part["label"] for part in found.parts] == labels
    assert found.parts[0]["router"] == pytest.approx(found.parts[1]["router"])
    alone = [scorer.score([one]).values[0] for one in items]
    assert found.values == pytest.approx(alone, abs=1e-5)
    backwards = {"context": people[0]["context"][::-1]}
    assert scorer.score([item("good good", backwards)]).values[0] == pytest.approx(found.values[0], abs=1e-5)

    family = FAMILIES.get("mixture")
    same = {"context": [pair_of("good", "good", 1)]}
    assert family.unfit(None, item("good", same)) == "context malformed"
    assert family.unfit(None, items[0]) is None
    with pytest.raises(JobError, match="same response twice"):
        scorer.score([item("good", same)])


def test_a_mixture_that_cannot_be_told_apart_is_warned_of_in_the_log(tmp_path) -> None:
    local = personal_run(tmp_path, "mixture", "tiny-encoder", taste_pairs(160), n_heads=2)
    ctx = local.context()
    finished = local.train(ctx, epochs=3, rater_key="who")["finished"]
    assert "Not identifiable" in finished["warnings"][0]  # the prompt says nothing of who asks
    assert finished["tastes"] == finished["raters"] == []
    assert ("warning", finished["warnings"][0]) in ctx.logs


@pytest.mark.parametrize("backbone", TINY_NAMES)
def test_a_latent_user_is_trained_and_scores_with_a_context(tmp_path, backbone) -> None:
    local = personal_run(tmp_path, "latent_user", backbone, taste_pairs(240, n_raters=12), latent=4, hidden=32)
    ctx = local.context()
    result = local.train(
        ctx,
        epochs=25,
        batch_pairs=16,
        rater_key="who",
        learning_rate=5e-4,
        eval_every=40,
        checkpoint_every=400,
        objective_config={"max_context": 4, "anneal_steps": 50, "beta": 1e-3},
    )
    assert result["backbone_frozen"]
    assert result["probe_difference"] < 1e-4
    assert any("no rater in both" in line for _, line in ctx.logs)
    assert result["finished"]["n_raters"] == 12
    assert result["finished"]["n_active_units"] >= 1
    assert result["validation_best"]["accuracy"]["value"] >= 0.9
    scorer = scorer_of(local, result)
    likes_good = {"context": [pair_of("good good", "bad", n) for n in range(4)]}
    likes_bad = {"context": [pair_of("bad", "good good", n) for n in range(4)]}
    items = [item(text, extra) for extra in (likes_good, likes_bad, {}) for text in ("good", "bad bad")]
    found = scorer.score(items)
    assert found.values[0] > found.values[1]
    assert found.values[2] < found.values[3]
    labels = ["personalised"] * 4 + ["not personalised: mean of all users"] * 2
    assert [part["label"] for part in found.parts] == labels
    assert [part["n_context"] for part in found.parts] == [4, 4, 4, 4, 0, 0]
    assert all(0 <= part["comparable"] <= 1 for part in found.parts)
    alone = [scorer.score([one]).values[0] for one in items]
    assert found.values == pytest.approx(alone, abs=1e-4)


def test_a_comparable_scale_is_stored_where_asked(tmp_path) -> None:
    pairs = taste_pairs(96)
    local = personal_run(tmp_path, "latent_user", "tiny-encoder", pairs, latent=2, hidden=16, scale="comparable")
    result = local.train(epochs=2, rater_key="who")
    found = scorer_of(local, result).score([item("good"), item("bad")])
    assert found.values == pytest.approx([part["comparable"] for part in found.parts])


def test_one_rater_and_no_rater_are_refused(tmp_path) -> None:
    local = personal_run(tmp_path, "latent_user", "tiny-encoder", taste_pairs(24, n_raters=1))
    with pytest.raises(JobError, match="not identifiable"):
        local.train(rater_key="who")
    with pytest.raises(JobError, match="24 pairs without a rater"):
        local.train(local.context("none"))


def test_ties_alone_are_nothing_to_learn_from(tmp_path) -> None:
    ties = [replace(pair, verdict="tie") for pair in taste_pairs(12)]
    for family in ("mixture", "latent_user"):
        local = personal_run(tmp_path / family, family, "tiny-encoder", ties)
        with pytest.raises(JobError, match="nothing to learn from"):
            local.train(rater_key="who")


def test_pairs_without_a_context_are_left_out_of_the_router(tmp_path) -> None:
    local = personal_run(tmp_path, "mixture", "tiny-encoder", taste_pairs(24))
    with pytest.raises(JobError, match="24 no context"):
        local.train(objective="mixture_router")


def test_wrong_combinations_are_refused_when_submitted(tmp_path) -> None:
    local = personal_run(tmp_path, "mixture", "tiny-encoder", taste_pairs(8))
    for family, objective in (
        ("mixture", "bradley_terry"),
        ("scalar_head", "mixture_nll"),
        ("mixture", "latent_user_elbo"),
    ):
        local.family = family
        with pytest.raises(SpecError, match="needs a family"):
            local.train(objective=objective)
    local.family = "latent_user"
    with pytest.raises(JobError, match="features of a frozen backbone"):
        local.train(freeze_backbone=False, rater_key="who", objective_config={"min_context": 1})


@pytest.mark.parametrize(
    ("context", "reason"),
    [
        ("likes cats", "is str, not a list"),
        ([1], "Pair 1 of the context of item 1 is int"),
        ([{"prompt": [], "chosen": [turn("assistant", "a")]}], "no messages under 'rejected'"),
        ([{"prompt": "x", "chosen": [], "rejected": []}], "no messages under 'prompt'"),
        ([pair_of("a", "a", 1)], "same response twice"),
        ([pair_of("a", "b", 1)] * 65, "65 pairs"),
    ],
)
def test_malformed_contexts(context, reason) -> None:
    family = FAMILIES.get("latent_user")
    config = family.Config(backbone="tiny-encoder")
    renderer = family.renderer(config, load_backbone("tiny-encoder"))
    with pytest.raises(JobError, match=reason):
        family.encode(config, renderer, [item("a", {"context": context})])
    assert family.unfit(config, item("a", {"context": context})) == "context malformed"
    mixture = FAMILIES.get("mixture")
    if not isinstance(context, str):
        with pytest.raises(JobError, match=reason):
            mixture.encode(mixture.Config(backbone="tiny-encoder"), renderer, [item("a", {"context": context})])
        assert mixture.unfit(mixture.Config(backbone="tiny-encoder"), item("a", {"context": context}))
    with pytest.raises(JobError, match="not a text but int"):
        mixture.encode(mixture.Config(backbone="tiny-encoder"), renderer, [item("a", {"context": 1})])


@pytest.mark.parametrize("backbone", TINY_NAMES)
def test_contexts_stand_before_the_prompt_and_fit(backbone) -> None:
    family = FAMILIES.get("mixture")
    config = family.Config(backbone=backbone, max_length=64)
    renderer = family.renderer(config, load_backbone(backbone))
    own, routed = family.encode(config, renderer, [item("answer"), item("answer", {"context": "be brief " * 40})])
    text, (context, before) = split_texts(routed)
    assert np.array_equal(text.ids, own.ids)
    assert len(context) == 32
    assert len(before) <= 64
    assert np.array_equal(before.ids[:32], context.ids)
    prompt = own.ids[len(renderer.start) : len(own) - own.n_response]
    assert np.array_equal(before.ids[32:], prompt[max(0, len(prompt) - 32) :])
    again = split_texts(join_texts(own, [context, before]))
    assert [len(other) for other in again[1]] == [32, len(before)]
    assert again[0].n_response == own.n_response


def test_a_persons_pairs_are_read_once_for_all_their_items(tmp_path, monkeypatch) -> None:
    local = personal_run(tmp_path, "latent_user", "tiny-encoder", taste_pairs(60))
    result = local.train(rater_key="who", epochs=1)
    pairs = [pair_of("good good", "bad", n) for n in range(8)]
    items = [item(f"text {n}", {"context": pairs}) for n in range(6)]
    alone = [float(scorer_of(local, result).score([one]).values[0]) for one in items]
    scorer = scorer_of(local, result)
    scorer.token_budget = 1  # every item in a batch of its own, as with long contexts
    read: list[int] = []
    pooled = scorer.net.pooled
    monkeypatch.setattr(scorer.net, "pooled", lambda batch: read.append(len(batch)) or pooled(batch))
    assert scorer.score(items).values == pytest.approx(alone, abs=1e-5)
    assert sum(read) == len(items) + 2 * len(pairs)
    scorer.net.train()
    assert not scorer.net.kept
