"""Folders that bring the class of their rewards: opened by anybody's Auto class, taken in again without their code."""

import ast
import json
import os
import subprocess
import sys

import pytest
import torch
import transformers

from tests.workers.attributes_world import rated_rows
from tests.workers.making import make_pairs
from tests.workers.test_export_checkpoint import export, trained
from tests.workers.test_export_families import ATTRIBUTES, WEIGHTS, changed, item_of, made, told
from tests.workers.test_import_rm import hf_folder, imported, scorer_of
from tests.workers.test_polar import referenced
from workers.context import CheckpointRef
from workers.errors import JobError, SpecError
from workers.families import FAMILIES
from workers.jobs import JOBS
from workers.nn import export_code
from workers.nn.backbone import load_backbone
from workers.nn.checkpoints import write_checkpoint
from workers.nn.export_code import FILE
from workers.nn.importing import probes as texts
from workers.nn.storing import rewrite_probes
from workers.specs import parse_spec

NAME = "PooledRewardForSequenceClassification"
PLAIN_PROCESS = """
import json, sys

sys.modules["workers"] = None  # as on a machine where there is no Steelyard
for one in ("rmeval", "annotator", "steelyard"):
    sys.modules[one] = None
folder = {folder!r}
code = open(folder + "/README.md").read().split("```python\\n")[1].split("```")[0]
exec(code.replace("print(", "str("))
probes = json.load(open(folder + "/probes.json"))
print(json.dumps([reward(p["prompt"], p["response"], *([p["reference"]] if "reference" in p else [])) for p in probes]))
"""


def by_card_elsewhere(tmp_path, folder):
    """Rewards of the probes by the card's code, in a process that knows nothing of this project."""
    room = tmp_path / "elsewhere"
    room.mkdir()
    env = {**os.environ, "HF_MODULES_CACHE": str(room / "modules"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    script = PLAIN_PROCESS.format(folder=str(folder))
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], cwd=room, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def opened(folder):
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)
    assert type(model).__name__ == NAME
    return model.eval()


def batched(model, probes, side, pad_id=0):
    """Logits of all probes in one batch with padding on one side."""
    width = max(len(p["input_ids"]) for p in probes) + 3
    ids, mask = torch.full((len(probes), width), pad_id), torch.zeros(len(probes), width, dtype=torch.long)
    for row, p in enumerate(probes):
        n = len(p["input_ids"])
        where = slice(0, n) if side == "right" else slice(width - n, width)
        ids[row, where], mask[row, where] = torch.tensor(p["input_ids"]), 1
    with torch.inference_mode():
        return model(input_ids=ids, attention_mask=mask).logits


def assert_travels(tmp_path, reference, family="scalar_head"):
    """Out by the job, the same by the Auto class in batches padded on either side, and back in."""
    result, folder = export(tmp_path, reference)
    assert result["opens_as"] == NAME
    assert (result["constants"], result["constant"]) == ({}, 0.0)
    assert {file.name for file in folder.glob("*") if file.suffix in (".py", ".bin", ".safetensors")} == {
        "modeling_reward.py",
        "model.safetensors",
    }
    probes = told(folder)
    own = scorer_of(reference).score([item_of(p) for p in probes])
    assert own.values.std() > 1e-4
    close = 1e-5 * max(1.0, abs(own.values).max())
    model = opened(folder)
    weights = (
        [result["weights"].get(name, 0.0) for name in model.config.id2label.values()] if result["weights"] else [1]
    )
    for side in ("left", "right"):
        rewards = batched(model, probes, side) @ torch.tensor(weights, dtype=torch.float32)
        assert rewards.tolist() == pytest.approx(own.values.tolist(), abs=close)
    if family:
        back_result, again, _ = imported(tmp_path / "back", folder)
        assert back_result["family"] == family
        back = scorer_of(again).score([item_of(p) for p in probes])
        assert back.values == pytest.approx(own.values.tolist(), abs=close)
        if family == "multi_attribute":
            for ours, theirs in zip(own.parts, back.parts, strict=True):
                assert theirs["attributes"] == pytest.approx(ours["attributes"], abs=close)
    return folder, own


def loud(head):
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)


@pytest.mark.parametrize(
    "config",
    [
        {"backbone": "tiny-encoder"},
        {"backbone": "tiny-encoder", "head_depth": 3, "head_activation": "gelu", "head_width": 20},
        {"backbone": "tiny-encoder", "head_depth": 5, "head_activation": "tanh"},
        {"backbone": "tiny-encoder", "pooling": "last", "head_depth": 2, "head_activation": "none"},
        {"backbone": "tiny-encoder", "pooling": "first", "head_depth": 2},
        {"backbone": "tiny-causal", "pooling": "mean"},
        {"backbone": "tiny-causal", "head_depth": 2, "head_activation": "relu"},
    ],
)
def test_a_mean_and_heads_of_any_depth_travel(tmp_path, config) -> None:
    assert_travels(tmp_path, changed(tmp_path, trained(tmp_path, **config), loud))


def test_the_default_model_leaves_and_comes_back(tmp_path) -> None:
    """minilm as the README has it: the card's code elsewhere, without this project, and the import."""
    folder, own = assert_travels(tmp_path, trained(tmp_path, backbone="minilm"))
    assert by_card_elsewhere(tmp_path, folder) == pytest.approx(own.values.tolist(), abs=1e-5)
    card = (folder / "README.md").read_text()
    assert "It brings code" in card.split("```python")[0]
    assert "trust_remote_code=True runs that file" in card
    assert card.count("(folder, trust_remote_code=True)") == 2


@pytest.mark.parametrize("family", ["multi_attribute", "embedding_linear"])
def test_ratings_travel_with_the_mean(tmp_path, family) -> None:
    config = {"attributes": ATTRIBUTES, "weights": WEIGHTS, "backbone": "tiny-encoder"}
    spec = {"objective": "attribute_regression"} if family == "embedding_linear" else {}
    folder, _ = assert_travels(tmp_path, made(tmp_path, family, rated_rows(40), spec, **config), "multi_attribute")
    assert opened(folder).config.id2label == dict(enumerate(ATTRIBUTES))
    assert "the reward is made of them: 1 kind +0.5 clear -0.25 verbosity" in (folder / "README.md").read_text()


def test_a_linear_fit_to_pairs_travels_with_the_mean(tmp_path) -> None:
    assert_travels(tmp_path, made(tmp_path, "embedding_linear", make_pairs(40), backbone="tiny-encoder"))


def test_a_verifier_with_the_mean_travels_with_its_text(tmp_path) -> None:
    spec = {"objective": "bradley_terry"}
    reference = made(tmp_path, "reference_verifier", referenced(make_pairs(32)), spec, backbone="tiny-encoder")
    folder, own = assert_travels(tmp_path, reference, "")
    assert by_card_elsewhere(tmp_path, folder) == pytest.approx(own.values.tolist(), abs=1e-5)
    with pytest.raises(JobError, match="reads a reference beside the response"):
        imported(tmp_path / "back", folder)


@pytest.mark.parametrize(
    ("family", "config"),
    [("twin_head", {"backbone": "tiny-encoder", "output": "b"}), ("goal_conditioned", {"head": "mlp"})],
)
def test_deep_heads_of_other_families_travel_by_the_same_file(tmp_path, family, config) -> None:
    """The goal-conditioned head narrows in its middle: taken in, its layers have one width and the same rewards."""
    assert_travels(tmp_path, made(tmp_path, family, make_pairs(32), **config))


@pytest.mark.parametrize("kind", ["ModernBert", "Roberta", "DistilBert", "Electra"])
def test_encoders_that_count_positions_in_other_ways(tmp_path, kind) -> None:
    """Of RoBERTa they begin after the padding id, of ModernBERT they turn the states."""
    ends = {"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2} if kind == "ModernBert" else {}
    source = hf_folder(tmp_path / "hf", kind, num_labels=1, **ends)
    family = FAMILIES.get("scalar_head")
    config = parse_spec(family.Config, {"backbone": str(source), "head_depth": 2})
    backbone = load_backbone(str(source))
    net = family.net(config, backbone)
    torch.manual_seed(5)
    loud(net.head)
    told_probes = [{"prompt": p, "response": r, "reward": 0.0} for p, r in texts()]
    about = {"format": 1, "family": "scalar_head", "config": config.model_dump(mode="json"), "probes": told_probes}
    write_checkpoint(tmp_path / "made", net, backbone, about)
    rewrite_probes(tmp_path / "made", "scalar_head", about["config"])
    assert_travels(tmp_path, CheckpointRef("made", "scalar_head", about["config"], tmp_path / "made"))


def test_the_file_stands_alone_and_says_what_it_is(tmp_path) -> None:
    source = FILE.read_text()
    modules = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            modules.add(str(node.module).split(".")[0])
    assert modules == {"collections", "itertools", "typing", "torch", "transformers"}
    said = ast.get_docstring(ast.parse(source)) or ""
    assert "Apache-2.0" in said
    assert "trust_remote_code=True" in said


@pytest.mark.parametrize(
    ("own", "other"),
    [
        (" * mask[..., None]", ""),  # padding counts
        ("ids, mask = input_ids.gather(1, order), mask.gather(1, order)", "ids = input_ids"),  # positions count from it
        ("self.activation(layer(x))", "layer(x)"),
    ],
)
def test_a_file_that_computes_something_else_is_not_kept(tmp_path, monkeypatch, own, other) -> None:
    """What travels is opened again and compared, alone and padded on either side."""
    source = FILE.read_text()
    assert own in source
    wrong = tmp_path / FILE.name
    wrong.write_text(source.replace(own, other))
    monkeypatch.setattr(export_code, "FILE", wrong)
    reference = changed(tmp_path, trained(tmp_path, backbone="tiny-encoder", head_depth=2), loud)
    with pytest.raises(JobError, match=f"Opened by {NAME}, the exported folder gives other rewards"):
        export(tmp_path, reference)
    assert not list((tmp_path / "export" / "artifacts").glob("*"))


def test_without_trust_nothing_opens_and_nothing_is_guessed(tmp_path) -> None:
    """A class under the backbone's own type would open with a random head and a warning that nobody reads."""
    _, folder = export(tmp_path, trained(tmp_path, backbone="tiny-encoder"))
    with pytest.raises(ValueError, match="custom code"):
        transformers.AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=False)


@pytest.mark.parametrize("kind", ["tiny-encoder", "tiny-causal"])
def test_trust_in_our_file_is_no_trust_in_somebody_elses(tmp_path, kind) -> None:
    """A tokenizer may name code on the hub, and go through an import unharmed: it must not leave with our file."""
    reference = trained(tmp_path, backbone=kind)
    file = reference.path / "backbone" / "tokenizer_config.json"
    told_code = {"auto_map": {"AutoTokenizer": ["somebody/tokens--tokenization_x.X", None]}}
    file.write_text(json.dumps({**json.loads(file.read_text()), **told_code}))
    config = json.loads((reference.path / "backbone" / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "somebody/model--modeling_x.X"}
    (reference.path / "backbone" / "config.json").write_text(json.dumps(config))
    _, folder = export(tmp_path, reference)
    for file in folder.rglob("*.json"):
        assert "somebody" not in file.read_text(), file.name
    assert transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=True)("a").input_ids


@pytest.mark.parametrize(
    ("family", "config", "says"),
    [
        ("scalar_head", {"pooling": "response_mean"}, "mean of the response's tokens"),
        ("scalar_head", {"length_normalisation": "log_tokens"}, "divides the reward by the length"),
        ("process", {"head_depth": 2}, "label tokens have a head of 1 layer; this one has 2"),
        ("twin_head", {"output": "mean"}, "mean of two heads of 2 layers"),
        ("mixture", {}, "The rewards of the family mixture cannot be exported. A router"),
    ],
)
def test_what_cannot_leave_is_refused_when_it_is_submitted(family, config, says) -> None:
    job = JOBS.get("export_checkpoint")
    with pytest.raises(SpecError, match=says) as refused:
        job.check(None, family, config)
    assert refused.value.errors[0]["pointer"] == "/checkpoint"
    for fine in ({}, {"head_depth": 5}, {"pooling": "mean"}):
        job.check(None, "scalar_head", fine)


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch) -> None:
    reference = trained(tmp_path, backbone="tiny-encoder")
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "file" / "modules"))
    with pytest.raises(JobError, match="could not be opened again") as refused:
        export(tmp_path, reference)
    assert "HF_MODULES_CACHE" in refused.value.hint
