"""Families besides the scalar head as folders of transformers: opened by Auto classes, and taken in again."""

import json

import pytest
import torch
import transformers
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from tests.workers.attributes_world import rated_rows
from tests.workers.making import LocalRun, make_pairs
from tests.workers.test_export_checkpoint import export
from tests.workers.test_import_rm import hf_folder, imported, scorer_of
from tests.workers.test_polar import referenced
from tests.workers.test_process import step_rows
from workers.context import CheckpointRef
from workers.errors import JobError
from workers.families import FAMILIES
from workers.nn.checkpoints import read_about, read_checkpoint, write_checkpoint
from workers.nn.storing import rewrite_probes
from workers.specs import parse_spec

ATTRIBUTES = ["kind", "clear", "verbosity"]
WEIGHTS = {"kind": 1.0, "clear": 0.5, "verbosity": -0.25}


def made(tmp_path, family, rows, spec=None, **config):
    """A checkpoint that the real job has trained for a few steps."""
    run = LocalRun(tmp_path / "training", rows, {"backbone": "tiny-causal", **config}, family)
    labelled = {"rows": rows} if hasattr(rows[0], "response") else {}
    ctx = run.context(labelled=labelled)
    source = {"source": {"dataset": "rows"}} if labelled else {}
    return run.checkpoints[run.train(ctx, max_steps=6, **source, **(spec or {}))["checkpoint"]]


def changed(tmp_path, reference, change):
    """The same checkpoint with another head, so that nothing of it is zero or one by chance."""
    family = FAMILIES.get(reference.family)
    config = parse_spec(family.Config, reference.config)
    backbone, weights = read_checkpoint(reference.path)
    net = family.net(config, backbone)
    weights.load_into(net)
    torch.manual_seed(3)
    with torch.no_grad():
        change(net.head)
    write_checkpoint(tmp_path / "changed", net, backbone, read_about(reference.path))
    rewrite_probes(tmp_path / "changed", reference.family, reference.config)
    return CheckpointRef("changed", reference.family, reference.config, tmp_path / "changed")


def told(folder):
    return json.loads((folder / "probes.json").read_text())


def item_of(probe):
    extra = {name: probe[name] for name in ("steps", "reference") if name in probe}
    return probe["prompt"], probe["response"], extra


def by_class(folder, auto=AutoModelForSequenceClassification):
    """Logits of the probes, by whoever opens the folder."""
    model = auto.from_pretrained(folder).eval()
    with torch.inference_mode():
        return [model(input_ids=torch.tensor([p["input_ids"]])).logits[0] for p in told(folder)], model


def by_card(folder):
    """The code as it stands on the card, with the folder as the one name that it needs."""
    names = {"folder": folder}
    exec((folder / "README.md").read_text().split("```python\n")[1].split("```")[0], names)  # our own text
    return names


def assert_card_and_round_trip(tmp_path, folder, reference, family, *extra):
    """The card's code and the folder taken in again give the rewards that our scorer gives."""
    probes = told(folder)
    own = scorer_of(reference).score([item_of(p) for p in probes])
    assert own.values.std() > 1e-4
    card = by_card(folder)
    found = [card["reward"](p["prompt"], p["response"], *(p[name] for name in extra if name in p)) for p in probes]
    close = 1e-5 * max(1.0, abs(own.values).max())
    assert found == pytest.approx(own.values.tolist(), abs=close)
    result, again, _ = imported(tmp_path / "back", folder)
    assert result["family"] == family
    back = scorer_of(again).score([item_of(p) for p in probes])
    assert back.values == pytest.approx(own.values.tolist(), abs=close)
    return own, back


@pytest.mark.parametrize("kind", ["tiny-causal", "tiny-encoder"])
@pytest.mark.parametrize("family", ["multi_attribute", "embedding_linear"])
def test_ratings_leave_as_labels_and_come_back(tmp_path, family, kind) -> None:
    config = {"attributes": ATTRIBUTES, "weights": WEIGHTS, "backbone": kind, "pooling": "auto"}
    if kind == "tiny-encoder":
        config["pooling"] = "first"
        if (
            family == "embedding_linear"
        ):  # a random encoder's first state hardly varies, and scaling it up is mere noise
            config["standardise"] = False
    spec = {"objective": "attribute_regression"} if family == "embedding_linear" else {}
    reference = made(tmp_path, family, rated_rows(40), spec, **config)
    result, folder = export(tmp_path, reference)
    name = "LlamaForSequenceClassification" if kind == "tiny-causal" else "BertForSequenceClassification"
    assert (result["opens_as"], result["weights"]) == (name, WEIGHTS)
    logits, model = by_class(folder)
    assert model.config.id2label == dict(enumerate(ATTRIBUTES))
    own, back = assert_card_and_round_trip(tmp_path, folder, reference, "multi_attribute")
    close = 1e-5 * max(1.0, abs(own.values).max())
    for row, part, probe in zip(logits, own.parts, told(folder), strict=True):
        ratings = [value + result["constants"].get(n, 0.0) for n, value in zip(ATTRIBUTES, row.tolist(), strict=True)]
        assert list(part["attributes"].values()) == pytest.approx(ratings, abs=close)
        assert probe["ratings"] == pytest.approx(part["attributes"], abs=1e-6)
    for ours, theirs in zip(own.parts, back.parts, strict=True):
        assert theirs["attributes"] == pytest.approx(ours["attributes"], abs=close)
    assert bool(result["constants"]) == (kind == "tiny-causal")
    assert "the reward is made of them: 1 kind +0.5 clear -0.25 verbosity" in (folder / "README.md").read_text()


def test_one_attribute_keeps_its_weight(tmp_path) -> None:
    reference = made(tmp_path, "multi_attribute", rated_rows(24), attributes=["kind"], weights={"kind": 2.0})
    result, folder = export(tmp_path, reference)
    assert result["weights"] == {"kind": 2.0}
    assert_card_and_round_trip(tmp_path, folder, reference, "multi_attribute")


def test_a_linear_fit_to_pairs_is_one_label(tmp_path) -> None:
    reference = made(tmp_path, "embedding_linear", make_pairs(40))
    result, folder = export(tmp_path, reference)
    logits, _ = by_class(folder)
    own, _ = assert_card_and_round_trip(tmp_path, folder, reference, "scalar_head")
    assert [row[0].item() + result["constant"] for row in logits] == pytest.approx(
        own.values.tolist(), rel=1e-5, abs=1e-5
    )


@pytest.mark.parametrize("output", ["a", "b", "mean"])
def test_twins_are_one_linear_head(tmp_path, output) -> None:
    reference = made(tmp_path, "twin_head", make_pairs(32), head_depth=1, output=output)

    def apart(head):
        head.centre.copy_(torch.tensor([0.4, -1.1]))
        head.spread.copy_(torch.tensor([0.3, 2.0]))
        for member in head.members:
            torch.nn.init.normal_(member.weight, std=0.4)
            torch.nn.init.normal_(member.bias)

    reference = changed(tmp_path, reference, apart)
    result, folder = export(tmp_path, reference)
    logits, _ = by_class(folder)
    own, _ = assert_card_and_round_trip(tmp_path, folder, reference, "scalar_head")
    assert [row[0].item() + result["constant"] for row in logits] == pytest.approx(own.values.tolist(), abs=1e-5)


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({}, "tiny-causal"),
        ({}, "tiny-encoder"),
        ({"aggregation": "product", "step_mark": r"\sки\n"}, "tiny-causal"),
        ({"aggregation": "last", "step_tag": "ne"}, "tiny-causal"),
        ({"aggregation": "mean"}, "tiny-causal"),
    ],
)
def test_steps_are_labels_of_tokens(tmp_path, settings, kind) -> None:
    reference = made(tmp_path, "process", step_rows(32), backbone=kind, **settings)
    reference = changed(tmp_path, reference, lambda head: torch.nn.init.normal_(head.weight, std=0.4))
    result, folder = export(tmp_path, reference)
    name = "LlamaForTokenClassification" if kind == "tiny-causal" else "BertForTokenClassification"
    assert result["opens_as"] == name
    logits, _ = by_class(folder, AutoModelForTokenClassification)
    own, back = assert_card_and_round_trip(tmp_path, folder, reference, "process", "steps")
    card = by_card(folder)
    for row, part, again, probe in zip(logits, own.parts, back.parts, told(folder), strict=True):
        p = row[probe["positions"], 0].sigmoid().tolist()
        assert [step["probability"] for step in part["steps"]] == pytest.approx(p, abs=1e-5)
        assert [step["probability"] for step in again["steps"]] == pytest.approx(p, abs=1e-5)
        assert card["encode"](*item_of(probe)[:2], probe.get("steps")) == (probe["input_ids"], probe["positions"])
    assert sum(len(probe["positions"]) for probe in told(folder)) > 8
    text = [{"role": "assistant", "content": "One.\n\nTwo, done\nThree"}]
    ours = scorer_of(reference).score([(told(folder)[0]["prompt"], text)]).values[0]
    assert card["reward"](told(folder)[0]["prompt"], text) == pytest.approx(ours, abs=1e-5)
    for setting in ("aggregation", "step_mark", "step_tag"):
        assert back is not None
        assert reference.config.get(setting, "") in ("", settings.get(setting, ""))


def test_steps_cut_by_the_context_are_cut_by_the_card_too(tmp_path) -> None:
    reference = made(tmp_path, "process", step_rows(32), max_length=64)
    _, folder = export(tmp_path, reference)
    card, scorer = by_card(folder), scorer_of(reference)
    prompt = [{"role": "user", "content": "why " * 30}]
    for text in ("fine " * 4 + "\n" + "poor " * 40 + "\nfine", "fine\npoor " + "so " * 8):
        item = (prompt, [{"role": "assistant", "content": text}])
        [encoded] = scorer.encode([item])
        assert card["encode"](*item) == (encoded.ids.tolist(), encoded.marks.tolist())


@pytest.mark.parametrize("family", ["policy_discriminator", "reference_verifier"])
def test_what_reads_a_reference_leaves_with_it(tmp_path, family) -> None:
    spec = {"objective": "bradley_terry"} if family == "reference_verifier" else {}
    reference = made(tmp_path, family, referenced(make_pairs(32)), spec)
    result, folder = export(tmp_path, reference)
    assert result["opens_as"] == "LlamaForSequenceClassification"
    probes, card = told(folder), by_card(folder)
    own = scorer_of(reference).score([item_of(p) for p in probes]).values
    logits, _ = by_class(folder)
    assert own.std() > 1e-4
    assert [row[0].item() + result["constant"] for row in logits] == pytest.approx(own.tolist(), abs=1e-5)
    found = [card["reward"](p["prompt"], p["response"], p["reference"]) for p in probes]
    assert found == pytest.approx(own.tolist(), abs=1e-5)
    assert [card["encode"](p["prompt"], p["response"], p["reference"]) for p in probes] == [
        p["input_ids"] for p in probes
    ]
    said = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Why"},
    ]
    turns = (said, [{"role": "assistant", "content": "So."}, {"role": "user", "content": "And?"}])
    [encoded] = scorer_of(reference).encode([(*turns, {"reference": said})])
    assert card["encode"](*turns, said) == encoded.ids.tolist()
    with pytest.raises(JobError, match="reads a reference beside the response"):
        imported(tmp_path / "back", folder)


def test_the_reward_of_a_goal_conditioned_model_leaves_without_its_goal(tmp_path) -> None:
    reference = made(tmp_path, "goal_conditioned", make_pairs(32))
    result, folder = export(tmp_path, reference)
    assert (result["opens_as"], result["constant"]) == ("LlamaForSequenceClassification", 0.0)
    assert_card_and_round_trip(tmp_path, folder, reference, "scalar_head")
    assert "goal state" in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("family", "config", "says"),
    [
        ("twin_head", {"output": "mean"}, "mean of two heads of 2 layers"),
        ("multi_attribute", {"attributes": ["kind"], "pooling": "response_mean"}, "mean of the response's tokens"),
        ("process", {"head_depth": 2}, "that label tokens have a head of 1 layer; this one has 2"),
    ],
)
def test_what_cannot_travel_says_what_is_in_the_way(tmp_path, family, config, says) -> None:
    rows = {"multi_attribute": rated_rows, "process": step_rows}.get(family, make_pairs)(24)
    with pytest.raises(JobError, match=says) as refused:
        export(tmp_path, made(tmp_path, family, rows, **config))
    assert "plain folder" in refused.value.hint


def test_what_a_folder_says_of_itself_is_not_believed_blindly(tmp_path) -> None:
    folder = hf_folder(tmp_path / "hf", "Llama", num_labels=1)
    told = json.loads((folder / "config.json").read_text())

    def say(**said):
        usual = {
            "family": "scalar_head",
            "rendering": "plain",
            "constants": {"reward": 1.0},
            "weights": {"reward": 1.0},
        }
        config = {**told, "id2label": {"0": "reward"}, "label2id": {"reward": 0}, "steelyard": {**usual, **said}}
        (folder / "config.json").write_text(json.dumps(config))

    say()
    _, reference, _ = imported(tmp_path / "a", folder)
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    scorer = scorer_of(reference)
    item = ([{"role": "user", "content": "Hi"}], [{"role": "assistant", "content": "Hello."}])
    ids = torch.from_numpy(scorer.encode([item])[0].ids).long()[None]
    with torch.inference_mode():
        expected = plain(input_ids=ids).logits[0, 0].item() + 1.0
    assert scorer.score([item]).values[0] == pytest.approx(expected, abs=1e-5)
    assert "steelyard" not in (reference.path / "backbone" / "config.json").read_text()
    for said, says in [
        ({"constants": {"reward": "much"}}, r"steelyard\.constants\.reward is amiss"),
        ({"constants": {"other": 1.0}}, "its labels are not those it was exported with"),
        ({"constants": {"reward": float("nan")}}, r"steelyard\.constants\.reward is amiss"),
        ({"rendering": "sung"}, r"steelyard\.rendering is amiss"),
        ({"code": "import os"}, r"steelyard\.code is amiss"),
    ]:
        say(**said)
        with pytest.raises(JobError, match=says):
            imported(tmp_path / "b", folder)
