"""Public reward models taken over: the same rewards as by their own class, or a refusal that names the head."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from workers.context import LocalJobContext
from workers.errors import JobError, SpecError
from workers.families import FAMILIES
from workers.jobs import JOBS
from workers.nn.import_builders import right_label
from workers.nn.importing import probes
from workers.nn.tiny import tiny_tokenizer
from workers.specs import parse_spec

SHAPE = {
    "vocab_size": 264,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
}


def hf_folder(folder: Path, kind: str, task: str = "SequenceClassification", **config) -> Path:
    """A random model of transformers' own class with a byte-level tokenizer, as save_pretrained writes it."""
    is_causal = kind in ("Llama", "Qwen2", "GPTNeoX")
    shape = {**SHAPE, **({"eos_token_id": 2, "bos_token_id": None} if is_causal else {}), **config}
    if kind in ("Llama", "Qwen2"):
        shape["num_key_value_heads"] = 2
    if kind == "DistilBert":
        shape |= {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48}
    torch.manual_seed(1)
    model = getattr(transformers, f"{kind}For{task}")(getattr(transformers, f"{kind}Config")(**shape))
    for name, tensor in model.named_parameters():  # large, and biases too, so that one left behind is noticed
        if tensor.ndim == 2 or "score" in name or "classifier" in name or "pooler" in name:
            torch.nn.init.normal_(tensor, std=0.3)
    model.eval().save_pretrained(folder)
    tiny_tokenizer("tiny-causal" if is_causal else "tiny-encoder").save_pretrained(folder)
    return folder


def imported(tmp_path, folder, **spec):
    ctx = LocalJobContext(tmp_path / "work")
    job = JOBS.get("import_rm")
    result = job().run(ctx, parse_spec(job.Spec, {"model": str(folder), **spec}))
    return result, ctx.checkpoints[result["checkpoint"]], ctx


def scorer_of(reference):
    family = FAMILIES.get(reference.family)
    return family.open(parse_spec(family.Config, reference.config), reference.path)


def own_logits(folder, scorer, auto=transformers.AutoModelForSequenceClassification):
    """By the class of transformers, batched with padding on the right, on the ids that our scorer reads."""
    model = auto.from_pretrained(folder, dtype=torch.float32).eval()
    encoded = scorer.encode(probes())
    width = max(len(item) for item in encoded)
    ids, mask = (torch.zeros(len(encoded), width, dtype=torch.long) for _ in range(2))
    for row, item in enumerate(encoded):
        ids[row, : len(item)], mask[row, : len(item)] = torch.from_numpy(item.ids).long(), 1
    with torch.inference_mode():
        return model(input_ids=ids, attention_mask=mask).logits, encoded


@pytest.mark.parametrize(
    ("kind", "depth"),
    [
        ("Llama", 1),
        ("Qwen2", 1),
        ("GPTNeoX", 1),
        ("Bert", 2),
        ("Roberta", 2),
        ("DistilBert", 2),
        ("Electra", 2),
        ("DebertaV2", 2),
    ],
)
def test_one_label_becomes_a_scalar_head_with_the_same_rewards(tmp_path, kind, depth) -> None:
    folder = hf_folder(tmp_path / "hf", kind, num_labels=1)
    result, reference, ctx = imported(tmp_path, folder)
    assert (result["family"], reference.config["head_depth"]) == ("scalar_head", depth)
    scorer = scorer_of(reference)
    logits, _ = own_logits(folder, scorer)
    assert scorer.score(probes()).values == pytest.approx(logits[:, 0].tolist(), abs=1e-5)
    assert result["probe_difference"] < 1e-5
    assert logits[:, 0].std() > 0.01
    assert ctx.reward_model == "hf"


def test_several_labels_become_attributes_of_these_names(tmp_path) -> None:
    labels = {0: "helpfulness", 1: "correctness", 2: "wit"}
    folder = hf_folder(
        tmp_path / "hf", "Llama", num_labels=3, id2label=labels, label2id={v: k for k, v in labels.items()}
    )
    result, reference, _ = imported(tmp_path, folder, weights={"helpfulness": 1.0, "wit": -0.5}, name="rated")
    assert (result["family"], reference.config["attributes"]) == ("multi_attribute", list(labels.values()))
    scorer = scorer_of(reference)
    logits, _ = own_logits(folder, scorer)
    found = scorer.score(probes())
    for row, part in zip(logits.tolist(), found.parts, strict=True):
        assert list(part["attributes"].values()) == pytest.approx(row, abs=1e-5)
    assert found.values == pytest.approx((logits[:, 0] - 0.5 * logits[:, 2]).tolist(), abs=1e-5)


@pytest.mark.parametrize("kind", ["Llama", "Bert"])
@pytest.mark.parametrize("labels", [["score"], ["wrong", "right"], ["correct", "incorrect"]])
def test_labels_of_tokens_become_a_process_reward_model(tmp_path, kind, labels) -> None:
    named = {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
    folder = hf_folder(tmp_path / "hf", kind, "TokenClassification", num_labels=len(labels), **named)
    result, reference, _ = imported(tmp_path, folder)
    assert result["family"] == "process"
    scorer = scorer_of(reference)
    logits, encoded = own_logits(folder, scorer, transformers.AutoModelForTokenClassification)
    right = {"score": 0, "wrong": 1, "correct": 0}[labels[0]]
    p = logits.sigmoid()[..., 0] if len(labels) == 1 else logits.softmax(dim=-1)[..., right]
    for row, item, part in zip(p, encoded, scorer.score(probes()).parts, strict=True):
        expected = row[torch.from_numpy(item.marks).long()].tolist()
        assert [step["probability"] for step in part["steps"]] == pytest.approx(expected, abs=1e-5)
    assert len(encoded[1].marks) == 2  # two lines


def edit(folder: Path, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_head_of_another_layout_is_refused_by_name(tmp_path) -> None:
    folder = hf_folder(tmp_path / "hf", "Llama", num_labels=1)

    def rename(tensors):
        tensors["v_head.summary.weight"] = tensors.pop("score.weight")

    edit(folder, rename)
    with pytest.raises(JobError, match=r"Expected the tensors score\.weight; found v_head\.summary\.weight"):
        imported(tmp_path, folder)


def test_classes_that_no_head_here_computes_are_refused(tmp_path) -> None:
    ends = {"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 3, "sep_token_id": 2}
    folder = hf_folder(tmp_path / "modern", "ModernBert", num_labels=1, **ends)
    with pytest.raises(JobError, match=r"ModernBertForSequenceClassification does.*head\.norm\.weight"):
        imported(tmp_path, folder)
    rated = hf_folder(tmp_path / "bert", "Bert", num_labels=2)
    with pytest.raises(JobError, match="ratings need one linear layer"):
        imported(tmp_path, rated)
    with pytest.raises(JobError, match="it can be imported as multi_attribute or scalar_head, not as process"):
        imported(tmp_path, rated, family="process")


def test_a_plain_language_model_is_no_reward_model(tmp_path) -> None:
    folder = hf_folder(tmp_path / "hf", "Llama", "CausalLM")
    with pytest.raises(JobError, match="LlamaForCausalLM, which gives no reward") as refused:
        imported(tmp_path, folder)
    assert "backbone" in refused.value.hint
    assert "right_token" in refused.value.hint


def test_a_class_with_code_of_its_own_is_refused(tmp_path) -> None:
    folder = hf_folder(tmp_path / "hf", "Llama", num_labels=1)
    config = json.loads((folder / "config.json").read_text())
    odd = {**config, "architectures": ["LlamaForRewardModelWithGatingForSequenceClassification"]}
    (folder / "config.json").write_text(json.dumps(odd))
    with pytest.raises(JobError, match="opened as LlamaForSequenceClassification"):
        imported(tmp_path, folder)


def test_weights_as_pickle_are_refused(tmp_path) -> None:
    folder = hf_folder(tmp_path / "hf", "Llama", num_labels=1)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(JobError, match="only as pickle files"):
        imported(tmp_path, folder)


def test_a_class_that_reads_another_token_is_refused(tmp_path) -> None:
    """Its padding token ends every text: the class skips it and reads the token before, which we do not."""
    folder = hf_folder(tmp_path / "hf", "Llama", num_labels=1, pad_token_id=2)
    with pytest.raises(JobError, match="gives other rewards than by its own class") as refused:
        imported(tmp_path, folder)
    assert "pad_token_id" in refused.value.hint


def test_the_licence_that_a_model_names_is_kept(tmp_path) -> None:
    folder = hf_folder(tmp_path / "hf", "Bert", num_labels=1)
    assert imported(tmp_path, folder)[0]["imported_from"]["licence"] == ""
    (folder / "README.md").write_text("---\ntags:\n- x\nlicense: apache-2.0\n---\n# A model\nlicense: none\n")
    assert imported(tmp_path / "again", folder)[0]["imported_from"]["licence"] == "apache-2.0"


def test_a_hub_id_without_the_hub_says_so(tmp_path) -> None:
    """The tests run offline, as a site behind a wall does."""
    with pytest.raises(JobError, match=r"owner/not-here is not on this machine, and huggingface\.co cannot") as refused:
        imported(tmp_path, "owner/not-here")
    assert "local folder" in refused.value.hint


def test_into_a_reward_model_that_is_there(tmp_path) -> None:
    folder = hf_folder(tmp_path / "hf", "Bert", num_labels=1)
    _, reference, ctx = imported(tmp_path, folder)
    job = JOBS.get("import_rm")
    again = job().run(ctx, parse_spec(job.Spec, {"model": str(folder), "reward_model": "hf"}))
    assert ctx.checkpoints[again["checkpoint"]].config == reference.config
    llama = hf_folder(tmp_path / "llama", "Llama", num_labels=1)
    with pytest.raises(JobError, match=r"another shape: .*pooling is first, not last"):
        job().run(ctx, parse_spec(job.Spec, {"model": str(llama), "reward_model": "hf"}))
    with pytest.raises(SpecError, match="name is for a new"):
        parse_spec(job.Spec, {"model": "x", "name": "y", "reward_model": "hf"})


def test_which_label_is_right() -> None:
    assert right_label(["Correct", "Incorrect"]) == 0
    assert right_label(["-", "+"]) == 1
    assert right_label(["LABEL_0", "LABEL_1"]) == 1
