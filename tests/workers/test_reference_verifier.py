"""The reference verifier, and training on right and wrong: what is read, what is refused, and the real job."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.workers.making import LocalRun, turn
from tests.workers.verification_world import make_rows, with_wrong_reference
from workers.data.schema import LabelledResponse, PreferencePair
from workers.data.verification import verification_text
from workers.errors import JobError, SpecError
from workers.families import FAMILIES
from workers.nn.backbone import load_backbone
from workers.nn.outcomes import outcome_validation
from workers.nn.tiny import TINY_NAMES
from workers.nn.verifier import masked_pairwise_loss, pairwise_update
from workers.objectives import OBJECTIVES
from workers.specs import parse_spec

VERIFIER = FAMILIES.get("reference_verifier")
NAN = float("nan")


def config(**settings):
    return parse_spec(VERIFIER.Config, {"backbone": "tiny-causal", **settings})


def rows_of(n: int, *, seed: int = 0) -> list[LabelledResponse]:
    """Right when the completion says yes: what a tiny model learns at once."""
    rng = np.random.default_rng(seed)
    return [
        LabelledResponse(
            prompt=[turn("user", f"question {i}")],
            response=[turn("assistant", ("yes " if right else "no ") * int(rng.integers(6, 12)))],
            ratings={"correct": float(right)},
            reference=[turn("assistant", "yes")],
            response_id=i,
        )
        for i, right in enumerate(rng.random(n) < 0.5)
    ]


def item_of(row: LabelledResponse):
    return row.prompt, row.response, {"reference": row.reference}


def run_on(tmp_path, rows, name="run", *, family="reference_verifier", model=None, **spec):
    local = LocalRun(tmp_path, [], model or {"backbone": "tiny-causal"}, family)
    ctx = local.context(name, labelled={"rows": rows})
    return local, ctx, local.train(ctx, source={"dataset": "rows"}, dtype="float32", **spec)


# --- the one text


def test_the_text_that_is_read() -> None:
    text = verification_text("2+2?", "4", "It is 4.")
    assert text == (
        "<question>2+2?</question>\n<reference_answer>4</reference_answer>\n<completion>It is 4.</completion>"
    )


@pytest.mark.parametrize("backbone", [*TINY_NAMES, "minilm"])
def test_training_and_scoring_read_that_text_and_nothing_else(backbone) -> None:
    found = load_backbone(backbone)
    found.tokenizer.chat_template = "never used"
    settings = config(backbone=backbone)
    renderer = VERIFIER.renderer(settings, found)
    item = ([turn("user", "2+2?")], [turn("assistant", "It is 4.")], {"reference": [turn("assistant", "4")]})
    [encoded] = VERIFIER.encode(settings, renderer, [item])
    whole = found.tokenizer(verification_text("2+2?", "4", "It is 4."), add_special_tokens=False)["input_ids"]
    inner = encoded.ids[len(renderer.start) : len(encoded) - len(renderer.end)]
    assert inner.tolist() == whole


def test_the_start_of_the_question_goes_first_when_the_context_is_short() -> None:
    found = load_backbone("tiny-causal")
    settings = config(max_length=120)
    item = ([turn("user", "x" * 300)], [turn("assistant", "It is 4.")], {"reference": [turn("assistant", "4")]})
    [encoded] = VERIFIER.encode(settings, VERIFIER.renderer(settings, found), [item])
    assert encoded.n_response_dropped == 0
    text = found.tokenizer.decode(encoded.ids)
    assert "<reference_answer>4</reference_answer>\n<completion>It is 4.</completion>" in text


def test_an_empty_reference_is_refused_in_words() -> None:
    renderer = VERIFIER.renderer(config(), load_backbone("tiny-causal"))
    for extra in ({}, {"reference": []}, {"reference": [turn("assistant", "  ")]}):
        item = ([turn("user", "How many ducks?")], [turn("assistant", "4")], extra)
        assert VERIFIER.unfit(config(), item) == "no reference answer"
        with pytest.raises(JobError, match=r"reference_answer is empty .*How many ducks.*use an ordinary RM instead"):
            VERIFIER.encode(config(), renderer, [item])


def test_rows_of_more_than_8000_characters_are_left_out_and_counted(tmp_path) -> None:
    rows = rows_of(12)
    room = 8000 - len(verification_text(rows[0].prompt[0]["content"], "yes", ""))
    fits = replace(rows[0], response=[turn("assistant", "y" * room)])
    over = replace(rows[0], response=[turn("assistant", "y" * (room + 1))])
    missing = replace(rows[1], reference=None)
    _, ctx, result = run_on(tmp_path, [*rows, fits, over, missing], max_steps=1)
    assert result["left_out"] == {"over 8000 characters": 1, "no reference answer": 1}
    assert any("1 over 8000 characters" in line for level, line in ctx.logs if level == "warning")


# --- the real job


@pytest.mark.parametrize("backbone", TINY_NAMES)
def test_it_learns_and_its_checkpoint_scores_the_same(tmp_path, backbone) -> None:
    rows = rows_of(60)
    local, _, result = run_on(tmp_path, rows, model={"backbone": backbone}, epochs=3, learning_rate=5e-3)
    assert result["objective"] == "verification"
    assert result["validation_best"]["accuracy"]["value"] > 0.9
    assert result["validation_best"]["accuracy"]["n"] == result["n_validation"]
    assert result["validation_best"]["auroc"] > 0.9
    assert result["probe_difference"] < 1e-4
    json.dumps(result)
    scorer = VERIFIER.open(parse_spec(VERIFIER.Config, local.model), local.checkpoints[result["checkpoint"]].path)
    scores = scorer.score([item_of(row) for row in rows])
    assert scorer.score([item_of(rows[5])]).values[0] == pytest.approx(scores.values[5], abs=1e-4)
    for value, part in zip(scores.values, scores.parts, strict=True):
        assert part == {"probability": pytest.approx(1 / (1 + math.exp(-value)))}


def test_pairs_train_the_same_logit(tmp_path) -> None:
    """The pairwise objective on pairs that carry a reference; scoring reads the reference too."""
    yes, no = [turn("assistant", "yes")], [turn("assistant", "no")]
    pairs = [
        PreferencePair(f"{i}", [turn("user", f"q {i}")], yes, no, "a", reference=yes, response_a_id=2 * i + 1,
                       response_b_id=2 * i + 2)
        for i in range(40)
    ]  # fmt: skip
    local = LocalRun(tmp_path, pairs, {"backbone": "tiny-causal"}, "reference_verifier")
    result = local.train(objective="bradley_terry", dtype="float32")
    assert result["validation_final"]["accuracy"]["value"] == 1.0
    ctx = local.context("evaluate")
    found = local.run("evaluate", ctx, checkpoint=result["checkpoint"])
    assert found["accuracy"]["value"] == 1.0
    assert set(ctx.parts[result["checkpoint"]][1]) == {"probability"}
    bare = [replace(pair, reference=None) for pair in pairs]
    bare_run = replace(local, pairs=bare)
    with pytest.raises(JobError, match=r"none of 40 pairs can be used \(40 no reference answer"):
        bare_run.train(bare_run.context("bare"), objective="bradley_terry")


def test_an_outcome_reward_model_needs_no_reference(tmp_path) -> None:
    rows = [replace(row, reference=None) for row in rows_of(60)]
    _, _, result = run_on(tmp_path, rows, family="scalar_head", objective="outcome_bce", epochs=4, learning_rate=5e-3)
    assert result["validation_best"]["accuracy"]["value"] > 0.9
    frozen = run_on(tmp_path, rows, "frozen", family="scalar_head", objective="outcome_bce", freeze_backbone=True)[2]
    assert frozen["backbone_frozen"]


def test_what_cannot_be_learned_from_is_refused(tmp_path) -> None:
    rows = rows_of(12)
    with pytest.raises(JobError, match=r"none of 12 labelled responses can be used \(12 no reference answer"):
        run_on(tmp_path, [replace(row, reference=None) for row in rows])
    with pytest.raises(JobError, match="have the label 1"):
        run_on(tmp_path, [replace(row, ratings={"correct": 1.0}) for row in rows], "one")
    with pytest.raises(JobError, match="12 no helpful"):
        run_on(tmp_path, rows, "other", objective="verification", objective_config={"attribute": "helpful"})
    with pytest.raises(JobError, match="12 label neither 0 nor 1"):
        run_on(tmp_path, [replace(row, ratings={"label": 3.0}) for row in rows], "scale")
    with pytest.raises(SpecError, match="needs a reference answer"):
        run_on(tmp_path, rows, "scalar", family="scalar_head", objective="verification")


# --- labels, loss and metrics


def test_labels_come_from_the_named_rating() -> None:
    def labels(settings, *ratings):
        objective = OBJECTIVES.get("outcome_bce")(parse_spec(OBJECTIVES.get("outcome_bce").Config, settings))
        rows = [LabelledResponse([], [], ratings=each) for each in ratings]
        found = objective.targets(rows)
        told = [
            value if used else objective.refusal(row)
            for used, value, row in zip(found.is_used, found.values[:, 0], rows, strict=True)
        ]
        return told

    assert labels({}, {"correct": 1.0, "label": 0.0}, {"label": 0.0}, {}) == [1.0, 0.0, "no correct or label"]
    assert labels({"attribute": "x"}, {"x": 1.0}, {"label": 1.0}, {"x": 0.5}) == [
        1.0,
        "no x",
        "label neither 0 nor 1",
    ]
    assert labels({"attribute": "x", "threshold": 3}, {"x": 3.0}, {"x": 2.9}, {}) == [1.0, 0.0, "no x"]


def test_validation_by_hand() -> None:
    found = outcome_validation(np.array([2.0, -1.0, 0.0, 3.0]), np.array([1.0, 0.0, 1.0, 0.0]), loss=0.5)
    assert (found.accuracy, found.n, found.share_right) == (0.5, 4, 0.5)
    assert found.auroc == 0.5
    p = 1 / (1 + np.exp(-np.array([2.0, -1.0, 0.0, 3.0])))
    assert found.brier == pytest.approx(np.mean((p - [1, 0, 1, 0]) ** 2))
    assert found.low < 0.5 < found.high
    one_kind = outcome_validation(np.array([1.0]), np.array([1.0]), loss=0.5)
    assert one_kind.as_json(1)["auroc"] is None


# --- Hong et al. 2025, check 4: the mask of the pairwise update


def test_the_mask_of_the_pairwise_loss() -> None:
    positive, negative = torch.tensor([1.0, NAN, 0.5, -2.0]), torch.tensor([0.0, 9.0, 0.75, NAN])
    valid = torch.tensor([True, False, True, False])
    expected = -(math.log(1 / (1 + math.exp(-1.0))) + math.log(1 / (1 + math.exp(0.25)))) / (2 + 1e-6)
    assert masked_pairwise_loss(positive, negative, valid).item() == pytest.approx(expected, abs=1e-6)
    positive.requires_grad_()
    masked_pairwise_loss(positive, negative, valid).backward()
    assert positive.grad[[1, 3]].tolist() == [0.0, 0.0]
    assert masked_pairwise_loss(positive, negative, torch.zeros(4, dtype=torch.bool)).item() == 0.0


def encoded_pairs(n: int):
    settings = config()
    backbone = load_backbone("tiny-causal")
    torch.manual_seed(0)
    net = VERIFIER.net(settings, backbone)
    items = [item_of(row) for row in rows_of(2 * n)]
    encoded = VERIFIER.encode(settings, VERIFIER.renderer(settings, backbone), items)
    return net, list(zip(encoded[::2], encoded[1::2], strict=True))


def test_a_batch_without_a_valid_pair_leaves_the_weights_bit_identical() -> None:
    net, pairs = encoded_pairs(4)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=0.1)
    warm = pairwise_update(net, optimizer, pairs, budget=512)
    assert warm["has_stepped"] == 1.0
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    told = pairwise_update(net, optimizer, [None] * 4, budget=512)
    assert (told["n_valid"], told["has_stepped"]) == (0.0, 0.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    pairwise_update(net, optimizer, [None, pairs[0]], budget=512)
    assert not all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_a_mixed_batch_equals_the_loss_over_its_valid_rows() -> None:
    net, pairs = encoded_pairs(4)
    other, _ = encoded_pairs(4)
    with torch.no_grad():
        margins = [float(net.reward(net([p])) - net.reward(net([n]))) for p, n in pairs[1:3]]
    mixed = pairwise_update(net, torch.optim.SGD(net.parameters(), 0.1), [None, *pairs[1:3], None], budget=512)
    valid = pairwise_update(other, torch.optim.SGD(other.parameters(), 0.1), pairs[1:3], budget=512)
    expected = np.mean([math.log1p(math.exp(-margin)) for margin in margins])
    assert mixed["loss"] == pytest.approx(expected, abs=1e-6)
    assert mixed["loss"] == pytest.approx(valid["loss"], abs=1e-6)
    for mine, theirs in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)


def test_a_gradient_that_is_not_finite_moves_nothing() -> None:
    net, pairs = encoded_pairs(2)
    with torch.no_grad():
        net.head.bias.fill_(math.inf)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    told = pairwise_update(net, torch.optim.AdamW(net.parameters(), 0.1), pairs, budget=512)
    assert told["has_stepped"] == 0.0
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


# --- Hong et al. 2025, check 1: the reference matters


@pytest.mark.slow
def test_the_reference_matters(tmp_path) -> None:
    """MiniLM, the answer out of its reach: with a reference it verifies, without one it guesses, a wrong one flips."""
    rng = np.random.default_rng(0)
    rows, fresh = make_rows(1600, rng), make_rows(200, rng)
    labels = np.array([row.ratings["correct"] for row in fresh])
    minilm = {"backbone": "minilm"}
    spec = {"epochs": 2, "learning_rate": 2e-4, "batch_pairs": 16, "token_budget": 8192}

    def rewards(local, result, asked):
        family = FAMILIES.get(local.family)
        path = local.checkpoints[result["checkpoint"]].path
        return family.open(parse_spec(family.Config, minilm), path).score([item_of(row) for row in asked]).values

    local, _, result = run_on(tmp_path, rows, "with", model=minilm, **spec)
    says = rewards(local, result, fresh) > 0
    right = says & (labels == 1)
    swapped = rewards(local, result, [with_wrong_reference(row, rng) for row in fresh]) > 0
    without, _, result = run_on(
        tmp_path, rows, "without", model=minilm, family="scalar_head", objective="outcome_bce", **spec
    )
    guesses = rewards(without, result, fresh) > 0
    accuracy, baseline, flipped = (says == labels).mean(), (guesses == labels).mean(), (~swapped[right]).mean()
    print(f"with {accuracy:.3f}, without {baseline:.3f}, flipped {flipped:.3f} of {right.sum()}")
    assert accuracy >= baseline + 0.10
    assert flipped >= 0.80
