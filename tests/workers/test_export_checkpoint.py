"""Checkpoints as folders of transformers: the same rewards by its own class, or a refusal that says why."""

import json

import pytest
import torch
import transformers

from tests.workers.making import LocalRun, make_pairs
from tests.workers.test_import_rm import hf_folder, imported
from workers.context import CheckpointRef, LocalJobContext
from workers.data.model_card import model_card
from workers.errors import JobError
from workers.families import FAMILIES
from workers.jobs import JOBS
from workers.specs import parse_spec


def export(tmp_path, reference):
    ctx = LocalJobContext(tmp_path / "export", checkpoints={reference.uid: reference})
    job = JOBS.get("export_checkpoint")
    result = job().run(ctx, parse_spec(job.Spec, {"checkpoint": reference.uid}))
    return result, ctx.work_dir / "artifacts" / result["artifact"]


def trained(tmp_path, family="scalar_head", **config):
    run = LocalRun(tmp_path / "training", make_pairs(24), model={"backbone": "tiny-causal", **config}, family=family)
    return run.checkpoints[run.train(max_steps=6)["checkpoint"]]


def assert_same_rewards(folder, result, reference):
    """What anybody gets who opens the folder, against our own scorer."""
    probes = json.loads((folder / "probes.json").read_text())
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        found = [model(input_ids=torch.tensor([p["input_ids"]])).logits[0, 0].item() for p in probes]
    family = FAMILIES.get(reference.family)
    scorer = family.open(parse_spec(family.Config, reference.config), reference.path)
    own = scorer.score([(p["prompt"], p["response"]) for p in probes]).values
    assert [value + result["constant"] for value in found] == pytest.approx(own.tolist(), abs=1e-5)
    assert own.std() > 1e-4
    assert_code_of_the_card(folder, probes, own.tolist())


def assert_code_of_the_card(folder, probes, rewards):
    """The code as it stands on the card, with the folder as the one name that it needs."""
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    names = {"folder": folder}
    exec(code, names)  # our own text
    found = [names["encode"](p["prompt"], p["response"]) for p in probes]
    assert found == [p["input_ids"] for p in probes]
    assert [names["reward"](p["prompt"], p["response"]) for p in probes] == pytest.approx(rewards, abs=1e-5)


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({}, "LlamaForSequenceClassification"),
        ({"backbone": "tiny-encoder", "pooling": "first"}, "BertForSequenceClassification"),
        (
            {"backbone": "tiny-encoder", "pooling": "first", "head_depth": 2, "head_activation": "tanh"},
            "BertForSequenceClassification",
        ),
    ],
)
def test_trained_checkpoints_open_with_the_same_rewards(tmp_path, config, name) -> None:
    reference = trained(tmp_path, **config)
    result, folder = export(tmp_path, reference)
    assert result["opens_as"] == name
    assert_same_rewards(folder, result, reference)
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json", "probes.json"} <= {
        file.name for file in folder.iterdir()
    }
    card = (folder / "README.md").read_text()
    assert "AutoModelForSequenceClassification.from_pretrained(folder)" in card
    assert card.startswith("---\npipeline_tag: text-classification")


@pytest.mark.parametrize("kind", ["Llama", "Bert", "Roberta", "DistilBert", "Electra"])
def test_what_was_imported_leaves_as_it_came(tmp_path, kind) -> None:
    _, reference, _ = imported(tmp_path, hf_folder(tmp_path / "hf", kind, num_labels=1))
    result, folder = export(tmp_path, reference)
    assert (result["opens_as"], result["constant"]) == (f"{kind}ForSequenceClassification", 0.0)
    assert_same_rewards(folder, result, reference)


def test_a_constant_that_the_class_cannot_hold_is_said(tmp_path) -> None:
    from workers.nn.checkpoints import read_about, read_checkpoint, write_checkpoint
    from workers.nn.storing import rewrite_probes

    reference = trained(tmp_path)
    family = FAMILIES.get("scalar_head")
    config = parse_spec(family.Config, reference.config)
    backbone, weights = read_checkpoint(reference.path)
    net = family.net(config, backbone)
    weights.load_into(net)
    torch.nn.init.constant_(net.head.bias, 1.5)
    write_checkpoint(tmp_path / "shifted", net, backbone, read_about(reference.path))
    rewrite_probes(tmp_path / "shifted", "scalar_head", reference.config)
    shifted = CheckpointRef("shifted", "scalar_head", reference.config, tmp_path / "shifted")
    result, folder = export(tmp_path, shifted)
    assert result["constant"] == 1.5
    assert "no place for the constant +1.5" in (folder / "README.md").read_text()
    assert_same_rewards(folder, result, shifted)


@pytest.mark.parametrize(
    ("family", "config", "says"),
    [
        ("scalar_head", {"pooling": "response_mean"}, "is not told where among them the response begins"),
        ("scalar_head", {"length_normalisation": "log_tokens"}, "divides the reward by the length of the response"),
        ("autoregressive", {}, "family autoregressive cannot be exported. Its reward is a likelihood"),
    ],
)
def test_what_cannot_travel_is_refused_with_a_way_out(tmp_path, family, config, says) -> None:
    with pytest.raises(JobError, match=says) as refused:
        export(tmp_path, trained(tmp_path, family, **config))
    assert "plain folder" in refused.value.hint


def test_a_rule_has_nothing_to_export(tmp_path) -> None:
    with pytest.raises(JobError, match="no weights to export"):
        export(tmp_path, CheckpointRef("rule", "length", {}, None))


def test_the_card_states_data_licence_and_figures() -> None:
    facts = {
        "name": "Mine | yours",
        "number": 3,
        "uid": "u",
        "family": "scalar_head",
        "config": {"backbone": "minilm"},
        "sha256": "f" * 64,
        "metrics": {"validation": {"accuracy": 0.7}},
        "licence": "CC-BY-4.0",
        "data": {"name": "Pairs", "kind": "dataset", "sha256": "d" * 64},
        "run": {"uid": "r", "kind": "train_rm", "ended_at": "2026-01-01T00:00:00+00:00", "spec": {"seed": 1}},
        "evaluations": [{"name": "Test", "value": 0.71, "low": 0.6, "high": 0.8, "n": 90}],
    }
    card = model_card(facts, ["Open it."])
    for text in (
        "d" * 64,
        "f" * 64,
        "is under: CC-BY-4.0.",
        "| Test | 0.710 | [0.600, 0.800] | 90 |",
        "train_rm `r`",
        '"seed": 1',
    ):
        assert text in card
    assert "trained on it" not in card
    origin = {"model": "owner/rm", "class": "LlamaRewardModel", "commit": "c0ffee", "licence": "llama3"}
    taken = model_card({**facts, "licence": "", "data": {}, "metrics": {"imported_from": origin}}, [])
    assert "owner/rm (LlamaRewardModel, commit c0ffee)" in taken
    assert "whose card names the licence llama3" in taken
    assert "data it was trained on" not in taken
    bare = model_card({**facts, "licence": "", "data": {}, "run": {}, "evaluations": [], "metrics": {}}, [])
    assert "not known" in bare
    assert "has not been evaluated" in bare


@pytest.mark.parametrize(
    ("licence", "front"),
    [
        ("Apache-2.0", ["license: apache-2.0"]),
        (" cc-by-nc-sa-4.0 ", ["license: cc-by-nc-sa-4.0"]),
        ("ODC-By-1.0", ["license: odc-by"]),
        ("GPL-3.0-or-later", ["license: gpl-3.0"]),
        ("Ours: ask first", ["license: other", 'license_name: "Ours: ask first"']),
        ("", []),
    ],
)
def test_the_front_matter_names_a_licence_as_the_hub_does(licence: str, front: list[str]) -> None:
    facts = {"name": "Mine", "number": 1, "uid": "u", "family": "scalar_head", "sha256": "", "evaluations": []}
    lines = model_card({**facts, "licence": licence}, []).split("\n---\n")[0].splitlines()
    assert lines == ["---", "pipeline_tag: text-classification", "tags:", "- reward-model", *front]


def test_a_figure_on_training_data_is_marked() -> None:
    facts = {"name": "Mine", "number": 1, "uid": "u", "family": "scalar_head", "sha256": "", "licence": ""}
    row = {"value": 0.9, "low": 0.8, "high": 0.95, "n": 90}
    own, new = {**row, "name": "Own", "has_learnt_from_it": True}, {**row, "name": "New", "has_learnt_from_it": False}
    card = model_card({**facts, "evaluations": [own, new]}, [])
    assert "| Own (trained on it) | 0.900 | [0.800, 0.950] | 90 |\n| New | 0.900 |" in card
    assert "is no measure of new pairs" in card
    assert "is no measure" not in model_card({**facts, "evaluations": [new]}, [])
