"""Policy discriminators: the text they read, the pool they learn from, and the real job in both stages."""

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.workers.making import LocalRun, make_pairs, turn
from tests.workers.policy_world import (
    HELD_OUT,
    Discriminator,
    distance_curves,
    first_stage,
    second_stage,
    texts_after_prefixes,
)
from workers.data.comparison_text import comparison_text
from workers.data.policy_pool import (
    MarkovPolicy,
    finished,
    jensen_shannon,
    length_matched,
    mixed_policy,
    pool_pairs,
    prefixes_of,
    random_policy,
    ranked_pair,
    shorten_loops,
    shuffled_policies,
)
from workers.errors import JobError
from workers.families import FAMILIES
from workers.nn.backbone import load_backbone
from workers.specs import parse_spec
from workers.stats.power_law import fit_power_law

POLAR = FAMILIES.get("policy_discriminator")
PROMPT = [turn("system", "Be brief."), turn("user", "Why?")]
REFERENCE, RESPONSE = [turn("assistant", "So.")], [turn("assistant", "Thus."), turn("user", "And?")]


def config(**settings):
    return parse_spec(POLAR.Config, {"backbone": "tiny-causal", **settings})


def opened(**settings):
    """Settings, backbone and renderer."""
    found = config(**settings)
    backbone = POLAR.load_backbone(found)
    return found, backbone, POLAR.renderer(found, backbone)


def encoded(prompt: str, reference: str, response: str, **settings):
    found, _, renderer = opened(**settings)
    item = ([turn("user", prompt)], [turn("assistant", response)], {"reference": [turn("assistant", reference)]})
    [one] = POLAR.encode(found, renderer, [item])
    return one, renderer


def referenced(pairs):
    return [replace(p, reference=[turn("assistant", f"good {i}")]) for i, p in enumerate(pairs)]


# --- the text


def test_the_layout_is_prompt_reference_separator_prompt_response_reward_token() -> None:
    names = {"separator": "<|reward|>", "reward_token": "<|score|>"}
    assert comparison_text(PROMPT, REFERENCE, RESPONSE, **names) == (
        "Be brief.\nWhy?\nSo.<|reward|>Be brief.\nWhy?\nThus.\nAnd?<|score|>"
    )
    assert comparison_text(PROMPT, REFERENCE, REFERENCE, **names, is_continued=True) == (
        "Be brief.\nWhy?So.<|reward|>Be brief.\nWhy?So.<|score|>"
    )


@pytest.mark.parametrize("joint", ["newline", "none"])
def test_the_ids_are_those_of_the_text(joint) -> None:
    found, backbone, renderer = opened(joint=joint)
    item = (PROMPT, RESPONSE, {"reference": REFERENCE})
    [one] = POLAR.encode(found, renderer, [item])
    assert backbone.tokenizer.decode(one.ids) == renderer.whole_text(item)
    assert one.ids[-1] == renderer.reward_id
    assert (one.n_prompt_dropped, one.n_response_dropped) == (0, 0)


def test_a_long_prompt_keeps_its_tail_in_both_places_and_long_answers_lose_their_end() -> None:
    prompt, reference, response = "0123456789" * 20, "r" * 50 + "R" * 50, "c" * 50 + "C" * 50
    one, renderer = encoded(prompt, reference, response, max_length=128)
    text = renderer.tokenizer.decode(one.ids)
    first, second = text.removesuffix("<|score|>").split("<|reward|>")
    assert first.split("\n")[1] == "r" * 31  # a quarter of 128, its newline counted
    assert second.split("\n")[1] == "c" * 31
    assert first.split("\n")[0] == second.split("\n")[0] == prompt[-(128 - 4 - 64) // 2 :]
    assert len(one) == 2 * 30 + 2 * 32 + 2
    assert one.n_response == 33
    assert one.n_response_dropped == 101 - 32
    assert one.n_prompt_dropped == 200 - 30 + 101 - 32


def test_short_answers_leave_their_room_to_the_prompt() -> None:
    one, renderer = encoded("p" * 200, "r", "c" * 9, max_length=128)
    text = renderer.tokenizer.decode(one.ids)
    assert [part.count("p") for part in text.split("<|reward|>")] == [(128 - 4 - 2 - 10) // 2] * 2
    most, _ = encoded("p", "r" * 90, "c" * 90, max_length=128, most_answer_tokens=1000)
    assert len(most) <= 128  # never more than what there is room for


def test_special_tokens_in_a_text_are_characters_like_any_other() -> None:
    one, renderer = encoded("<|reward|>", "<|score|>", "<|reward|>")
    assert (one.ids == renderer.separator_id).sum() == 1
    assert (one.ids == renderer.reward_id).sum() == 1


def test_the_tokens_are_new_and_never_the_end_token() -> None:
    _, backbone, renderer = opened()
    plain = load_backbone("tiny-causal")
    before = plain.model.get_input_embeddings().num_embeddings
    assert backbone.model.get_input_embeddings().num_embeddings == before + 2 == backbone.model.config.vocab_size
    assert {renderer.separator_id, renderer.reward_id} == {before, before + 1}
    assert backbone.tokenizer.eos_token_id == plain.tokenizer.eos_token_id
    again = opened()[1].model.get_input_embeddings().weight
    assert (again == backbone.model.get_input_embeddings().weight).all()
    for settings in ({"reward_token": "[SEP]"}, {"separator_token": "[PAD]"}, {"reward_token": "<|reward|>"}):
        with pytest.raises(JobError, match="has another use"):
            opened(**settings)


def test_an_encoder_and_a_checkpoint_without_the_tokens_are_refused() -> None:
    with pytest.raises(JobError, match="needs a causal language model"):
        opened(backbone="tiny-encoder")
    with pytest.raises(JobError, match=r"no token <\|reward\|>"):
        POLAR.renderer(config(), load_backbone("tiny-causal"))


# --- rows


def test_rows_without_a_reference_or_that_repeat_it_are_left_out_and_counted(tmp_path) -> None:
    rows = referenced(make_pairs(24))
    rows[0] = replace(rows[0], reference=None)
    rows[1] = replace(rows[1], reference=rows[1].response_b)
    told = LocalRun(tmp_path, rows, {"backbone": "tiny-causal"}, "policy_discriminator").train(max_steps=1)
    assert told["left_out"] == {"no reference": 1, "a response is the reference itself": 1}
    bare = LocalRun(tmp_path / "bare", make_pairs(4), {"backbone": "tiny-causal"}, "policy_discriminator")
    with pytest.raises(JobError, match="4 no reference"):
        bare.train()


def test_both_stages_train_through_the_real_job(tmp_path) -> None:
    pool, rows = small_pool(40), referenced(make_pairs(40))
    first = LocalRun(tmp_path / "1", pool, {"backbone": "tiny-causal", "joint": "none"}, "policy_discriminator")
    ctx = first.context()
    told = first.train(ctx)
    assert told["objective"] == "bradley_terry"
    assert told["probe_difference"] < 1e-4
    stage = LocalRun(tmp_path / "2", rows, {"backbone": "tiny-causal"}, "policy_discriminator", ctx.checkpoints)
    ctx = stage.context()
    stage.train(ctx, start_from=told["checkpoint"], epochs=3)
    assert any("backbone and head" in str(line) for line in ctx.logs)
    scorer = POLAR.open(parse_spec(POLAR.Config, stage.model), ctx.work_dir / "checkpoint")
    items = [(p.prompt, p.response_a, {"reference": p.reference}) for p in rows[:9]]
    together, alone = scorer.score(items), [scorer.score([item]).values[0] for item in items]
    np.testing.assert_allclose(together.values, alone, atol=1e-4)
    assert set(together.parts[0]["comparable_within"].split()) >= {"prompt", "reference"}
    mixed = scorer.score([items[0], items[1][:2], items[2]])
    assert math.isnan(mixed.values[1])
    assert mixed.parts[1] == {"unscored": "no reference"}
    np.testing.assert_allclose(mixed.values[[0, 2]], together.values[[0, 2]], atol=1e-4)


def test_the_reward_is_not_symmetric_and_depends_on_the_reference(tmp_path) -> None:
    run = LocalRun(tmp_path, small_pool(16), {"backbone": "tiny-causal"}, "policy_discriminator")
    ctx = run.context()
    run.train(ctx)
    scorer = POLAR.open(parse_spec(POLAR.Config, run.model), ctx.work_dir / "checkpoint")
    x, y, z = ([turn("assistant", text)] for text in ("aabb", "cdcd", "hhhh"))
    found = scorer.score([(PROMPT, x, {"reference": y}), (PROMPT, y, {"reference": x}), (PROMPT, x, {"reference": z})])
    assert len(set(found.values)) == 3


# --- the pool


def small_pool(n: int, *, seed: int = 0):
    rng = np.random.default_rng(seed)
    policies = [random_policy(f"p{i}", rng) for i in range(4)]
    return pool_pairs(policies, ["ab"] * n, length=12, rng=rng).pairs


def test_a_pair_is_two_texts_of_one_policy_and_one_of_another() -> None:
    rng = np.random.default_rng(0)
    shares = [np.full((2, 2), 0.5), np.array([[0.9, 0.1], [0.9, 0.1]])]
    policies = [MarkovPolicy(f"p{i}", "xy", share) for i, share in enumerate(shares)]
    found = pool_pairs(policies, ["x"] * 300, length=40, rng=rng)
    assert found.dropped == {}
    for pair in found.pairs:
        count = {who: pair.__getattribute__(who)[0]["content"].count("x") for who in ("chosen", "rejected")}
        own = pair.reference[0]["content"].count("x")
        assert pair.meta["policy"] == ("p1" if own > 28 else "p0") or 25 < own < 32
        assert count["chosen"] != 0
    firsts = [pair.verdict == "a" for pair in found.pairs]
    assert 0.4 < np.mean(firsts) < 0.6
    closer = [abs(_x(p.chosen) - _x(p.reference)) < abs(_x(p.rejected) - _x(p.reference)) for p in found.pairs]
    assert np.mean(closer) > 0.97


def _x(messages) -> int:
    return messages[0]["content"].count("x")


def test_duplicates_are_dropped_and_counted() -> None:
    always = [MarkovPolicy(name, "xy", np.array([[x, 1 - x], [x, 1 - x]])) for name, x in (("x", 1.0), ("y", 0.0))]
    found = pool_pairs(always, ["x"] * 5, length=4, rng=np.random.default_rng(0))
    assert (found.pairs, found.dropped) == ([], {"positive is the reference": 5})
    coin = MarkovPolicy("c", "xy", np.full((2, 2), 0.5))
    twin = replace(coin, name="d")
    found = pool_pairs([coin, twin], ["x"] * 400, length=3, rng=np.random.default_rng(0))
    assert found.dropped["negative is another's text"] > 50
    assert found.dropped["positive is the reference"] > 20
    assert sum(found.dropped.values()) + len(found.pairs) == 400
    none = pool_pairs([coin, twin], ["x"] * 3, length=3, rng=np.random.default_rng(0), tidy=lambda _: "")
    assert none.dropped == {"nothing written": 3}
    with pytest.raises(ValueError, match="two policies"):
        pool_pairs([coin, coin], ["x"], length=3, rng=np.random.default_rng(0))


def test_a_chain_writes_by_its_transitions_and_settings() -> None:
    rng = np.random.default_rng(0)
    rows = np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.25, 0.25, 0.5]])
    chain = MarkovPolicy("m", "abc", rows)
    text = chain.write("a", 30_000, rng)
    steps = np.zeros((3, 3))
    for one, two in zip("a" + text, text, strict=False):
        steps["abc".index(one), "abc".index(two)] += 1
    np.testing.assert_allclose(steps / steps.sum(axis=1, keepdims=True), rows, atol=0.02)
    np.testing.assert_allclose(chain.sampled(top_p=1.0).transitions, rows)
    np.testing.assert_allclose(chain.sampled(top_p=0.75).transitions[0], [0.625, 0.375, 0])
    np.testing.assert_allclose(chain.sampled(top_p=1.0, top_k=1).transitions, np.eye(3)[[0, 1, 2]])
    hot, cold = (chain.sampled(top_p=1.0, temperature=t).transitions[0] for t in (2.0, 0.5))
    np.testing.assert_allclose(cold, np.array([0.25, 0.09, 0.04]) / 0.38)
    assert hot.max() < 0.5 < cold.max()
    assert chain.log_likelihood("ab") == pytest.approx(math.log(0.3))


def test_distance_between_policies() -> None:
    rng = np.random.default_rng(1)
    p, q = random_policy("p", rng), random_policy("q", rng)
    away = [jensen_shannon(p, mixed_policy(p, q, share)) for share in (0, 0.25, 0.5, 0.75, 1)]
    assert away[0] == 0
    assert away == sorted(away)
    apart = [MarkovPolicy(name, "xy", np.array([[x, 1 - x]] * 2)) for name, x in (("x", 1.0), ("y", 0.0))]
    assert jensen_shannon(*apart) == pytest.approx(math.log(2))


def test_texts_are_tidied() -> None:
    assert shorten_loops("so " + "ha" * 9 + " end") == "so hahaha end"
    assert shorten_loops("abc" * 3) == "abc" * 3
    assert finished("One. Two! Thr") == "One. Two!"
    assert finished("no end") == "no end"
    found = prefixes_of(["abcdef", "x"], 200, np.random.default_rng(0), shortest=2, longest=4)
    assert {len(one) for one in found} == {1, 2, 3, 4}
    assert all("abcdef".startswith(one) or one == "x" for one in found)


def test_controls_and_rankings() -> None:
    pairs = small_pool(200)
    shuffled = shuffled_policies(pairs, np.random.default_rng(0))
    assert 0.4 < np.mean([a.verdict == b.verdict for a, b in zip(pairs, shuffled, strict=True)]) < 0.6
    assert len(length_matched(pairs)) == len(pairs)
    assert length_matched([replace(pairs[0], response_a=[turn("assistant", "x")])]) == []
    row = ranked_pair("r", "why", ["best", "fine", "poor"], is_a=False)
    texts = [m[0]["content"] for m in (row.reference, row.chosen, row.rejected)]
    assert texts == ["best", "fine", "poor"]
    with pytest.raises(ValueError, match="three different"):
        ranked_pair("r", "why", ["best", "best", "poor"])


# --- scaling


@pytest.mark.parametrize(("coefficient", "exponent", "start", "end"), [(0.9, -0.0425, 50, 1000), (2.4, -0.342, 1, 500)])
def test_a_planted_power_law_is_recovered_within_two_percent(coefficient, exponent, start, end) -> None:
    rng = np.random.default_rng(0)
    x = np.geomspace(start, end, 12)
    y = coefficient * x**exponent * np.exp(rng.normal(0, 0.001, 12))
    law = fit_power_law(x, y)
    assert law.coefficient == pytest.approx(coefficient, rel=0.02)
    assert law.exponent == pytest.approx(exponent, rel=0.02)
    assert law.low < exponent < law.high
    assert 0.98 < law.r2 < 1
    np.testing.assert_allclose(law.at(x), y, rtol=0.01)


def test_the_interval_of_the_exponent_covers_as_often_as_it_says() -> None:
    rng, x, inside = np.random.default_rng(1), np.geomspace(1, 100, 8), 0
    for _ in range(400):
        law = fit_power_law(x, 3 * x**-0.2 * np.exp(rng.normal(0, 0.05, 8)))
        inside += law.low < -0.2 < law.high
    assert 0.92 <= inside / 400 <= 0.98


def test_what_has_no_power_law_is_refused() -> None:
    for x, y in (([1, 2], [1]), ([1, 2], [1, 0]), ([1, 1], [1, 2]), ([1, math.nan], [1, 2])):
        with pytest.raises(ValueError, match="power law needs"):
            fit_power_law(x, y)
    assert math.isnan(fit_power_law([1, 2], [3, 2]).low)
    assert fit_power_law([1, 2], [3, 2]).as_json()["low"] is None


# --- what it learns


@pytest.fixture(scope="module")
def stage_one(tmp_path_factory):
    return first_stage(tmp_path_factory.mktemp("polar"))


@pytest.mark.slow
def test_it_knows_the_same_policy_also_of_policies_it_never_saw(stage_one) -> None:
    model, _, policies = stage_one
    seen, unseen = (texts_after_prefixes(own, 600, seed=7) for own in (policies[:-HELD_OUT], policies[-HELD_OUT:]))
    told = {"seen": model.accuracy(seen), "held out": model.accuracy(unseen)}
    told["matched"] = model.accuracy(length_matched(seen))
    told["without reference"] = model.accuracy(seen, has_reference=False)
    print(told, model.result["n_parameters"])
    assert told["seen"] >= 0.85
    assert told["matched"] == told["seen"]  # every text of this world has the same length
    assert told["held out"] >= 0.75
    assert told["without reference"] <= told["seen"] - 0.10


@pytest.mark.slow
def test_shuffled_policies_teach_nothing(stage_one, tmp_path) -> None:
    _, backbone, policies = stage_one
    rng = np.random.default_rng(3)
    pairs = shuffled_policies(texts_after_prefixes(policies[:-HELD_OUT], 1500, seed=1), rng)
    model = Discriminator(tmp_path, backbone, pairs)
    held_out = texts_after_prefixes(policies[:-HELD_OUT], 2000, seed=8)
    told = {"shuffled": model.accuracy(shuffled_policies(held_out, rng)), "true": model.accuracy(held_out)}
    print(told)
    assert 0.47 <= told["shuffled"] <= 0.53


@pytest.mark.slow
def test_the_reward_falls_as_a_policy_moves_away(stage_one) -> None:
    model, _, policies = stage_one
    correlations, curves = distance_curves(model, policies[-HELD_OUT:])
    print(correlations, np.round(curves, 3).tolist())
    assert max(correlations) <= -0.9
    assert all(np.diff(np.mean(curves, axis=0)) < 0)


@pytest.mark.slow
def test_stage_two_needs_stage_one(stage_one, tmp_path) -> None:
    model, backbone, policies = stage_one
    told = second_stage(tmp_path, model, backbone, policies)
    print(told)
    assert told["both stages"] >= 0.8
    assert told["both stages"] >= told["second alone"] + 0.05
