"""Ratings: the regression objective, the multi-attribute family and the linear baseline, on known ratings."""

import json
import math

import numpy as np
import pytest
import torch

from tests.workers.attributes_world import NOISE, PLANTED, SCALE, rated_pairs, rated_rows, train_on_ratings
from tests.workers.making import LocalRun, make_pairs, turn
from workers.data.schema import LabelledResponse, PreferencePair
from workers.errors import JobError, SpecError
from workers.families import FAMILIES
from workers.nn.attribute_heads import AttributeHead, as_bytes, from_bytes
from workers.nn.checkpoints import weights_differ
from workers.objectives import OBJECTIVES
from workers.specs import parse_spec

NAN = math.nan


def regression(names: list[str], **config):
    entry = OBJECTIVES.get("attribute_regression")
    made = entry(entry.Config(**config))
    made.meet(type("Config", (), {"attributes": names}))
    return made


def rated(**ratings: float) -> LabelledResponse:
    return LabelledResponse([turn("user", "q")], [turn("assistant", "a")], ratings)


# --- the objective


def test_targets_and_what_counts_as_missing() -> None:
    objective = regression(["x", "y"])
    rows = [rated(x=1, y=2), rated(x=3), rated(x=-100, y=4), rated(z=1), rated(y=-100)]
    found = objective.targets(rows)
    assert found.values.tolist()[0] == [1, 2]
    assert np.isnan(found.values).tolist() == [[False, False], [False, True], [True, False], [True, True], [True, True]]
    assert found.weight.tolist() == [1, 0.5, 0.5, 0, 0]
    assert found.is_used.tolist() == [True, True, True, False, False]
    assert objective.refusal(rows[3]) == "no rating of the attributes"
    assert regression(["x"], missing=None).targets([rated(x=-100)]).is_used.tolist() == [True]
    assert objective.targets([]).values.shape == (0, 2)


def test_the_loss_is_the_mean_over_all_ratings_that_are_there() -> None:
    objective = regression(["x", "y"])
    targets = objective.targets([rated(x=1, y=2), rated(x=3)])
    outputs = torch.tensor([[2.0, 4.0], [0.0, 99.0]], requires_grad=True)
    loss = objective.loss(outputs, targets).sum() / targets.weight.sum()
    assert loss.item() == pytest.approx((1 + 4 + 9) / 3)
    loss.backward()
    assert outputs.grad.tolist() == [[pytest.approx(2 / 3), pytest.approx(4 / 3)], [-2.0, 0.0]]


def test_a_missing_rating_gives_its_output_exactly_no_gradient() -> None:
    head = AttributeHead(8, told={"attributes": ["x", "y"]})
    objective = regression(["x", "y"])
    targets = objective.targets([rated(x=float(i % 3)) for i in range(6)])
    objective.loss(head(torch.randn(6, 8)), targets).sum().backward()
    assert (head.weight.grad[1] == 0).all()
    assert head.bias.grad[1] == 0
    assert (head.weight.grad[0] != 0).any()


def test_metrics_by_hand_and_what_is_undefined_is_left_out() -> None:
    objective = regression(["x", "y", "z"])
    targets = objective.targets([rated(x=1, y=2), rated(x=2, y=2), rated(x=3)])
    found = objective.metrics(np.array([[1.0, 2, 0], [2, 2, 0], [2, 0, 0]]), targets)
    assert found["mse_x"] == pytest.approx(1 / 3)
    assert found["r2_x"] == pytest.approx(0.5)
    assert found["pearson_x"] == pytest.approx(np.corrcoef([1, 2, 3], [1, 2, 2])[0, 1])
    assert (found["n_x"], found["n_y"], found["n_z"]) == (3, 2, 0)
    assert found["mse_y"] == 0
    assert "r2_y" not in found
    assert "mse_z" not in found
    assert found["r2"] == found["r2_x"]
    assert all(math.isfinite(value) for value in found.values())


def test_a_wrong_number_of_outputs_is_said() -> None:
    objective = regression(["x", "y"])
    with pytest.raises(JobError, match="gives 3 values a response, and 2 attributes"):
        objective.loss(torch.zeros(1, 3), objective.targets([rated(x=1)]))


def test_rewards_weigh_ratings_and_parts_name_them() -> None:
    family = FAMILIES.get("multi_attribute")
    head = family.head(family.Config(), 4)
    outputs = torch.tensor([[4.0, 4.0, 4.0, 2.0, 1.0]])
    assert head.reward(outputs).item() == pytest.approx(7.6)
    assert head.parts(outputs)[0]["attributes"] == pytest.approx(
        {"helpfulness": 4, "correctness": 4, "coherence": 4, "complexity": 2, "verbosity": 1}
    )
    assert family.head(family.Config(attributes=["style", "b"]), 4).goodness.tolist() == [1, 0]
    stated = family.Config(weights={"verbosity": -0.5, "helpfulness": 1})
    assert family.head(stated, 4).reward(outputs).item() == pytest.approx(3.5)
    assert from_bytes(as_bytes({"attributes": ["ぬ"]})) == {"attributes": ["ぬ"]}


@pytest.mark.parametrize(
    ("family", "config", "said"),
    [
        ("multi_attribute", {"attributes": []}, "at least 1"),
        ("multi_attribute", {"attributes": ["a", "a"]}, "every attribute once"),
        ("multi_attribute", {"attributes": [" a"]}, "without spaces"),
        ("multi_attribute", {"attributes": ["verbosity"]}, "not better by itself"),
        ("multi_attribute", {"weights": {"nope": 1}}, "not there: nope"),
        ("embedding_linear", {"weights": {"nope": 1}}, "there are none"),
        ("embedding_linear", {"attributes": ["a"], "ranges": {"b": [0, 4]}}, "not there: b"),
        ("embedding_linear", {"attributes": ["a"], "ranges": {"a": [4, 4]}}, "lowest and then"),
        ("gated", {"verbosity": "length"}, "none of the attributes"),
        ("gated", {"attributes": ["a"]}, "at least 2"),
    ],
)
def test_bad_configurations(family, config, said) -> None:
    with pytest.raises(SpecError, match=said):
        parse_spec(FAMILIES.get(family).Config, config)


# --- the real job


def scored_again(local: LocalRun, result: dict, rows: list[LabelledResponse]) -> tuple[np.ndarray, list]:
    """Rewards and parts by a scorer that is opened afresh."""
    reference = local.checkpoints[result["checkpoint"]]
    family = FAMILIES.get(reference.family)
    scores = family.open(family.Config(**reference.config), reference.path).score(
        [(r.prompt, r.response) for r in rows]
    )
    return scores.values, scores.parts


def test_a_regression_model_learns_what_is_planted(tmp_path) -> None:
    rows = rated_rows(400, missing=0.2)
    model = {"attributes": PLANTED, "weights": {"kind": 2.0, "clear": 1.0}}
    local, ctx, result = train_on_ratings(
        tmp_path, rows, "multi_attribute", model, epochs=4, batch_pairs=8, learning_rate=4e-3, token_budget=8192,
        objective="auto",
    )  # fmt: skip
    found = result["validation_best"]
    for name in PLANTED:
        assert found[f"r2_{name}"] >= 0.5, found
        assert found[f"pearson_{name}"] > 0.7
        assert 0 < found[f"mse_{name}"] < 2
        assert found[f"n_{name}"] < result["n_validation"]
    assert result["probe_difference"] < 1e-4
    point = next(m for m in ctx.metrics if "validation_loss" in m)
    assert {"validation_r2_kind", "validation_mse", "validation_pearson"} <= point.keys()
    json.dumps(result, allow_nan=False)
    values, parts = scored_again(local, result, rows[:20])
    assert values == pytest.approx([2 * p["attributes"]["kind"] + p["attributes"]["clear"] for p in parts], abs=1e-4)
    kinds = [p["attributes"]["kind"] for p in scored_again(local, result, rows)[1]]
    assert np.mean(kinds) == pytest.approx(2.0, abs=0.4)  # on the scale of the labels, and so across prompts


def test_it_is_scored_by_the_score_job_with_its_parts(tmp_path) -> None:
    rows = rated_rows(60)
    local, _, result = train_on_ratings(tmp_path, rows, "multi_attribute", {"attributes": PLANTED}, max_steps=2)
    local.pairs = rated_pairs(6)
    ctx = local.context("score")
    local.run("score", ctx, checkpoint=result["checkpoint"])
    values, parts = scored_again(local, result, [LabelledResponse(p.prompt, p.response_a) for p in local.pairs])
    kept, told = ctx.scores[result["checkpoint"]], ctx.parts[result["checkpoint"]]
    assert [kept[p.response_a_id] for p in local.pairs] == pytest.approx(values, abs=1e-4)
    assert [told[p.response_a_id] for p in local.pairs] == [
        {"attributes": pytest.approx(part["attributes"], abs=1e-4)} for part in parts
    ]


def test_a_head_for_other_attributes_is_not_taken_over(tmp_path) -> None:
    rows = rated_rows(40)
    local, _, first = train_on_ratings(tmp_path / "1", rows, "multi_attribute", {"attributes": PLANTED}, max_steps=1)
    for names, said in ((PLANTED[::-1], "the head is new"), (PLANTED, "backbone and head")):
        other = LocalRun(tmp_path / said, [], {"backbone": "tiny-encoder", "attributes": names}, "multi_attribute")
        other.checkpoints = local.checkpoints
        ctx = other.context(labelled={"pairs": rows})
        other.train(ctx, start_from=first["checkpoint"], max_steps=1)
        assert any(said in line for _, line in ctx.logs)


def test_what_cannot_be_rated_is_said(tmp_path) -> None:
    rows = [LabelledResponse(r.prompt, r.response, {**r.ratings, "flat": 3.0}) for r in rated_rows(20)]
    for names, said in (
        (["kind", "elsewhere"], "No training response has a rating of elsewhere"),
        (["kind", "flat"], "16 training responses have the same rating of flat|same rating of flat \\(3\\)"),
        (["elsewhere"], "nothing to learn from.*20 no rating of the attributes"),
    ):
        for family in ("multi_attribute", "embedding_linear"):
            with pytest.raises(JobError, match=said) as caught:
                train_on_ratings(tmp_path / family / names[-1], rows, family, {"attributes": names}, max_steps=1)
            assert caught.value.hint


@pytest.mark.parametrize("family", ["multi_attribute", "embedding_linear"])
def test_ratings_missing_in_half_of_the_rows_are_counted(tmp_path, family) -> None:
    rows = [
        LabelledResponse(r.prompt, r.response, {**r.ratings, **({"half": float(i % 3)} if i % 2 else {})})
        for i, r in enumerate(rated_rows(40))
    ]
    result = train_on_ratings(tmp_path, rows, family, {"attributes": ["kind", "half"]}, max_steps=2)[2]
    found = result["finished"]["ratings"]
    assert found["kind"] == result["n_train"]
    assert 0 < found["half"] < result["n_train"]
    (line,) = result["finished"]["warnings"]
    assert line.startswith(f"half is rated in {found['half']} of {result['n_train']} training responses")


def test_families_and_objectives_that_do_not_go_together(tmp_path) -> None:
    local = LocalRun(tmp_path, make_pairs(8), family="multi_attribute")
    with pytest.raises(SpecError, match=r"multi_attribute does not. Objectives for it: .*attribute_regression"):
        local.train(objective="gaussian_margins")
    with pytest.raises(SpecError, match="gives a value an attribute"):
        LocalRun(tmp_path, make_pairs(8)).train(objective="attribute_regression")
    with pytest.raises(JobError, match="names no attributes"):
        LocalRun(tmp_path, make_pairs(8), family="embedding_linear").train(objective="attribute_regression")
    with pytest.raises(SpecError, match="leaves its backbone as it is"):
        LocalRun(tmp_path, make_pairs(8), family="embedding_linear").train(freeze_backbone=False)
    rating = LocalRun(tmp_path, make_pairs(8), {"backbone": "tiny-encoder", "attributes": ["x"]}, "embedding_linear")
    with pytest.raises(JobError, match="pairs have no ratings"):
        rating.train(objective="bradley_terry")


# --- the linear baseline


@pytest.mark.parametrize("backbone", ["tiny-encoder", "tiny-causal"])
def test_a_linear_head_is_solved_from_pairs(tmp_path, backbone) -> None:
    local = LocalRun(tmp_path, make_pairs(120), {"backbone": backbone, "pooling": "mean"}, "embedding_linear")
    ctx = local.context()
    result = local.train(ctx)
    assert result["backbone_frozen"]
    assert result["validation_final"]["accuracy"]["value"] == 1.0
    assert result["head"]["converged"]
    assert result["head"]["gradient"] < 1e-8
    assert len(result["head"]["cross_validation"]) > 10
    assert "Newton steps (converged)" in result["ended"]
    assert result["probe_difference"] < 1e-4
    json.dumps(result, allow_nan=False)
    again = local.train(local.context("again"))
    paths = [local.checkpoints[r["checkpoint"]].path / "weights.safetensors" for r in (result, again)]
    assert not weights_differ(*paths)
    values, parts = scored_again(local, result, [LabelledResponse(p.prompt, p.chosen) for p in local.pairs])
    worse, _ = scored_again(local, result, [LabelledResponse(p.prompt, p.rejected) for p in local.pairs])
    assert parts is None
    assert (values > worse).mean() > 0.95


def test_the_penalty_may_be_set(tmp_path) -> None:
    local = LocalRun(tmp_path, make_pairs(40), {"backbone": "tiny-encoder", "l2": 0.5}, "embedding_linear")
    result = local.train()
    assert result["head"]["l2"] == 0.5
    assert "as set" in result["ended"]


def test_pairs_that_cannot_be_learnt_from(tmp_path) -> None:
    local = LocalRun(tmp_path, make_pairs(24, tie_every=1), family="embedding_linear")
    with pytest.raises(JobError, match=r"nothing to learn from.*24 tie"):
        local.train()
    with pytest.raises(JobError, match="are ties: no response was preferred"):
        local.train(local.context("half"), objective_config={"ties": "half"})
    local.pairs = make_pairs(2)
    with pytest.raises(JobError, match="of one prompt") as caught:
        local.train(local.context("one"))
    assert "set l2" in caught.value.hint
    one_way = [p for p in make_pairs(80) if p.verdict == "a"]
    local.pairs = one_way  # one verdict only is no obstacle: there is no intercept that could learn it
    assert local.train(local.context("a"))["validation_final"]["accuracy"]["value"] == 1.0
    cut = [[turn("assistant", "same start " * 60 + end)] for end in ("x", "y")]
    same = [PreferencePair(f"p{i}", [turn("user", str(i))], *cut, "a") for i in range(6)]
    local.pairs, local.model = same, {"backbone": "tiny-encoder", "max_length": 32}
    with pytest.raises(JobError, match="reads the same in both responses"):
        local.train(local.context("same"))


@pytest.mark.parametrize("backbone", ["tiny-encoder", "tiny-causal"])
def test_a_probe_finds_planted_ratings_and_no_others(tmp_path, backbone) -> None:
    model = {"backbone": backbone, "pooling": "mean", "attributes": [*PLANTED, NOISE], "ranges": SCALE}
    _, _, result = train_on_ratings(
        tmp_path, rated_rows(500, missing=0.4), "embedding_linear", model, validation_share=0.3
    )
    found = result["validation_final"]
    for name in PLANTED:
        assert found[f"r2_{name}"] > 0.3, found
    assert found[f"r2_{NOISE}"] <= 0.05
    told = result["head"]["attributes"]
    assert 200 < told["kind"]["n"] < 300
    json.dumps(result, allow_nan=False)


def test_ridge_in_the_job_is_the_closed_form(tmp_path) -> None:
    """Without intercept and standardisation: W = (X'X + alpha I)^-1 X'y on the rows that rate the attribute."""
    rows = rated_rows(200, missing=0.4)
    model = {
        "attributes": PLANTED,
        "ranges": {name: SCALE[name] for name in PLANTED},
        "intercept": False,
        "standardise": False,
    }
    local, ctx, result = train_on_ratings(tmp_path, rows, "embedding_linear", model, validation_share=0)
    (kept,) = (ctx.work_dir / "features").glob("*/response-0.npy")
    features = np.load(kept).astype(np.float64)
    family = FAMILIES.get("embedding_linear")
    head = family.open(family.Config(**local.model), local.checkpoints[result["checkpoint"]].path).net.head
    used = [row for row in rows if row.ratings.keys() & set(PLANTED)]
    for j, name in enumerate(PLANTED):
        rated_here = np.array([name in row.ratings for row in used])
        y = np.array([(row.ratings[name] + 0.5) / 5 for row in used if name in row.ratings])
        x = features[rated_here]
        alpha = result["head"]["attributes"][name]["alpha"]
        direct = np.linalg.solve(x.T @ x + alpha * np.eye(x.shape[1]), x.T @ y)
        assert head.weight[j].detach().numpy() == pytest.approx(direct, abs=1e-5 * max(1, np.abs(direct).max()))
    assert (head.bias == 0).all()
    assert head.centre.tolist() == [-0.5] * 3
    assert head.spread.tolist() == [5.0] * 3


def test_ratings_outside_of_their_range_are_refused(tmp_path) -> None:
    model = {"attributes": ["kind"], "ranges": {"kind": (0, 3)}}
    with pytest.raises(JobError, match="reach from 0 to 4, outside of 0 to 3"):
        train_on_ratings(tmp_path, rated_rows(40), "embedding_linear", model)
    single = [LabelledResponse([turn("user", "q")], r.response, r.ratings) for r in rated_rows(20)]
    with pytest.raises(JobError, match="Only one prompt has responses rated for kind"):
        train_on_ratings(tmp_path / "1", single, "embedding_linear", {"attributes": ["kind"]})
