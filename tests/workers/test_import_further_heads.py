"""Further public layouts: QRM's quantiles, RLHFlow's turns, OpenRLHF's scale, two classes.

Every reference here is written from the published formula with torch and transformers alone.
"""

import json

import pytest
import torch
from torch import nn

from tests.workers.making import turn
from tests.workers.test_export_checkpoint import export
from tests.workers.test_export_families import by_card
from tests.workers.test_import_public_heads import (
    PROBLEM,
    STEPS,
    WIDTH,
    hidden,
    ids_of,
    language_model,
    linear,
    public,
    random,
    stepwise,
    tokenizer,
)
from tests.workers.test_import_rm import hf_folder, imported, own_logits, scorer_of
from workers.errors import JobError, SpecError
from workers.families.attributes import ARMORM
from workers.nn.importing import probes

GATED = "LlamaForRewardModelWithGating31"


# --- QRM: quantiles of ratings, and a gate with batch norms


def qrm_head(k=19, quantiles=5, n_hidden=3, width=24):
    """As its class names them: layer, ReLU without tensors, batch norm; the last layer alone has a bias."""
    head = {"regression_layer.weight": random(k * quantiles, WIDTH), "gating.logit_scale": torch.tensor([1.2])}
    size = WIDTH
    for i in range(0, 3 * n_hidden, 3):
        head |= linear(f"gating.layers.{i}", width, width=size)
        norm = f"gating.layers.{i + 2}"
        head |= {f"{norm}.weight": 1 + random(width, scale=0.2), f"{norm}.bias": random(width)}
        head |= {f"{norm}.running_mean": random(width).abs(), f"{norm}.running_var": 0.1 + random(width).abs()}
        head |= {f"{norm}.num_batches_tracked": torch.tensor(7)}
        size = width
    head |= linear(f"gating.layers.{3 * n_hidden}", k, width=size, bias=True)
    return head | {"reward_transform_matrix": torch.eye(k) - 0.1 * random(k, k)}


def qrm_gate(head, n_hidden=3, width=24, k=19):
    layers, size = [], WIDTH
    for _ in range(n_hidden):
        layers += [nn.Linear(size, width, bias=False), nn.ReLU(), nn.BatchNorm1d(width)]
        size = width
    net = nn.Sequential(*layers, nn.Linear(size, k)).eval()
    prefix = "gating.layers."
    net.load_state_dict({n.removeprefix(prefix): t for n, t in head.items() if n.startswith(prefix)})
    return net


def test_qrm_becomes_a_gated_model_of_the_means_of_its_quantiles(tmp_path) -> None:
    head = qrm_head()
    folder, base = public(tmp_path / "hf", GATED, head, num_quantiles=5, num_objectives=19, gating_temperature=4)
    result, reference, _ = imported(tmp_path, folder)
    assert (result["family"], reference.config["attributes"]) == ("gated", list(ARMORM))
    assert (reference.config["gate_layers"], reference.config["gate_width"]) == (3, 24)
    found = scorer_of(reference).score(probes())
    gate = qrm_gate(head)
    pattern = tokenizer()("<|eot|><|start|>assistant<|end|>\n\n", add_special_tokens=False)["input_ids"]
    for (prompt, response), value, part in zip(probes(), found.values, found.parts, strict=True):
        ids = ids_of([*prompt, *response])
        place = max(j for j in range(len(ids)) if ids[j : j + len(pattern)] == pattern)
        with torch.inference_mode():
            states = hidden(base, ids)
            quantiles = (states[-1:] @ head["regression_layer.weight"].T).reshape(-1, 19, 5)
            weights = torch.softmax(gate(states[place : place + 1]) / 4, dim=1) * head["gating.logit_scale"][0]
            expectation = quantiles.mean(dim=2)
            score = torch.sum(weights * (expectation @ head["reward_transform_matrix"]), dim=1)
        assert value == pytest.approx(float(score), abs=1e-5)
        assert list(part["gating"].values()) == pytest.approx(weights[0].tolist(), abs=1e-5)
        assert list(part["rewards"].values()) == pytest.approx(expectation[0].tolist(), abs=1e-5)
        assert part["attributes"] == pytest.approx(part["rewards"], abs=1e-5)
    assert found.values.std() > 0.01
    assert any("mean of its 5 quantiles" in note for note in result["notes"])


@pytest.mark.parametrize(
    ("change", "config", "says"),
    [
        (lambda h: None, {}, r"regression_layer\.weight has shape \(95, 32\), not \(19, 32\)"),
        (lambda h: None, {"num_quantiles": 4}, r"\(95, 32\), not 19 ratings of 4 quantiles each"),
        (lambda h: None, {"num_quantiles": "five"}, "not 19 ratings of five quantiles each"),
        (lambda h: h.pop("gating.layers.2.running_var"), {"num_quantiles": 5}, r"layers\.2\.running_var is missing"),
        (lambda h: h.update({"gating.layers.2.gain": random(24)}), {"num_quantiles": 5}, r"2\.gain is not known"),
        (
            lambda h: h.update({"gating.layers.2.bias": random(23)}),
            {"num_quantiles": 5},
            r"layers\.2 is no batch norm behind a layer",
        ),
        (
            lambda h: h.update({"gating.layers.3.weight": random(24, 23)}),
            {"num_quantiles": 5},
            r"gating\.layers\.1\.weight has shape \(24, 23\)",
        ),
        (lambda h: h.pop("reward_transform_matrix"), {"num_quantiles": 5}, "reward_transform_matrix is missing"),
    ],
)
def test_a_qrm_of_another_layout_is_refused_by_tensor_and_shape(tmp_path, change, config, says) -> None:
    head = qrm_head()
    change(head)
    folder, _ = public(tmp_path / "hf", GATED, head, **config)
    with pytest.raises(JobError, match=says):
        imported(tmp_path, folder)


def test_a_gate_that_reads_the_response_is_refused(tmp_path) -> None:
    """As URM has: ten outputs, of which five are means, and weights of its own kind."""
    head = linear("score", 10) | linear("weights", 5)
    folder, _ = public(tmp_path / "hf", "LlamaForRewardModelWithGating", head)
    with pytest.raises(JobError, match=r"score\.weight \(10, 32\), weights\.weight \(5, 32\)"):
        imported(tmp_path, folder)


# --- RLHFlow: steps as turns


def rlhflow_steps(model, steps, problem="What is 7 * 6 + 1?"):
    """As published: of the conversation so far the logits of + and - two places before its end, which is + and eot."""
    good, bad = tokenizer()("+-")["input_ids"]
    conversation, found = [], []
    for k, step in enumerate(steps):
        conversation.append({"role": "user", "content": f"{problem} {step}" if k == 0 else step})
        conversation.append({"role": "assistant", "content": "+"})
        ids = torch.tensor([ids_of(conversation)])
        with torch.inference_mode():
            logits = model(input_ids=ids).logits[:, -3, [good, bad]]
        found.append(float(logits.softmax(dim=-1)[0, 0]))
    return found


TURNS = {"right_token": "+", "wrong_token": "-", "step_answer": "+"}


def rlhflow_folder(folder):
    model = language_model()
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder, model


def test_rlhflow_is_asked_turn_by_turn(tmp_path) -> None:
    folder, model = rlhflow_folder(tmp_path / "hf")
    result, reference, _ = imported(tmp_path, folder, **TURNS)
    assert (result["family"], reference.config["step_answer"]) == ("process", "+")
    found, scores = stepwise(reference)
    expected = rlhflow_steps(model, STEPS)
    assert found == pytest.approx(expected, abs=1e-5)
    assert scores.values[0] == pytest.approx(min(expected), abs=1e-5)
    assert [step["text"] for step in scores.parts[0]["steps"]] == STEPS
    # a first step that the question holds, and a response without given steps
    lines = ["2", "What is 7", "= 43 +"]
    item = (PROBLEM, [turn("assistant", "\n".join(lines))])
    part = scorer_of(reference).score([item]).parts[0]
    assert [s["probability"] for s in part["steps"]] == pytest.approx(rlhflow_steps(model, lines), abs=1e-5)
    earlier = [turn("user", "Hello"), turn("assistant", "Yes?"), *PROBLEM]
    assert scorer_of(reference).score([(earlier, item[1])]).values[0] != pytest.approx(
        float(scores.values[0]), abs=1e-4
    )
    alone = scorer_of(reference).score([([], item[1])]).parts[0]["steps"]
    assert len(alone) == 3


def test_steps_behind_the_cut_have_no_probability(tmp_path) -> None:
    folder, _ = rlhflow_folder(tmp_path / "hf")
    _, reference, _ = imported(tmp_path, folder, **TURNS, max_length=128)
    steps = ["a" * 10, "b" * 30, "c" * 400, "d"]
    part = scorer_of(reference).score([([turn("user", "Q")], [turn("assistant", "\n".join(steps))])]).parts[0]
    told = [step["probability"] for step in part["steps"]]
    assert 0 < len(told) <= 2


def test_turns_that_a_template_cannot_hold_are_refused(tmp_path) -> None:
    folder, _ = rlhflow_folder(tmp_path / "hf")
    with pytest.raises(JobError, match="need a chat template"):
        imported(tmp_path, folder, **TURNS, rendering="plain")
    swallows = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] | upper }}{% endfor %}"
    with pytest.raises(JobError, match="does not put the answer to a step right behind its header"):
        imported(tmp_path, folder, **TURNS, chat_template=swallows)
    with pytest.raises(JobError, match="not both"):
        imported(tmp_path, folder, **TURNS, step_mark="ки")
    with pytest.raises(SpecError, match="at most 20"):
        imported(tmp_path, folder, **{**TURNS, "step_answer": "+" * 21})


# --- OpenRLHF: mean and deviation beside the head


@pytest.mark.parametrize("kept", ["config", "buffers", "both"])
def test_a_scale_beside_the_head_goes_into_it(tmp_path, kept) -> None:
    """reward = (value - mean) / std; what the config says goes before the buffers, as its class loads them."""
    buffers = {"mean": torch.tensor([0.7]), "std": torch.tensor([1.9])}
    held = {"mean": 0.4, "std": 2.5} if kept != "buffers" else {}
    mean, std = (0.7, 1.9) if kept == "buffers" else (0.4, 2.5)
    head = linear("value_head") | (buffers if kept != "config" else {})
    folder, base = public(tmp_path / "hf", "RewardModel", head, normalize_reward=True, **held)
    result, reference, _ = imported(tmp_path, folder)
    weight = head["value_head.weight"][0]
    expected = [(float(weight @ hidden(base, ids_of([*p, *r]))[-1]) - mean) / std for p, r in probes()]
    assert scorer_of(reference).score(probes()).values == pytest.approx(expected, abs=1e-5)
    assert any("normalised" in note for note in result["notes"])
    told = json.loads((reference.path / "backbone" / "config.json").read_text())
    assert not {"mean", "std", "normalize_reward"} & told.keys()


def test_a_scale_that_is_not_applied_is_told_and_a_wrong_one_refused(tmp_path) -> None:
    head = linear("value_head") | {"mean": torch.tensor([0.7]), "std": torch.tensor([1.9])}
    folder, base = public(tmp_path / "hf", "RewardModel", head, normalize_reward=False)
    result, reference, _ = imported(tmp_path, folder)
    weight = head["value_head.weight"][0]
    expected = [float(weight @ hidden(base, ids_of([*p, *r]))[-1]) for p, r in probes()]
    assert scorer_of(reference).score(probes()).values == pytest.approx(expected, abs=1e-5)
    assert any("does not apply" in note for note in result["notes"])
    for i, wrong in enumerate([{"std": 0.0, "mean": 1.0}, {"mean": "much", "std": 1.0}, {"mean": 1.0, "std": True}]):
        folder, _ = public(tmp_path / f"wrong {i}", "RewardModel", head, normalize_reward=True, **wrong)
        with pytest.raises(JobError, match="not by a number and one above 0"):
            imported(tmp_path / str(i), folder)
    bare = linear("value_head") | {"mean": torch.tensor([0.7])}
    folder, _ = public(tmp_path / "bare", "RewardModel", bare, normalize_reward=True)
    with pytest.raises(JobError, match="not by a number"):
        imported(tmp_path / "b", folder)


# --- classes


@pytest.mark.parametrize("kind", ["Llama", "Bert", "Roberta"])
@pytest.mark.parametrize("labels", [["bad", "good"], ["correct", "incorrect"]])
def test_a_right_and_a_wrong_class_become_the_difference_of_their_logits(tmp_path, kind, labels) -> None:
    named = {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
    folder = hf_folder(tmp_path / "hf", kind, num_labels=2, **named)
    result, reference, _ = imported(tmp_path, folder)
    assert result["family"] == "scalar_head"
    scorer = scorer_of(reference)
    logits, _ = own_logits(folder, scorer)
    p = logits.softmax(dim=-1)[:, 1 if labels[1] == "good" else 0]
    found = torch.from_numpy(scorer.score(probes()).values)
    assert found.sigmoid().tolist() == pytest.approx(p.tolist(), abs=1e-5)
    assert any("their softmax" in note for note in result["notes"])


def test_labels_of_two_layers_become_one_reward_by_weights(tmp_path) -> None:
    labels = ["contradiction", "neutral", "entailment"]
    named = {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
    folder = hf_folder(tmp_path / "hf", "Bert", num_labels=3, **named)
    with pytest.raises(JobError, match="ratings need one linear layer") as refused:
        imported(tmp_path, folder)
    assert "As scalar_head" in refused.value.hint
    with pytest.raises(JobError, match="has 3 labels, and one reward"):
        imported(tmp_path, folder, family="scalar_head")
    with pytest.raises(JobError, match="weights name irony; its labels are contradiction"):
        imported(tmp_path, folder, family="scalar_head", weights={"irony": 1.0})
    _, reference, _ = imported(
        tmp_path, folder, family="scalar_head", weights={"entailment": 2.0, "contradiction": -1.0}
    )
    scorer = scorer_of(reference)
    logits, _ = own_logits(folder, scorer)
    expected = (2 * logits[:, 2] - logits[:, 0]).tolist()
    assert scorer.score(probes()).values == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("settings", [TURNS, {"right_token": "+", "wrong_token": "-", "step_mark": r"\sки\n"}])
def test_what_is_read_by_steps_leaves_as_labels_of_tokens(tmp_path, settings) -> None:
    """The card's code cuts a response into steps, renders them as we do, and reads where we read."""
    folder, _ = rlhflow_folder(tmp_path / "hf")
    _, reference, _ = imported(tmp_path, folder, **settings)
    result, out = export(tmp_path, reference)
    assert result["opens_as"] == "LlamaForTokenClassification"
    card, scorer = by_card(out), scorer_of(reference)
    asked = [turn("user", "One. "), turn("assistant", "Yes?"), *PROBLEM]
    for prompt in (PROBLEM, asked, [*PROBLEM, turn("assistant", "Hm.")], [turn("system", "Be brief.")], []):
        for text in ("One.\n\nTwo\nThree three", "1", "   indented \n?  ", "What is 7 * 6 + 1?"):
            item = (prompt, [turn("assistant", text)])
            [encoded] = scorer.encode([item])
            assert card["encode"](*item) == (encoded.ids.tolist(), encoded.marks.tolist())
            assert card["reward"](*item) == pytest.approx(float(scorer.score([item]).values[0]), abs=1e-5)
    result, again, _ = imported(tmp_path / "back", out)
    assert result["family"] == "process"
    for name in ("step_answer", "step_mark", "aggregation"):
        assert again.config[name] == reference.config[name]
    found, expected = stepwise(again)[0], stepwise(reference)[0]
    assert found == pytest.approx(expected, abs=1e-5)
