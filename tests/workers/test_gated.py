"""The gate over ratings: its score, its transform against verbosity, what it learns and what it may see."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from tests.workers.attributes_world import (
    PLANTED,
    feature_trainer,
    pair_targets_of,
    rated_pairs,
    rated_rows,
    train_on_ratings,
)
from tests.workers.making import LocalRun, turn
from workers.errors import JobError, SpecError
from workers.families import FAMILIES
from workers.families.attributes import reading
from workers.nn.backbone import load_backbone
from workers.nn.gated_head import GatedHead
from workers.nn.gating import clear_of_verbosity
from workers.nn.units import Features

FAMILY = FAMILIES.get("gated")
GATE = {"gate_width": 64, "gate_layers": 2}


def gated_head(k: int, width: int, **options) -> GatedHead:
    """Ratings are the first k features as they are."""
    torch.manual_seed(0)
    names = [*(f"x{i}" for i in range(k - 1)), "verbosity"]
    head = GatedHead(width, told={"attributes": names}, **{"layers": 2, "hidden": 64, **options})
    with torch.no_grad():
        head.stage1.weight.copy_(torch.eye(k, width))
    head.stage1.set_scale(torch.zeros(k), torch.ones(k))
    return head


# --- the score and what it is made of


@pytest.mark.parametrize("is_training", [True, False])
def test_the_score_is_the_weighted_sum_of_its_parts(is_training) -> None:
    head = gated_head(5, 8).train(is_training)
    head.set_transform(torch.eye(5) - 0.3 * torch.nn.functional.one_hot(torch.tensor(4), 5)[:, None], torch.zeros(5))
    with torch.no_grad():
        head.log_scale.fill_(0.7)
        head.out.weight.mul_(60)
    outputs = head(3 * torch.randn(200, 8), torch.randn(200, 8))
    scores = head.reward(outputs)
    for told, score in zip(head.parts(outputs), scores.tolist(), strict=True):
        total = sum(told["coefficients"][name] * told["rewards"][name] for name in head.names)
        assert abs(total - score) <= 1e-4
        assert told["score"] == pytest.approx(score)
        assert all(weight >= 0 for weight in told["gating"].values())
        assert sum(told["gating"].values()) == pytest.approx(np.exp(0.7), abs=1e-4)
        first = [top["attribute"] for top in told["top3"]]
        assert first == sorted(head.names, key=lambda name: -abs(told["coefficients"][name]))[:3]
    assert max(g for told in head.parts(outputs) for g in told["gating"].values()) > 1.0  # not a constant gate
    json.dumps(head.parts(outputs), allow_nan=False)


def test_the_temperature_is_applied_once_and_stored() -> None:
    head = gated_head(3, 4, temperature=10.0).eval()
    with torch.no_grad():
        head.out.bias.copy_(torch.tensor([0.0, 10.0, 20.0]))
        head.out.weight.zero_()
    expected = torch.softmax(torch.tensor([0.0, 1.0, 2.0]), 0)
    assert torch.allclose(head.gate(torch.randn(1, 4))[0], expected)
    assert head.state_dict()["temperature"].item() == 10.0
    other = gated_head(3, 4, temperature=1.0)
    other.load_state_dict(head.state_dict())
    assert torch.allclose(other.eval().gate(torch.randn(1, 4))[0], expected)


def test_a_fresh_gate_is_nearly_uniform() -> None:
    shares = gated_head(4, 8).eval().gate(torch.randn(50, 8))
    assert (shares - 0.25).abs().max() < 0.03


def test_the_transform_changes_the_loss_that_is_trained(tmp_path) -> None:
    """Trained and scored with the same transform, or the gate would learn to weigh what scoring takes away."""
    rng = np.random.default_rng(0)
    sides = tuple(Features(rng.normal(size=(32, 6)).astype(np.float32), np.ones((32, 6), np.float32)) for _ in "ab")
    losses = []
    for penalty in (0.0, 0.8):
        head = gated_head(3, 6, dropout=0.0)
        transform = torch.eye(3)
        transform[2] -= penalty
        head.set_transform(transform, torch.full((3,), penalty))
        made = feature_trainer(
            tmp_path / str(penalty), head, sides, pair_targets_of(rng.random(32) < 2), n_train=32, plan={"n_pairs": 32}
        )
        losses.append(made._backward(1, np.arange(32), 32.0)[0])
        view_loss = made.objective.validation(made.net, made.data, np.arange(32), budget=100).loss
        assert view_loss == pytest.approx(losses[-1], abs=1e-5)
    assert abs(losses[0] - losses[1]) > 0.01


def test_both_responses_of_a_prompt_meet_the_same_dropout() -> None:
    head = gated_head(3, 6, dropout=0.5).train()
    prompt = torch.randn(8, 6)
    torch.manual_seed(5)
    first, second = head.gate(prompt), head.gate(prompt)
    assert torch.equal(first, second)
    torch.manual_seed(6)
    assert not torch.equal(first, head.gate(prompt))
    assert not torch.equal(head.eval().gate(prompt), first)


# --- verbosity


def verbose_features(n: int, rng: np.random.Generator) -> Features:
    verbosity = rng.normal(size=(n, 1))
    x = np.hstack([rng.normal(size=(n, 3)) + 0.5 * verbosity, verbosity, rng.normal(size=(n, 2))])
    return Features(x.astype(np.float32), x.astype(np.float32))


def test_ratings_are_cleared_of_verbosity_on_both_responses_of_the_training_pairs(tmp_path) -> None:
    rng = np.random.default_rng(1)
    sides = (verbose_features(600, rng), verbose_features(600, rng))
    head = gated_head(4, 6)
    made = feature_trainer(tmp_path, head, sides, pair_targets_of(rng.random(600) < 0.5), n_train=500, plan={})
    told = clear_of_verbosity(made.ctx, head, made.data, made.train_rows, 3)
    pooled = torch.from_numpy(np.concatenate([side.response[:500] for side in sides]))
    ratings = head.stage1.normalised(pooled).detach()
    clean = ratings @ head.transform
    for i, name in enumerate(head.names[:3]):
        found = told["attributes"][name]
        assert spearmanr(clean[:, i], ratings[:, 3]).statistic <= 0.03 or not found["reached"]
        assert found["before"] > 0.3
        assert found["penalty"] == pytest.approx(0.5, abs=0.15)
        assert head.penalties[i].item() == pytest.approx(found["penalty"])
    assert (clean[:, 3] == 0).all()
    assert told["attributes"]["verbosity"]["penalty"] == 1
    assert told["n_responses"] == 1000
    assert head.parts(head(pooled, pooled))[0]["coefficients"]["verbosity"] < 0
    assert any("Penalties for verbosity" in line for _, line in made.ctx.logs)


def test_verbosity_that_does_not_vary_is_said(tmp_path) -> None:
    flat = Features(np.zeros((9, 6), np.float32), np.zeros((9, 6), np.float32))
    made = feature_trainer(
        tmp_path, gated_head(4, 6), (flat, flat), pair_targets_of(np.ones(9) > 0), n_train=9, plan={}
    )
    with pytest.raises(JobError, match="verbosity cannot be taken out") as caught:
        clear_of_verbosity(made.ctx, made.net.head, made.data, made.train_rows, 3)
    assert "none" in caught.value.hint


# --- what the gate learns


def test_the_gate_finds_which_rating_counts_for_which_prompts(tmp_path) -> None:
    rng = np.random.default_rng(2)
    n, width = 2400, 8
    kind = rng.integers(0, 2, n)
    prompt = (np.where(kind[:, None] == 1, 1.0, -1.0) * np.ones(width) + 0.5 * rng.normal(size=(n, width))).astype("f4")
    a, b = (rng.normal(size=(n, width)).astype("f4") for _ in "ab")
    margin = (a - b)[np.arange(n), kind]
    head = gated_head(2, width)
    made = feature_trainer(
        tmp_path, head, (Features(a, prompt), Features(b, prompt)), pair_targets_of(margin > 0), n_train=2000,
        plan={"n_steps": 400, "head_learning_rate": 3e-3},
    )  # fmt: skip
    made.run()
    held = np.arange(2000, n)
    fixed = [
        float((np.sign((a - b)[held, :2] @ [np.cos(t), np.sin(t)]) == np.sign(margin[held])).mean())
        for t in np.linspace(0, np.pi / 2, 91)
    ]
    assert max(fixed) <= 0.80
    assert made.progress.last["accuracy"]["value"] >= 0.95
    head.eval()
    shares = (head.gate(torch.from_numpy(prompt[held])) / head.log_scale.exp()).detach().numpy()
    for which in (0, 1):
        assert shares[kind[held] == which, which].mean() >= 0.8
    assert head.log_scale.exp().item() > 1.5  # it plays the part of the scale of the odds
    assert (head.stage1.weight == torch.eye(2, width)).all()


# --- the real job


@pytest.fixture(scope="module")
def first_stage(tmp_path_factory) -> tuple[LocalRun, dict]:
    model = {"attributes": PLANTED, "ranges": {name: (0.0, 4.0) for name in PLANTED}}
    local, _, result = train_on_ratings(tmp_path_factory.mktemp("first"), rated_rows(300), "embedding_linear", model)
    return local, result


def second_stage(folder, first, **config) -> LocalRun:
    model = {"backbone": "tiny-encoder", "attributes": PLANTED, **GATE, **config}
    return LocalRun(folder, rated_pairs(300), model, "gated", checkpoints=dict(first.checkpoints))


SPEC = {"epochs": 10, "batch_pairs": 32, "head_learning_rate": 3e-3, "objective_config": {"centre_coefficient": 0.0}}


def test_from_ratings_to_a_gated_reward_model(tmp_path, first_stage) -> None:
    first, stage1 = first_stage
    local = second_stage(tmp_path, first)
    ctx = local.context()
    result = local.train(ctx, start_from=stage1["checkpoint"], **SPEC)
    assert result["validation_best"]["accuracy"]["value"] > 0.7, result["validation_best"]
    assert result["probe_difference"] < 1e-4
    assert result["backbone_frozen"]
    assert set(result["head"]["attributes"]) == set(PLANTED)
    assert result["head"]["verbosity"] == "verbosity"
    assert any("embedding_linear: backbone and ratings; the gate is new" in line for _, line in ctx.logs)
    json.dumps(result, allow_nan=False)

    scoring = local.context("score")
    local.run("score", scoring, checkpoint=result["checkpoint"])
    rewards, parts = scoring.scores[result["checkpoint"]], scoring.parts[result["checkpoint"]]
    for response_id, told in parts.items():
        total = sum(told["coefficients"][name] * told["rewards"][name] for name in PLANTED)
        assert total == pytest.approx(rewards[response_id], abs=1e-4)
        assert set(told) == {"score", "rewards", "gating", "coefficients", "top3", "attributes"}
        assert told["attributes"]["kind"] == pytest.approx(5 * told["rewards"]["kind"] - 0.5, abs=1e-4)

    rated = first.checkpoints[stage1["checkpoint"]]
    items = [(p.prompt, p.response_a) for p in local.pairs[:30]]
    linear = FAMILIES.get("embedding_linear")
    told = linear.open(linear.Config(**rated.config), rated.path).score(items).parts
    for pair, alone in zip(local.pairs, told, strict=False):
        assert parts[pair.response_a_id]["attributes"] == pytest.approx(alone["attributes"], abs=1e-3)


def test_a_second_gate_goes_on_from_the_first_and_a_killed_run_from_where_it_was(tmp_path, first_stage) -> None:
    first, stage1 = first_stage
    local = second_stage(tmp_path, first)
    short = {**SPEC, "epochs": 1}
    once = local.train(local.context("once"), start_from=stage1["checkpoint"], **short)
    ctx = local.context("twice")
    local.train(ctx, start_from=once["checkpoint"], **short)
    assert any("family gated: backbone and head" in line for _, line in ctx.logs)
    again = local.context("once", attempt=2)
    resumed = local.train(again, start_from=stage1["checkpoint"], **short)
    assert any("Going on after step" in line for _, line in again.logs)
    assert resumed["head"] == once["head"]
    assert resumed["validation_final"] == once["validation_final"]


def test_multi_attribute_is_a_first_stage_too(tmp_path) -> None:
    first, _, stage1 = train_on_ratings(
        tmp_path / "1", rated_rows(80), "multi_attribute", {"attributes": PLANTED}, max_steps=5
    )
    local = second_stage(tmp_path / "2", first, verbosity="none")
    ctx = local.context()
    result = local.train(ctx, start_from=stage1["checkpoint"], max_steps=3)
    assert result["head"] == {"verbosity": None}
    assert any("weighed as they are" in line for _, line in ctx.logs)


def test_what_a_gate_cannot_start_from(tmp_path, first_stage, pairs) -> None:
    first, stage1 = first_stage
    with pytest.raises(JobError, match="start_from is empty") as caught:
        second_stage(tmp_path, first).train()
    assert "embedding_linear" in caught.value.hint
    for config, said in (
        ({"attributes": PLANTED[::-1]}, "has attributes kind, clear, verbosity; this reward model has verbosity"),
        ({"pooling": "last"}, "has pooling auto; this reward model has last"),
        ({"rendering": "plain"}, "has rendering auto"),
    ):
        with pytest.raises(JobError, match=said):
            second_stage(tmp_path / said[:12], first, **config).train(start_from=stage1["checkpoint"])
    scalar = LocalRun(tmp_path / "scalar", pairs)
    other = scalar.train(max_steps=1)
    with pytest.raises(JobError, match="family scalar_head rates no attributes"):
        second_stage(tmp_path / "s", scalar).train(start_from=other["checkpoint"])
    with pytest.raises(SpecError, match="leaves its backbone as it is"):
        second_stage(tmp_path / "f", first).train(start_from=stage1["checkpoint"], freeze_backbone=False)
    with pytest.raises(SpecError, match="gives a value an attribute"):
        second_stage(tmp_path / "o", first).train(objective="attribute_regression")


# --- what the gate may see


def gated_net(kind: str):
    backbone = load_backbone(kind)
    config = FAMILY.Config(backbone=kind, attributes=PLANTED, **GATE)
    torch.manual_seed(3)
    net = FAMILY.net(config, backbone).eval()
    with torch.no_grad():
        net.head.out.weight.mul_(50)
    return net, FAMILY.renderer(config, backbone)


def gate_of(net, renderer, items) -> torch.Tensor:
    with torch.inference_mode():
        return net(renderer.encode(items))[:, len(PLANTED) :]


@pytest.mark.parametrize("kind", ["tiny-causal", "tiny-encoder"])
def test_another_answer_leaves_the_gate_as_it_was_bit_for_bit(kind) -> None:
    net, renderer = gated_net(kind)
    prompt = [turn("user", "which of these do you like best?")]
    answers = ["abcdefgh", "zzzzzzzz", "a good h", "12345678"]
    gates = torch.cat([gate_of(net, renderer, [(prompt, [turn("assistant", text)])]) for text in answers])
    assert all(torch.equal(gates[0], other) for other in gates[1:])
    longer = gate_of(net, renderer, [(prompt, [turn("assistant", "a much longer answer than those before it")])])
    assert torch.allclose(longer[0], gates[0], atol=1e-6)  # another length: other matrix shapes, so rounding
    other = gate_of(net, renderer, [([turn("user", "something else")], [turn("assistant", answers[0])])])
    assert not torch.allclose(other[0], gates[0], atol=1e-4)


def test_a_response_that_leaves_no_room_for_the_prompt_is_not_read_by_the_gate() -> None:
    """The state "before the response" would be the last one of all, which has read every word of it."""
    net, renderer = gated_net("tiny-causal")
    prompt = [turn("user", "why?")]
    gates = [gate_of(net, renderer, [(prompt, [turn("assistant", word * 100)])]) for word in ("yes ", "nope")]
    encoded = renderer.encode([(prompt, [turn("assistant", "yes " * 100)])])[0]
    assert encoded.n_response == len(encoded)
    assert torch.equal(*gates)


def test_a_chat_template_without_an_assistant_header_is_refused() -> None:
    backbone = load_backbone("tiny-causal")
    config = FAMILY.Config(backbone="tiny-causal", attributes=PLANTED)
    bare = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}"
    backbone.tokenizer.chat_template = bare
    with pytest.raises(JobError, match="chat template has no assistant header") as caught:
        FAMILY.renderer(config, backbone)
    assert "plain" in caught.value.hint
    assert FAMILY.renderer(config.model_copy(update={"rendering": "plain"}), backbone)
    backbone.tokenizer.chat_template = bare + "{% if add_generation_prompt %}<assistant>{% endif %}"
    found = FAMILY.renderer(config, backbone)
    assert found.text([turn("user", "q")], [turn("assistant", "a")])[0].endswith("<assistant>")


def test_a_head_reads_like_its_configuration() -> None:
    config = FAMILY.Config(attributes=["a", "b"], verbosity="b", pooling="last")
    assert reading(config, config.attributes) == {"attributes": ["a", "b"], "pooling": "last", "rendering": "auto"}
    assert config.verbosity_place == 1
    assert FAMILY.Config(attributes=["a", "b"]).verbosity_place is None
    assert FAMILY.Config().verbosity_place == 4
