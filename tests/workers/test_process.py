"""Process reward models: where steps are read, what a reward is made of, and the real job end to end."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.workers.arithmetic_world import completer, go_on, is_so_far_right, labelled, make_chains
from tests.workers.making import LocalRun, turn
from workers.data.schema import LabelledResponse, PreferencePair
from workers.data.steps import split_steps
from workers.errors import JobError, SpecError
from workers.families import FAMILIES
from workers.nn.backbone import load_backbone
from workers.nn.steps import aggregate
from workers.nn.tiny import TINY_NAMES
from workers.objectives import OBJECTIVES
from workers.specs import parse_spec
from workers.stats.auroc import auroc
from workers.stats.rollouts import rollout_labels

PROCESS = FAMILIES.get("process")
NAN = float("nan")


def config(**settings):
    return parse_spec(PROCESS.Config, {"backbone": "tiny-causal", **settings})


def step_rows(n: int, *, seed: int = 0) -> list[LabelledResponse]:
    """Steps of fine or poor words, one to five of them, every third one without a label."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        is_right = rng.random(int(rng.integers(1, 6))) < 0.5
        steps = [("fine " if right else "poor ") * int(rng.integers(1, 4)) for right in is_right]
        labels = [None if (i + k) % 3 == 2 else float(right) for k, right in enumerate(is_right)]
        rows.append(
            LabelledResponse(
                prompt=[turn("user", f"question {i}")],
                response=[turn("assistant", "\n".join(steps))],
                steps=[step.strip() for step in steps],
                step_labels=labels,
                response_id=i,
            )
        )
    return rows


def item_of(row: LabelledResponse):
    return row.prompt, row.response, {"steps": list(row.steps)}


def run_on(tmp_path, rows, name="run", **spec):
    local = LocalRun(tmp_path, [], spec.pop("model", {"backbone": "tiny-causal"}), "process")
    ctx = local.context(name, labelled={"rows": rows})
    return local, ctx, local.train(ctx, source={"dataset": "rows"}, dtype="float32", **spec)


# --- where steps are read


@pytest.mark.parametrize("backbone", [*TINY_NAMES, "minilm"])
def test_every_step_is_read_at_its_own_last_token(backbone) -> None:
    found = load_backbone(backbone)
    settings = config(backbone=backbone)
    renderer = PROCESS.renderer(settings, found)
    text = "Step one: 1 + 1 = 2.\n\nStep two: naïve 🦆 ducks.  \nStep three"
    prompt = [turn("user", "How many?")]
    items = [(prompt, [turn("assistant", text)]), (prompt, [turn("assistant", "one line")])]
    encoded = PROCESS.encode(settings, renderer, items)
    [plain, _] = renderer.encode([(p, r) for p, r in items])
    assert (encoded[0].ids == plain.ids).all()
    start = len(encoded[0]) - encoded[0].n_response
    read = [
        found.tokenizer.decode(encoded[0].ids[start : mark + 1], clean_up_tokenization_spaces=False)
        for mark in encoded[0].marks
    ]
    for so_far, step in zip(read, split_steps(text), strict=True):
        tail = step.split()[-1].rstrip(".").lower()
        assert so_far.lower().rstrip(" .").endswith(tail)
    assert len(encoded[1].marks) == 1
    assert encoded[1].marks[0] == len(encoded[1]) - 1 - len(renderer.end)


def test_with_a_chat_template_too() -> None:
    found = load_backbone("tiny-causal")
    found.tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</s>{% endfor %}"
    renderer = PROCESS.renderer(config(), found)
    assert renderer.uses_template
    items = [([turn("user", "q")], [turn("assistant", "a b\nc d")])]
    [encoded] = PROCESS.encode(config(), renderer, items)
    text = found.tokenizer.decode(encoded.ids)
    read = [found.tokenizer.decode(encoded.ids[: mark + 1]) for mark in encoded.marks]
    assert text.startswith(read[1])
    assert [part[-3:] for part in read] == ["a b", "c d"]


def test_a_response_too_long_for_the_context_keeps_the_steps_that_were_read() -> None:
    settings = config(max_length=32)
    renderer = PROCESS.renderer(settings, load_backbone("tiny-causal"))
    response = [turn("assistant", "\n".join(["0123456789"] * 6))]
    [encoded] = PROCESS.encode(settings, renderer, [([turn("user", "q" * 50)], response)])
    assert encoded.n_response_dropped == 65 - 31
    assert encoded.marks.tolist() == [9, 20, 30]


def test_steps_that_are_not_in_the_text_are_named_when_scored() -> None:
    renderer = PROCESS.renderer(config(), load_backbone("tiny-causal"))
    item = ([turn("user", "q")], [turn("assistant", "a b")], {"steps": ["x"]})
    with pytest.raises(JobError, match='begins with "a b" are not in its text'):
        PROCESS.encode(config(), renderer, [item])


# --- what a reward is made of


@pytest.mark.parametrize(
    ("how", "rewards"),
    [
        ("min", [0.2, 0.5]),
        ("mean", [0.6, 0.5]),
        ("last", [0.7, 0.5]),
        ("product", [0.9 * 0.2 * 0.7, 0.5]),
        ("sum", [1.8, 0.5]),
    ],
)
def test_rewards_from_probabilities_of_steps(how, rewards) -> None:
    probabilities = torch.tensor([[0.9, 0.2, 0.7], [0.5, NAN, NAN]], requires_grad=True)
    found = aggregate(probabilities, how)
    assert found.tolist() == pytest.approx(rewards)
    found.sum().backward()
    assert torch.isfinite(probabilities.grad[1]).all()
    assert probabilities.grad[1].tolist()[1:] == [0.0, 0.0]


def test_the_loss_is_the_mean_cross_entropy_of_labelled_steps_alone() -> None:
    objective = OBJECTIVES.get("step_bce")(parse_spec(OBJECTIVES.get("step_bce").Config, {}))
    logits = torch.tensor([[0.3, -1.0, 2.0], [0.7, NAN, NAN]])
    rows = [
        LabelledResponse([], [], steps=["a", "b", "c"], step_labels=[1.0, None, 0.25]),
        LabelledResponse([], [], steps=["a"], step_labels=[0.0], weight=2.0),
    ]
    targets = objective.targets(rows)

    def bce(logit: float, label: float) -> float:
        p = 1 / (1 + math.exp(-logit))
        return -(label * math.log(p) + (1 - label) * math.log(1 - p))

    expected = [bce(0.3, 1.0) + bce(2.0, 0.25), 2 * bce(0.7, 0.0)]
    assert objective.loss(logits, targets).tolist() == pytest.approx(expected, abs=1e-6)
    assert targets.weight.tolist() == [2.0, 2.0]
    by_response = OBJECTIVES.get("step_bce")(parse_spec(OBJECTIVES.get("step_bce").Config, {"weigh": "responses"}))
    halved = by_response.loss(logits, by_response.targets(rows)).tolist()
    assert halved == pytest.approx([expected[0] / 2, expected[1]], abs=1e-6)


def test_metrics_count_labelled_steps() -> None:
    objective = OBJECTIVES.get("step_bce")(parse_spec(OBJECTIVES.get("step_bce").Config, {}))
    rows = [LabelledResponse([], [], steps=["a", "b", "c"], step_labels=[1.0, None, 0.0])]
    found = objective.metrics(np.array([[2.0, -5.0, 1.0]]), objective.targets(rows))
    assert found == {"step_accuracy": 0.5, "step_auroc": 1.0, "n_steps": 2.0, "share_right": 0.5}
    alone = objective.metrics(np.array([[2.0, NAN, NAN]]), objective.targets(rows))
    assert alone == {"step_accuracy": 1.0, "n_steps": 1.0, "share_right": 1.0}
    assert objective.metrics(np.full((1, 1), NAN), objective.targets(rows)) == {"n_steps": 0.0}


# --- the real job


@pytest.mark.parametrize("backbone", TINY_NAMES)
def test_it_learns_and_its_checkpoint_scores_the_same(tmp_path, backbone) -> None:
    rows = step_rows(60)
    local, _, result = run_on(tmp_path, rows, model={"backbone": backbone}, epochs=4, learning_rate=5e-3)
    assert result["objective"] == "step_bce"
    assert result["validation_best"]["step_auroc"] > 0.9
    assert result["probe_difference"] < 1e-4
    json.dumps(result)
    reference = local.checkpoints[result["checkpoint"]]
    settings = parse_spec(PROCESS.Config, local.model)
    scores = PROCESS.open(settings, reference.path).score([item_of(row) for row in rows])
    alone = PROCESS.open(settings, reference.path).score([item_of(rows[3])])
    assert alone.values[0] == pytest.approx(scores.values[3], abs=1e-4)
    for row, value, part in zip(rows, scores.values, scores.parts, strict=True):
        text = row.response[0]["content"]
        assert [text[step["start"] : step["end"]] for step in part["steps"]] == list(row.steps)
        assert [step["text"] for step in part["steps"]] == list(row.steps)
        assert min(step["probability"] for step in part["steps"]) == pytest.approx(value, abs=1e-6)
    json.dumps(scores.parts)


def test_the_scoring_job_cuts_responses_at_their_lines(tmp_path) -> None:
    local, _, result = run_on(tmp_path, step_rows(20), max_steps=2)
    pair = PreferencePair("1", [turn("user", "q")], [turn("assistant", "good\nbad")], [turn("assistant", "bad")], "a")
    local.pairs = [replace(pair, response_a_id=1, response_b_id=2)]
    ctx = local.context("score")
    assert local.run("score", ctx, checkpoint=result["checkpoint"])["n_scored"] == 2
    told = ctx.parts[result["checkpoint"]]
    assert [[step["text"] for step in told[k]["steps"]] for k in (1, 2)] == [["good", "bad"], ["bad"]]


def test_blocks_of_rows_with_other_numbers_of_steps_go_together(tmp_path) -> None:
    rows = [*step_rows(280), *step_rows(8, seed=1)]
    rows[-1] = LabelledResponse(
        prompt=[turn("user", "long")],
        response=[turn("assistant", "good\n" * 9)],
        steps=["good"] * 9,
        step_labels=[1.0] * 9,
    )
    _, _, result = run_on(tmp_path, rows, max_steps=1)
    assert result["n_pairs"] == 288
    assert result["left_out"].keys() == {"no labelled step"}
    assert result["n_train"] + result["n_validation"] == 288 - result["n_left_out"] > 256


def test_steps_that_do_not_align_are_left_out_and_counted(tmp_path) -> None:
    rows = step_rows(30)
    bad = [
        replace(rows[0], step_labels=[1.0] * 7),
        replace(rows[1], steps=["elsewhere"], step_labels=[1.0]),
        replace(rows[2], steps=[], step_labels=[]),
        replace(rows[3], steps=["good"], step_labels=[1.5], response=[turn("assistant", "good")]),
        replace(rows[4], steps=["good"], step_labels=[None], response=[turn("assistant", "good")]),
        replace(rows[5], steps=["good"], step_labels=[1.0], response=[turn("assistant", "good and more")]),
    ]
    _, ctx, result = run_on(tmp_path, [*rows, *bad], max_steps=1)
    reasons = {
        "labels do not match steps",
        "steps not in the response",
        "no steps",
        "a label outside 0 to 1",
        "no labelled step",
        "text between the steps",
    }
    assert reasons <= result["left_out"].keys()
    assert result["n_left_out"] == sum(result["left_out"].values())
    assert any("labels do not match steps" in line for _, line in ctx.logs)


def test_what_cannot_be_learned_from_is_refused(tmp_path) -> None:
    rows = step_rows(12)
    none = [replace(row, steps=[], step_labels=[]) for row in rows]
    with pytest.raises(JobError, match="12 no steps"):
        run_on(tmp_path, none)
    one_class = [replace(row, step_labels=[1.0] * len(row.steps)) for row in rows]
    with pytest.raises(JobError, match="have the label 1"):
        run_on(tmp_path, one_class, "one")
    with pytest.raises(SpecError, match="step_bce"):
        run_on(tmp_path, rows, "bt", objective="bradley_terry")
    with pytest.raises(SpecError, match="head that can be trained on its own"):
        run_on(tmp_path, rows, "frozen", freeze_backbone=True)


# --- Gao et al. 2024: labels from rollouts, in a world of exact arithmetic


def rollout_rows(n: int, rng: np.random.Generator) -> tuple[list[LabelledResponse], float]:
    """Solutions with automatic labels, and how often these agree with exact correctness."""
    rows, agreed = [], []
    for chain in make_chains(n, rng, 3):
        values = go_on(chain, [], rng, 0.25)
        prefixes = [values[: k + 1] for k in range(len(values))]
        labels = rollout_labels(prefixes, completer(chain, rng, 0.05), lambda end, c=chain: end == c.answer, n=8)
        agreed += [bool(a) == b for a, b in zip(labels, is_so_far_right(chain, values), strict=True)]
        rows.append(labelled(chain, values, labels))
    return rows, float(np.mean(agreed))


def test_labels_from_rollouts_agree_with_exact_correctness() -> None:
    agreements = [rollout_rows(300, np.random.default_rng(seed))[1] for seed in range(3)]
    assert min(agreements) >= 0.90


@pytest.mark.slow
def test_a_process_reward_model_trained_on_them_tells_right_steps_from_wrong(tmp_path) -> None:
    rng = np.random.default_rng(0)
    rows, agreement = rollout_rows(1500, rng)
    assert agreement >= 0.90
    local, _, result = run_on(tmp_path, rows, epochs=10, learning_rate=5e-3, batch_pairs=32, token_budget=4096)
    scorer = PROCESS.open(parse_spec(PROCESS.Config, local.model), local.checkpoints[result["checkpoint"]].path)
    fresh = [(chain, go_on(chain, [], rng, 0.25)) for chain in make_chains(300, rng, 3)]
    scores = scorer.score([item_of(labelled(chain, values, [1] * 3)) for chain, values in fresh])
    given = [step["probability"] for part in scores.parts for step in part["steps"]]
    truth = [right for chain, values in fresh for right in is_so_far_right(chain, values)]
    found = auroc(np.array(given), np.array(truth))
    print(f"agreement {agreement:.3f}, AUROC {found:.3f} on {len(truth)} steps")
    assert found >= 0.85
