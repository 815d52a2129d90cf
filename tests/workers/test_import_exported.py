"""Folders that were exported with a class of ours, taken in again: by settings and tensors alone, and checked."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.workers.test_export_checkpoint import export, trained
from tests.workers.test_export_families import item_of, told
from tests.workers.test_import_rm import imported, scorer_of
from workers.errors import JobError


@pytest.fixture
def folder(tmp_path):
    return export(tmp_path, trained(tmp_path, backbone="tiny-encoder", head_depth=2))[1]


def test_code_that_was_changed_is_not_run_and_changes_nothing(tmp_path, folder) -> None:
    _, before, _ = imported(tmp_path / "before", folder)
    mark = tmp_path / "was run"
    boom = f"open({str(mark)!r}, 'w').close()\nraise RuntimeError('run')\n"
    for file in ("modeling_reward.py", "configuration_x.py", "tokenization_x.py", "__init__.py"):
        (folder / file).write_text(boom)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] |= {"AutoConfig": "configuration_x.X", "AutoModel": "modeling_reward.X"}
    config["auto_map"]["AutoTokenizer"] = ["tokenization_x.X", None]
    (folder / "config.json").write_text(json.dumps(config))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**settings, "auto_map": {"AutoTokenizer": ["tokenization_x.X", None]}})
    )
    result, after, _ = imported(tmp_path / "after", folder)
    assert not mark.exists()
    assert any("own code was not read" in note for note in result["notes"])
    items = [item_of(p) for p in told(folder)]
    assert scorer_of(after).score(items).values.tolist() == scorer_of(before).score(items).values.tolist()
    assert not list(after.path.rglob("*.py"))


def test_another_folder_with_code_of_its_own_is_still_refused(tmp_path, folder) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "somebodys_reward"}))
    with pytest.raises(JobError, match="brings its own code, which is never run here"):
        imported(tmp_path / "work", folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"pooling": "median"}, "pooling is amiss"),
        ({"pooling": ["mean"]}, "pooling is amiss"),
        ({"head_sizes": [32, "16", 1]}, r"head_sizes\.1 is amiss"),
        ({"head_sizes": [32, 0, 1]}, r"head_sizes\.1 is amiss"),
        ({"head_sizes": [32, 10**9, 1]}, r"head_sizes\.1 is amiss"),
        ({"head_sizes": [32, 16, 1]}, r"head\.0\.bias .* has shape \(32,\), and its config\.json says \(16,\)"),
        ({"head_sizes": [64, 32, 1]}, "reads 64 numbers, and its backbone gives 32"),
        ({"head_sizes": [32, 1]}, r"Expected the tensors head\.0\.bias, head\.0\.weight; found"),
        ({"head_sizes": [32]}, "head_sizes is amiss"),
        ({"head_sizes": None}, "head_sizes is amiss"),
        ({"head_activation": "__import__"}, "head_activation is amiss"),
        ({"id2label": [1]}, "id2label is amiss"),
        ({"id2label": {"first": "reward"}}, r"id2label\.first.* is amiss"),
        ({"backbone_config": None}, "backbone_config is amiss"),
        ({"backbone_config": {}}, "backbone_config says no model_type"),
        ({"backbone_config": {"model_type": "no_such"}}, "does not know"),
        ({"backbone_config": {"model_type": "steelyard_pooled_reward"}}, "does not know"),
        ({"backbone_config": {"model_type": "t5"}}, "no encoder and no causal"),
        ({"steelyard": {"family": 3}}, r"steelyard\.family is amiss"),
        (
            {
                "steelyard": {
                    "family": "scalar_head",
                    "rendering": "plain",
                    "constants": {"reward": 1.0},
                    "weights": {"reward": 1.0},
                }
            },
            "says constants",
        ),
    ],
)
def test_settings_that_are_amiss_are_named(tmp_path, folder, change, says) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(JobError, match=says) as refused:
        imported(tmp_path / "work", folder)
    assert refused.value.hint


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"hidden_size": "wide"}, "could not be read|hidden_size"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ({"vocab_size": 10**9}, "does not fit its safetensors"),
        ({"type_vocab_size": 10**10}, r"token_type_embeddings\.weight .* has shape"),  # and no memory is asked for
        ({"num_hidden_layers": 1}, "says that there is none"),
        ({"num_hidden_layers": 3}, "is missing"),
        ({"intermediate_size": 60}, "has shape"),
        ({"auto_map": {"AutoModel": "evil.X"}}, "says auto_map, which no export writes"),
        ({"attn_implementation": "somebody/kernel"}, "says attn_implementation, which no export writes"),
        ({"_attn_implementation": "somebody/kernel"}, "says _attn_implementation, which no export writes"),
        ({"model_type": "detr", "backbone": "somebody/else"}, "says backbone, which no export writes"),
        ({"text_config": {"experts_implementation": "x"}}, "says experts_implementation, which no export writes"),
        ({"inner": [{"auto_map": {"AutoModel": "evil.X"}}]}, "says auto_map, which no export writes"),
        ({"quantization_config": {"quant_method": "awq"}}, "says quantization_config, which no export writes"),
    ],
)
def test_a_backbone_that_is_amiss_is_named(tmp_path, folder, change, says) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["backbone_config"] |= change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(JobError, match=says):
        imported(tmp_path / "work", folder)


@pytest.mark.parametrize(("opens", "closes"), [("[", "]"), ('{"a":', "}")])
def test_a_config_without_end_is_named(tmp_path, folder, opens, closes) -> None:
    """Deeper than Python reads; and as deep as it does, within what is searched for settings that run code."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(opens * 100_000)
    with pytest.raises(JobError, match=r"valid JSON|could not be read"):
        imported(tmp_path / "work", folder)
    config["backbone_config"]["deep"] = "HERE"
    inner = opens * 400 + '{"auto_map": {}}' + closes * 400
    (folder / "config.json").write_text(json.dumps(config).replace('"HERE"', inner))
    with pytest.raises(JobError, match="says auto_map, which no export writes"):
        imported(tmp_path / "work", folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.pop("head.1.bias"), r"Expected the tensors .*head\.1\.bias"),
        (lambda t: t.pop("backbone.encoder.layer.1.output.dense.bias"), "is missing"),
        (lambda t: t.update({"other": torch.ones(1)}), r"The tensor other .*says that there is none"),
        (lambda t: t.update({"head.2.weight": torch.ones(1, 1)}), r"found .*head\.2\.weight"),
        (lambda t: t.update({"head.0.weight": t["head.0.weight"] * float("inf")}), "not finite"),
        (lambda t: t.update({"head.1.bias": torch.ones(2)}), r"head\.1\.bias"),
    ],
)
def test_tensors_that_are_amiss_are_named(tmp_path, folder, change, says) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(JobError, match=says):
        imported(tmp_path / "work", folder)


def test_half_a_file_and_pickle_are_refused(tmp_path, folder) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(JobError, match=r"damaged|not copied whole"):
        imported(tmp_path / "half", folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(JobError, match="only as pickle files"):
        imported(tmp_path / "pickle", folder)
