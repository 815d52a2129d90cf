"""The families autoregressive and implicit through the real jobs, and what they refuse."""

import json
import math

import numpy as np
import pytest
import torch

from tests.workers.likelihood_world import make_pair, vowel_pairs
from tests.workers.making import LocalRun, make_pairs, turn
from workers.data.schema import PreferencePair
from workers.data.vocabularies import tokenizer_difference
from workers.errors import JobError, SpecError
from workers.families import FAMILIES
from workers.jobs.train_rm import check_training
from workers.nn.checkpoints import read_about, weights_differ
from workers.nn.hinge import hinge_pair_loss
from workers.nn.small_lm import make_small_lm
from workers.nn.tiny import tiny_causal_lm, tiny_tokenizer
from workers.objectives import OBJECTIVES
from workers.specs import parse_spec

KINDS = [
    ("autoregressive", {"backbone": "tiny-causal"}),
    ("autoregressive", {"backbone": "tiny-causal-tied"}),
    ("implicit", {"backbone": "tiny-causal"}),
    ("implicit", {"backbone": "tiny-causal-tied", "beta": 0.3}),
    ("implicit", {"backbone": "tiny-causal", "reference": "none"}),
]
IDS = ["autoregressive", "autoregressive-tied", "implicit", "implicit-tied", "without-reference"]
QUICK = {"max_steps": 6, "learning_rate": 3e-3}


@pytest.fixture
def run(tmp_path):
    def make(family: str = "implicit", pairs=None, **model) -> LocalRun:
        model = {"backbone": "tiny-causal-tied", **model}
        return LocalRun(tmp_path, make_pairs(24) if pairs is None else pairs, model, family=family)

    return make


def rewards_of(local: LocalRun, result: dict, **options):
    """Rewards by a scorer opened afresh, of every response_a."""
    family = FAMILIES.get(local.family)
    path = local.checkpoints[result["checkpoint"]].path
    scorer = family.open(parse_spec(family.Config, local.model), path, **options)
    return scorer.score([(p.prompt, p.response_a) for p in local.pairs])


@pytest.mark.parametrize(("family", "model"), KINDS, ids=IDS)
def test_trained_stored_and_scored_again(run, family, model) -> None:
    local = run(family, **model)
    ctx = local.context()
    result = local.train(ctx, **QUICK)
    assert result["probe_difference"] < 1e-4
    assert result["objective"] == ("dpo" if family == "implicit" else "likelihood_bt")
    found = rewards_of(local, result)
    stored = read_about(local.checkpoints[result["checkpoint"]].path)["probes"]
    assert found.values[: len(stored)] == pytest.approx([probe["reward"] for probe in stored], abs=1e-4)
    assert len(set(np.round(found.values, 3))) > 4
    assert found.parts is None
    scored = local.run("score", ctx, checkpoint=result["checkpoint"])
    assert (scored["n_scored"], scored["n_unscored"]) == (48, 0)
    told = rewards_of(local, result, per_token=True)
    assert [sum(t["reward"] for t in part["tokens"]) for part in told.parts] == pytest.approx(found.values, abs=1e-3)
    texts = "".join(token["text"] for token in told.parts[0]["tokens"])
    assert texts == local.pairs[0].response_a[0]["content"] + "[SEP]"
    json.dumps([result, told.parts])


def test_the_implicit_loss_starts_at_log_two_and_learns(run) -> None:
    local = run(pairs=make_pairs(48))
    ctx = local.context()
    result = local.train(ctx, epochs=3)
    losses = [m["loss"] for m in ctx.metrics if "loss" in m]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-5)
    assert result["validation_final"]["accuracy"]["value"] == 1.0
    assert -1 <= result["finished"]["length_correlation"]["of_margins"] <= 1


def test_killed_and_resumed_is_the_same(run) -> None:
    local = run(beta=0.3)
    whole = local.train(local.context("whole"), **QUICK)
    ctx = local.context("parts")

    class Stop(Exception):
        pass

    report = ctx.metric

    def metric(step, **values):
        report(step, **values)
        if step == 4:
            raise Stop

    ctx.metric = metric
    with pytest.raises(Stop):
        local.train(ctx, checkpoint_every=2, **QUICK)
    again = local.train(local.context("parts", attempt=2), checkpoint_every=2, **QUICK)
    paths = [local.checkpoints[r["checkpoint"]].path / "weights.safetensors" for r in (whole, again)]
    assert not weights_differ(*paths)


def test_lora_keeps_the_reference_as_it_was(run) -> None:
    local = run()
    result = local.train(lora_rank=4, **QUICK)
    assert result["probe_difference"] < 1e-4
    path = local.checkpoints[result["checkpoint"]].path
    from workers.nn.checkpoints import load_weights

    tensors = load_weights(path / "weights.safetensors").tensors
    start = tiny_causal_lm(is_tied=True).base_model.state_dict()
    assert all(torch.equal(tensors[f"reference.{name}"], start[name]) for name in start)
    assert any(not torch.equal(tensors[f"backbone.{name}"], start[name]) for name in start)


def test_a_checkpoint_to_start_from_is_the_new_reference(run) -> None:
    local = run()
    first = local.train(local.context("first"), **QUICK)
    ctx = local.context("second")
    second = local.train(ctx, start_from=first["checkpoint"], **QUICK)
    assert any("also the reference" in line for _, line in ctx.logs)
    assert next(m["loss"] for m in ctx.metrics if "loss" in m) == pytest.approx(math.log(2), abs=1e-5)
    from workers.nn.checkpoints import load_weights

    one, two = (
        load_weights(local.checkpoints[r["checkpoint"]].path / "weights.safetensors").tensors for r in (first, second)
    )
    assert torch.equal(two["reference.norm.weight"], one["backbone.norm.weight"])


def test_an_explicit_head_can_start_from_a_likelihood_but_not_the_other_way(run) -> None:
    local = run("autoregressive", backbone="tiny-causal")
    first = local.train(local.context("first"), **QUICK)
    local.family = "scalar_head"
    ctx = local.context("explicit")
    explicit = local.train(ctx, start_from=first["checkpoint"], **QUICK)
    assert any("the head is new" in line for _, line in ctx.logs)
    local.family = "autoregressive"
    with pytest.raises(JobError, match="no language-model head"):
        local.train(local.context("back"), start_from=explicit["checkpoint"], **QUICK)


# What cannot be read, and what is refused


def long_pairs() -> list[PreferencePair]:
    pairs = vowel_pairs(12)
    long, other = "ab" * 60, "ba" * 60
    return [
        *pairs,
        make_pair(100, (long, "abc"), is_first_better=True),
        make_pair(101, (long, other), is_first_better=False),
    ]


def test_responses_longer_than_the_context_are_left_out_and_named(run) -> None:
    local = run(pairs=long_pairs(), max_length=64)
    ctx = local.context()
    result = local.train(ctx, **QUICK)
    assert result["left_out"] == {"response longer than the model reads": 2}
    assert result["finished"]["unread"] == {"response longer than the model reads": ["pair-100", "pair-101"]}
    assert any("pair-100, pair-101" in line for _, line in ctx.logs)
    scored = local.run("score", ctx, checkpoint=result["checkpoint"])
    assert (scored["n_scored"], scored["n_unscored"]) == (25, 3)
    assert sum("was not scored: response longer than the model reads" in line for _, line in ctx.logs) == 3
    found = local.run("evaluate", ctx, checkpoint=result["checkpoint"])
    assert (found["n_pairs"], found["n_unscored"]) == (12, 2)


def test_cut_on_request_and_flagged_and_then_only_beside_another_cut_one(run) -> None:
    local = run(pairs=long_pairs(), max_length=64, long_responses="cut")
    ctx = local.context()
    result = local.train(ctx, **QUICK)
    assert result["left_out"] == {"only one response cut": 1}
    assert result["finished"]["unread"] == {"only one response cut": ["pair-100"]}
    assert local.run("score", ctx, checkpoint=result["checkpoint"])["n_unscored"] == 0
    cut = {number: part for number, part in ctx.parts[result["checkpoint"]].items() if part}
    assert {number: sorted(part) for number, part in cut.items()} == {key: ["n_tokens_cut"] for key in (201, 203, 204)}


def test_nothing_but_long_responses(run) -> None:
    local = run(pairs=long_pairs()[-2:], max_length=64)
    with pytest.raises(JobError, match="pair-100, pair-101") as caught:
        local.train(**QUICK)
    assert "max_length" in caught.value.hint


def test_the_same_response_twice_is_dropped_and_counted(run) -> None:
    twin = make_pair(50, ("same", "same"), is_first_better=True)
    result = run(pairs=[*vowel_pairs(12), twin]).train(**QUICK)
    assert result["left_out"] == {"same response twice": 1}


def lm_folder(path, *, seed: int = 0, is_tied: bool = True, tokenizer=None):
    tiny_causal_lm(is_tied=is_tied, seed=seed).save_pretrained(path)
    (tokenizer or tiny_tokenizer("tiny-causal")).save_pretrained(path)
    return str(path)


def test_policy_and_reference_from_elsewhere_without_training(tmp_path) -> None:
    family = FAMILIES.get("implicit")
    policy, reference = lm_folder(tmp_path / "p"), lm_folder(tmp_path / "r", seed=1)
    items = [(p.prompt, p.response_a) for p in make_pairs(6)]
    found = family.open(family.Config(backbone=policy, reference=reference), None).score(items).values
    turned = family.open(family.Config(backbone=reference, reference=policy), None).score(items).values
    assert np.abs(found).min() > 0
    assert found == pytest.approx(-turned, abs=1e-4)
    with pytest.raises(JobError, match="every reward is 0 and every pair a tie"):
        family.open(family.Config(backbone=policy, reference=policy), None)
    with pytest.raises(JobError, match="no weights yet") as caught:
        family.open(family.Config(backbone=policy), None)
    assert "name a reference" in caught.value.hint


def test_a_named_reference_is_kept_in_the_checkpoint(run, tmp_path) -> None:
    reference = lm_folder(tmp_path / "r", seed=1)
    local = run(reference=reference)
    result = local.train(**QUICK)
    before = rewards_of(local, result).values
    lm_folder(tmp_path / "r", seed=2)
    assert rewards_of(local, result).values == pytest.approx(before, abs=1e-6)


def test_references_that_do_not_fit(tmp_path) -> None:
    family = FAMILIES.get("implicit")
    policy = lm_folder(tmp_path / "p")
    other = lm_folder(tmp_path / "t", tokenizer=shuffled_tokenizer())
    with pytest.raises(JobError, match="policy and reference use different tokenizers"):
        family.open(family.Config(backbone=policy, reference=other), None)
    shape = lm_folder(tmp_path / "s", is_tied=False)
    with pytest.raises(JobError, match="of another shape"):
        family.open(family.Config(backbone=policy, reference=shape), None)


def shuffled_tokenizer(*, more: int = 0):
    """The same tokens as the tiny tokenizer's, two of them exchanged, and more after them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    table = dict(tiny_tokenizer("tiny-causal").get_vocab())
    tokens = sorted(table, key=table.get)
    tokens[13], tokens[14] = tokens[14], tokens[13]
    tokens += [f"<extra {i}>" for i in range(more)]
    inner = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=[], unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", eos_token="[SEP]")


class Cutter:
    """A tokenizer with the table of another that cuts texts in its own way."""

    def __init__(self, like) -> None:
        self.like = like

    def get_vocab(self):
        return self.like.get_vocab()

    def __call__(self, text, **options):
        return {"input_ids": self.like(text, **options)["input_ids"][::-1]}


def test_tokenizers_are_compared_by_their_tables() -> None:
    own = tiny_tokenizer("tiny-causal")
    assert tokenizer_difference(own, tiny_tokenizer("tiny-causal")) is None
    assert tokenizer_difference(own, shuffled_tokenizer()) == (
        "base and reward model use different tokenizers (both of 261 tokens, first mismatch at id 13)"
    )
    assert tokenizer_difference(own, shuffled_tokenizer(more=4)) == (
        "base and reward model use different tokenizers (sizes 261 vs 265, first mismatch at id 13)"
    )
    told = tokenizer_difference(own, Cutter(own), names=("policy", "reference"))
    assert told == "policy and reference tokenise 'abc' differently"


@pytest.mark.parametrize(
    ("family", "spec", "pointer"),
    [
        ("autoregressive", {"objective": "bradley_terry"}, "/objective"),
        ("scalar_head", {"objective": "dpo"}, "/objective"),
        ("implicit", {"freeze_backbone": True}, "/freeze_backbone"),
    ],
)
def test_combinations_that_are_refused_when_submitted(family, spec, pointer) -> None:
    from workers.jobs import JOBS

    parsed = parse_spec(JOBS.get("train_rm").Spec, {"reward_model": "m", "source": {"dataset": "d"}, **spec})
    with pytest.raises(SpecError) as caught:
        check_training(parsed, family, {})
    assert [e["pointer"] for e in caught.value.errors] == [pointer]


def test_an_encoder_is_refused(run) -> None:
    with pytest.raises(JobError, match="not a causal language model"):
        run(backbone="tiny-encoder").train(**QUICK)


@pytest.mark.parametrize("config", [{"beta": 0}, {"beta": float("nan")}, {"reference": " x"}, {"pooling": "mean"}])
def test_bad_settings(config) -> None:
    with pytest.raises(SpecError):
        parse_spec(FAMILIES.get("implicit").Config, config)


# Objectives


class View:
    """Rewards and targets of a batch, as a BatchView has them."""

    def __init__(self, objective, pairs, a, b, *, beta: float = 1.0, lengths=((1, 1),)) -> None:
        self.rewards = [torch.tensor(a, requires_grad=True), torch.tensor(b, requires_grad=True)]
        self.targets = objective.targets(pairs)
        self.net = type("N", (), {"beta": beta})()
        self.lengths = lengths

    def encoded(self, column):
        return [type("E", (), {"n_response": pair[column]})() for pair in self.lengths]


def loss_of(name: str, verdict: str, a: float, b: float, *, net_beta=1.0, lengths=((1, 1),), **config) -> float:
    entry = OBJECTIVES.get(name)
    objective = entry(entry.Config(**config))
    pair = PreferencePair("p", [turn("user", "q")], [turn("assistant", "x")], [turn("assistant", "y")], verdict)
    return objective.batch_loss(View(objective, [pair], [a], [b], beta=net_beta, lengths=lengths)).item()


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_losses_by_hand() -> None:
    assert loss_of("likelihood_bt", "a", -10.0, -14.0, beta=0.5) == pytest.approx(softplus(-2.0), rel=1e-5)
    assert loss_of("likelihood_bt", "b", -10.0, -14.0, beta=0.5) == pytest.approx(softplus(2.0), rel=1e-5)
    assert loss_of("likelihood_bt", "b", -14.0, -10.0, beta=0.5, offset=0.7) == pytest.approx(softplus(-1.3), rel=1e-5)
    smooth = 0.9 * softplus(-2.0) + 0.1 * softplus(2.0)
    assert loss_of("likelihood_bt", "a", -10.0, -14.0, beta=0.5, label_smoothing=0.1) == pytest.approx(smooth, rel=1e-5)
    assert loss_of("likelihood_bt", "a", -10.0, -11.0, beta=0.5, loss="hinge") == pytest.approx(0.5)
    assert loss_of("likelihood_bt", "b", -10.0, -11.0, beta=0.5, loss="hinge") == pytest.approx(1.5)
    assert loss_of("likelihood_bt", "a", -10.0, -14.0, beta=0.5, loss="hinge") == 0.0
    even = loss_of("likelihood_bt", "a", -10.0, -20.0, beta=1.0, length_normalised=True, lengths=((5, 10),))
    assert even == pytest.approx(math.log(2), rel=1e-5)
    assert loss_of("dpo", "a", 3.0, 1.0, net_beta=0.1) == pytest.approx(softplus(-2.0), rel=1e-5)
    assert loss_of("dpo", "a", 3.0, 1.0, net_beta=0.1, beta=0.2) == pytest.approx(softplus(-4.0), rel=1e-5)
    assert loss_of("dpo", "tie", 3.0, 1.0, ties="half") == pytest.approx((softplus(-2) + softplus(2)) / 2, rel=1e-5)


def test_exchanging_the_responses_of_a_hinge_changes_nothing() -> None:
    one, zero = np.array([1.0]), np.array([0.0])
    for z in (-2.0, 0.0, 0.5, 3.0):
        left = hinge_pair_loss(torch.tensor([z]), target=one, weight=2 * one, offset=0.2 * one)
        right = hinge_pair_loss(torch.tensor([-z]), target=zero, weight=2 * one, offset=-0.2 * one)
        assert left.item() == pytest.approx(right.item())
        assert left.item() == pytest.approx(2 * max(0.0, 1 - (z - 0.2)), abs=1e-6)


def test_a_small_language_model_learns_its_texts(tmp_path) -> None:
    items = [([turn("user", f"{i % 4}")], [turn("assistant", "abcabcabc")]) for i in range(16)]
    losses = make_small_lm(tmp_path / "lm", items, width=32, n_steps=60, batch=8, learning_rate=1e-2)
    assert losses[0] > 3
    assert losses[-1] < 0.3
    family = FAMILIES.get("autoregressive")
    local = LocalRun(tmp_path, make_pairs(12), {"backbone": str(tmp_path / "lm")}, family="autoregressive")
    result = local.train(**QUICK)
    assert family.open(parse_spec(family.Config, local.model), local.checkpoints[result["checkpoint"]].path)
