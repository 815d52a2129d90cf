"""Public models whose files are damaged or do not belong together, through the real job: a reason, and what to do."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.workers.test_export_checkpoint import export, trained
from tests.workers.test_import_further_heads import TURNS, rlhflow_folder
from tests.workers.test_import_internlm2 import intern_folder, intern_tensors
from tests.workers.test_import_public_heads import linear, public
from tests.workers.test_import_rm import edit, hf_folder, imported
from workers.context import CheckpointRef
from workers.errors import JobError
from workers.nn.checkpoints import WEIGHTS
from workers.nn.tiny import tiny_tokenizer

KINDS = ["classifier", "value head", "tokens", "internlm2"]


def model_folder(kind, folder):
    """A folder of each way in which a model is read, and what its run needs besides."""
    if kind == "classifier":
        return hf_folder(folder, "Llama", num_labels=1), {}
    if kind == "value head":
        return public(folder, "RewardModel", linear("value_head"))[0], {}
    if kind == "tokens":
        return rlhflow_folder(folder)[0], TURNS
    return intern_folder(folder, intern_tensors()), {}


def refused(tmp_path, folder, spec, says):
    with pytest.raises(JobError, match=says) as error:
        imported(tmp_path / "run", folder, **spec)
    assert error.value.hint
    assert not list((tmp_path / "run").rglob("*.safetensors"))


def cut(folder, kept):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: int(len(whole) * kept)])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", [0.5, 0.001, 0.0])
def test_a_file_that_was_not_copied_whole(tmp_path, kind, kept) -> None:
    folder, spec = model_folder(kind, tmp_path / "hf")
    cut(folder, kept)
    refused(tmp_path, folder, spec, "damaged|not copied whole")


@pytest.mark.parametrize("kind", KINDS)
def test_a_tensor_of_another_shape_than_the_config_says(tmp_path, kind) -> None:
    folder, spec = model_folder(kind, tmp_path / "hf")
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**told, "intermediate_size": 40}))
    refused(tmp_path, folder, spec, r"shape|\(48, 32\)")


@pytest.mark.parametrize("kind", KINDS)
def test_a_tensor_that_holds_no_numbers(tmp_path, kind) -> None:
    folder, spec = model_folder(kind, tmp_path / "hf")

    def spoil(tensors):
        name = next(n for n in sorted(tensors) if n.endswith("norm.weight"))
        tensors[name] = torch.full_like(tensors[name], float("nan"))

    edit(folder, spoil)
    refused(tmp_path, folder, spec, "not finite")


@pytest.mark.parametrize("kind", KINDS)
def test_a_tokenizer_of_another_model(tmp_path, kind) -> None:
    """It has tokens that the embedding has no rows for."""
    folder, spec = model_folder(kind, tmp_path / "hf")
    told = json.loads((folder / "config.json").read_text())
    n = 100 if kind == "internlm2" else 80

    def shrink(tensors):
        for name in [
            n for n in tensors if n.endswith(("embed_tokens.weight", "tok_embeddings.weight", "lm_head.weight"))
        ]:
            tensors[name] = tensors[name][:n].contiguous()

    edit(folder, shrink)
    (folder / "config.json").write_text(json.dumps({**told, "vocab_size": n}))
    refused(tmp_path, folder, spec, r"its tokenizer has \d+ tokens, and its embedding|tokenizer")


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_without_its_tokenizer(tmp_path, kind) -> None:
    folder, spec = model_folder(kind, tmp_path / "hf")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    refused(tmp_path, folder, spec, "tokenizer")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "change", [lambda _: "{not json", lambda _: "[]", lambda told: json.dumps({**told, "hidden_size": "large"})]
)
def test_a_config_that_cannot_be_read(tmp_path, kind, change) -> None:
    folder, spec = model_folder(kind, tmp_path / "hf")
    (folder / "config.json").write_text(change(json.loads((folder / "config.json").read_text())))
    refused(tmp_path, folder, spec, "config|hidden_size")


ODD_VALUES = [
    ("config.json", "num_hidden_layers", 0, "num_hidden_layers 0"),
    ("config.json", "num_hidden_layers", 10**9, "num_hidden_layers"),
    ("config.json", "num_hidden_layers", 4000, "tensors"),
    ("config.json", "num_attention_heads", 0, "could not be read|num_attention_heads"),
    ("config.json", "vocab_size", 10**9, "does not fit its safetensors"),
    ("config.json", "head_dim", -1, "head_dim -1"),
    ("config.json", "max_position_embeddings", -1, "max_position_embeddings -1"),
    ("config.json", "sliding_window", "wide", "sliding_window 'wide'"),
    ("config.json", "architectures", [7], "class 7"),
    ("config.json", "quantization_config", 4, "could not be read"),
    ("config.json", "id2label", [1], "could not be read"),
    ("config.json", "model_type", ["llama"], "could not be read"),
    ("tokenizer_config.json", "model_max_length", -1, "model_max_length -1"),
    ("tokenizer_config.json", "model_max_length", "long", "model_max_length 'long'"),
    ("tokenizer_config.json", "pad_token", 5, "could not be read"),
]

ODD_OF_INTERNLM2 = [
    ("config.json", "num_hidden_layers", 10**9, "num_hidden_layers"),
    ("config.json", "intermediate_size", 10**9, "does not fit its safetensors"),
    ("config.json", "rope_theta", "fast", "could not be read"),
    ("config.json", "rope_scaling", 7, "rope_scaling 7"),
    ("config.json", "rope_scaling", {"type": "linear"}, "rope_scaling"),
    ("config.json", "reward_token_id", -1, "token -1"),
    ("tokenizer_config.json", "model_max_length", [], "model_max_length"),
]


@pytest.mark.parametrize(
    ("kind", "file", "key", "value", "says"),
    [("classifier", *case) for case in ODD_VALUES] + [("internlm2", *case) for case in ODD_OF_INTERNLM2],
)
def test_a_value_of_the_wrong_kind_or_size(tmp_path, kind, file, key, value, says) -> None:
    """Nothing of the size that it names is made, and no trace is all there is to read."""
    folder, spec = model_folder(kind, tmp_path / "hf")
    told = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**told, key: value}))
    refused(tmp_path, folder, spec, says)


@pytest.mark.parametrize("kind", KINDS)
def test_a_shard_that_is_missing(tmp_path, kind) -> None:
    folder, spec = model_folder(kind, tmp_path / "hf")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, held in parts.items():
        save_file({n: tensors[n] for n in held}, folder / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {n: file for file, held in parts.items() for n in held}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    result, _, _ = imported(tmp_path / "whole", folder, **spec)
    assert result["probe_difference"] < 1e-4
    (folder / "model-00002-of-00002.safetensors").unlink()
    refused(tmp_path, folder, spec, "model-00002-of-00002|lacks")


@pytest.mark.parametrize("kind", KINDS)
def test_pickle_alone_is_never_opened(tmp_path, kind) -> None:
    folder, spec = model_folder(kind, tmp_path / "hf")

    class Boom:
        def __reduce__(self):
            return (print, ("code of a pickle was run",))

    torch.save({"weight": Boom()}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    refused(tmp_path, folder, spec, "only as pickle files")


def test_a_tokenizer_that_gives_other_ids_is_not_taken_for_the_same(tmp_path) -> None:
    """Of a checkpoint: the rendering it was made with is stored, and another is refused when it leaves."""
    reference = trained(tmp_path)
    other = tiny_tokenizer("tiny-causal")
    other.chat_template = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
    other.save_pretrained(reference.path / "backbone")
    with pytest.raises(JobError, match="other token ids than when it was made"):
        export(tmp_path, reference)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.update({"head.weight": t["head.weight"] * 1.5}), "other rewards than when it was made"),
        (lambda t: t.update({"head.weight": t["head.weight"] * float("nan")}), "other rewards than when it was made"),
        (
            lambda t: t.update({"head.weight": t["head.weight"][:, :-1].contiguous()}),
            "head in this checkpoint does not fit",
        ),
        (lambda t: t.pop("backbone.norm.weight"), r"do not fit its backbone .*backbone\.norm\.weight"),
    ],
)
def test_a_checkpoint_that_was_tampered_with_does_not_leave(tmp_path, change, says) -> None:
    reference = trained(tmp_path)
    tensors = load_file(reference.path / WEIGHTS)
    change(tensors)
    save_file(tensors, reference.path / WEIGHTS)
    with pytest.raises(JobError, match=says):
        export(tmp_path, reference)


def test_a_checkpoint_that_was_not_copied_whole_does_not_leave(tmp_path) -> None:
    reference = trained(tmp_path)
    whole = (reference.path / WEIGHTS).read_bytes()
    (reference.path / WEIGHTS).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(JobError, match="weights of this checkpoint are damaged"):
        export(tmp_path, reference)
    with pytest.raises(JobError, match="is not a checkpoint"):
        export(tmp_path, CheckpointRef("empty", "scalar_head", reference.config, tmp_path))
