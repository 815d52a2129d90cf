"""Public reward models whose class comes with them: rewards as their published formula gives, or a refusal by name.

Every reference here is written from the published class with torch and transformers alone.
"""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn

from tests.workers.making import turn
from tests.workers.test_import_rm import SHAPE, edit, imported, scorer_of
from workers.errors import JobError
from workers.families.attributes import ARMORM
from workers.nn.importing import probes
from workers.nn.tiny import tiny_tokenizer

WIDTH = SHAPE["hidden_size"]
TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m['role'] }}<|end|>\n\n{{ m['content'] }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant<|end|>\n\n{% endif %}"
)
SPECIALS = ["<|start|>", "<|end|>", "<|eot|>", "<extra_0>"]


def tokenizer(template=TEMPLATE):
    made = tiny_tokenizer("tiny-causal")
    made.add_special_tokens({"additional_special_tokens": SPECIALS})
    made.chat_template, made.model_max_length = template, 512
    return made


def language_model(kind="Llama"):
    shape = {**SHAPE, "eos_token_id": 2, "bos_token_id": None, "num_key_value_heads": 2, "vocab_size": 272}
    torch.manual_seed(1)
    model = getattr(transformers, f"{kind}ForCausalLM")(getattr(transformers, f"{kind}Config")(**shape))
    for tensor in model.parameters():
        if tensor.ndim == 2:
            nn.init.normal_(tensor, std=0.3)
    return model.eval()


def public(folder, named, head, *, kind="Llama", template=TEMPLATE, **config):
    """A folder as such a model is published: the backbone's tensors, those of the head, a class of another name."""
    model = language_model(kind)
    model.save_pretrained(folder)
    tokenizer(template).save_pretrained(folder)
    edit(folder, lambda tensors: (tensors.pop("lm_head.weight"), tensors.update(head)))
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**told, "architectures": [named], **config}))
    return folder, model.model


def random(*shape, scale=0.3):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))) * scale


def linear(name, n=1, *, width=WIDTH, bias=False):
    found = {f"{name}.weight": random(n, width)}
    return {**found, **({f"{name}.bias": random(n)} if bias else {})}


@torch.inference_mode()
def hidden(base, ids):
    return base(input_ids=torch.as_tensor(ids).long()[None]).last_hidden_state[0]


def ids_of(messages):
    return tokenizer().apply_chat_template(messages, tokenize=True, return_dict=False)


class Gating(nn.Module):
    """The gate as ArmoRM's class has it."""

    def __init__(self, head, n_hidden, temperature):
        super().__init__()
        self.temperature, self.n_hidden, self.head = temperature, n_hidden, head

    def forward(self, x):
        for i in range(self.n_hidden + 1):
            x = x @ self.head[f"gating.layers.{i}.weight"].T + self.head[f"gating.layers.{i}.bias"]
            if i < self.n_hidden:
                x = nn.functional.relu(x)
        return torch.softmax(x / self.temperature, dim=-1) * self.head["gating.logit_scale"][0]


def armorm_head(k=19, n_hidden=3, width=24):
    sizes = [WIDTH, *[width] * n_hidden, k]
    head = {"regression_layer.weight": random(k, WIDTH), "gating.logit_scale": torch.tensor([1.3])}
    for i in range(n_hidden + 1):
        head |= linear(f"gating.layers.{i}", sizes[i + 1], width=sizes[i], bias=True)
    verbosity = 4 % k
    transform = torch.eye(k)
    transform[verbosity] -= torch.linspace(0, 0.9, k)
    transform[verbosity, verbosity] = 0.0
    return head | {"reward_transform_matrix": transform}


def armorm_reference(base, head, ids, *, n_hidden=3, temperature=10.0):
    """score, ratings and gate of one conversation: last token, and the first token of eot + assistant header."""
    pattern = tokenizer()("<|eot|><|start|>assistant<|end|>\n\n", add_special_tokens=False)["input_ids"]
    place = max(j for j in range(len(ids)) if ids[j : j + len(pattern)] == pattern)
    states = hidden(base, ids)
    ratings = states[-1] @ head["regression_layer.weight"].T
    gate = Gating(head, n_hidden, temperature)(states[place])
    return float((gate * (ratings @ head["reward_transform_matrix"])).sum()), ratings, gate


def test_armorm_becomes_a_gated_model_with_the_same_scores(tmp_path) -> None:
    head = armorm_head()
    folder, base = public(tmp_path / "hf", "LlamaForRewardModelWithGating", head, gating_temperature=5, num_labels=19)
    result, reference, _ = imported(tmp_path, folder)
    assert (result["family"], reference.config["attributes"]) == ("gated", list(ARMORM))
    assert reference.config["verbosity"] == "helpsteer-verbosity"
    assert (reference.config["gate_layers"], reference.config["gate_width"]) == (3, 24)
    found = scorer_of(reference).score(probes())
    assert found.values.std() > 0.01
    for (prompt, response), value, part in zip(probes(), found.values, found.parts, strict=True):
        score, ratings, gate = armorm_reference(base, head, ids_of([*prompt, *response]), temperature=5.0)
        assert value == pytest.approx(score, abs=1e-5)
        assert list(part["rewards"].values()) == pytest.approx(ratings.tolist(), abs=1e-5)
        assert list(part["gating"].values()) == pytest.approx(gate.tolist(), abs=1e-5)
        told = sum(part["coefficients"][name] * part["rewards"][name] for name in ARMORM)
        assert told == pytest.approx(score, abs=1e-4)
        assert part["attributes"]["helpsteer-helpfulness"] == pytest.approx(5 * ratings[0].item() - 0.5, abs=1e-4)
        assert part["attributes"]["code-style"] == pytest.approx(ratings[15].item(), abs=1e-5)
    assert result["probe_difference"] < 1e-5


def test_the_gate_of_armorm_sees_no_answer_and_other_names_are_taken(tmp_path) -> None:
    folder, _ = public(tmp_path / "hf", "LlamaForRewardModelWithGating", armorm_head(k=3, n_hidden=2))
    _, reference, _ = imported(tmp_path, folder, attributes=["wit", "tact", "verbosity"])
    scorer = scorer_of(reference)
    prompt = [turn("user", "Why?")]
    parts = scorer.score([(prompt, [turn("assistant", text)]) for text in ("Because.", "No idea at all.")]).parts
    assert list(parts[0]["gating"]) == ["wit", "tact", "verbosity"]
    assert parts[0]["gating"] == pytest.approx(parts[1]["gating"], abs=1e-6)
    assert parts[0]["rewards"] != pytest.approx(parts[1]["rewards"], abs=1e-3)
    with pytest.raises(JobError, match="has 3 outputs, and attributes names 2"):
        imported(tmp_path, folder, attributes=["wit", "tact"])


def test_a_gate_needs_room_for_the_prompt(tmp_path) -> None:
    folder, _ = public(tmp_path / "hf", "LlamaForRewardModelWithGating", armorm_head())
    assert imported(tmp_path, folder, max_length=128)[0]["family"] == "gated"  # the longest probe is cut
    with pytest.raises(JobError, match="leaves no room for a prompt"):
        imported(tmp_path / "short", folder, max_length=16)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda head: head.pop("gating.logit_scale"), r"gating\.logit_scale is missing"),
        (lambda head: head.update({"quantiles.weight": random(2, 2)}), r"quantiles\.weight is not known"),
        (lambda head: head.update({"gating.logit_scale": torch.tensor([-1.0])}), "its scale is not > 0"),
        (
            lambda head: head.update({"regression_layer.weight": random(38, WIDTH)}),
            r"regression_layer\.weight has shape \(38, 32\), not \(19, 32\)",
        ),
    ],
)
def test_a_gate_of_another_layout_is_refused_by_tensor_and_shape(tmp_path, change, says) -> None:
    head = armorm_head()
    change(head)
    folder, _ = public(tmp_path / "hf", "LlamaForRewardModelWithGating", head)
    with pytest.raises(JobError, match=says) as refused:
        imported(tmp_path, folder)
    assert "Known are heads" in refused.value.hint


def test_armorm_without_its_template_is_refused(tmp_path) -> None:
    folder, base = public(tmp_path / "hf", "LlamaForRewardModelWithGating", armorm_head(), template=None)
    with pytest.raises(JobError, match="no chat template, which says where the gate reads"):
        imported(tmp_path, folder)
    _, reference, _ = imported(tmp_path, folder, chat_template=TEMPLATE)
    prompt, response = probes()[0]
    score, _, _ = armorm_reference(base, armorm_head(), ids_of([*prompt, *response]))
    assert scorer_of(reference).score(probes()[:1]).values[0] == pytest.approx(score, abs=1e-5)
    with pytest.raises(JobError, match="chat_template that was given cannot be used"):
        imported(tmp_path, folder, chat_template="{% for %}")
    for template, lost in (("always this", "Why"), ("{{ messages[0].content }}", "Because")):
        with pytest.raises(JobError, match=f"leaves out what is said: '{lost}"):
            imported(tmp_path, folder, chat_template=template)


@pytest.mark.parametrize(
    ("named", "head"),
    [
        ("LlamaRewardModel", linear("regression_head")),
        ("LlamaForCausalLM", linear("v_head.summary", bias=True)),
        ("GPTRewardModel", linear("v_head")),
        ("RewardModel", linear("value_head")),
        ("RewardModel", linear("reward_head", bias=True)),
        ("LlamaForRewardModel", linear("score")),
    ],
)
def test_a_linear_head_of_another_name_gives_the_same_rewards(tmp_path, named, head) -> None:
    folder, base = public(tmp_path / "hf", named, head)
    result, reference, _ = imported(tmp_path, folder)
    assert (result["family"], result["imported_from"]["class"]) == ("scalar_head", named)
    weight = next(t for n, t in head.items() if n.endswith("weight"))
    bias = next((t for n, t in head.items() if n.endswith("bias")), torch.zeros(1))
    expected = [float(weight[0] @ hidden(base, ids_of([*p, *r]))[-1] + bias[0]) for p, r in probes()]
    found = scorer_of(reference).score(probes()).values
    assert found == pytest.approx(expected, abs=1e-5)
    assert found.std() > 0.01


def test_a_value_head_beside_the_model_is_found(tmp_path) -> None:
    head = linear("v_head.summary", bias=True)
    folder, base = public(tmp_path / "hf", "LlamaForCausalLM", {})
    save_file(head, folder / "value_head.safetensors")
    _, reference, _ = imported(tmp_path, folder)
    prompt, response = probes()[3]
    state = hidden(base, ids_of([*prompt, *response]))[-1]
    expected = float(head["v_head.summary.weight"][0] @ state + head["v_head.summary.bias"][0])
    assert scorer_of(reference).score([(prompt, response)]).values[0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("named", "first", "last"),
    [
        ("Qwen2ForRewardModel", "score.0", "score.2"),
        ("INFORMForSequenceClassification", "score.0", "score.2"),
        ("LlamaForCausalLM", "v_head.summary.0", "v_head.summary.2"),
    ],
)
def test_a_head_of_two_layers_gives_the_same_rewards(tmp_path, named, first, last) -> None:
    head = linear(first, 20, bias=True) | linear(last, 1, width=20, bias=True)
    folder, base = public(tmp_path / "hf", named, head, kind="Qwen2")
    _, reference, _ = imported(tmp_path, folder)
    net = nn.Sequential(nn.Linear(WIDTH, 20), nn.ReLU(), nn.Linear(20, 1))
    net.load_state_dict({".".join(name.split(".")[-2:]): tensor for name, tensor in head.items()})
    with torch.inference_mode():
        expected = [net(hidden(base, ids_of([*p, *r]))[-1]).item() for p, r in probes()]
    assert scorer_of(reference).score(probes()).values == pytest.approx(expected, abs=1e-5)


def test_a_regression_layer_becomes_attributes(tmp_path) -> None:
    head = linear("regression_layer", 9)
    folder, base = public(tmp_path / "hf", "LlamaForRewardModel", head)
    names = [f"trait {i}" for i in range(9)]
    result, reference, _ = imported(tmp_path, folder, attributes=names, weights={"trait 2": 2.0, "trait 8": -1.0})
    assert result["family"] == "multi_attribute"
    found = scorer_of(reference).score(probes())
    for (p, r), part, value in zip(probes(), found.parts, found.values, strict=True):
        ratings = head["regression_layer.weight"] @ hidden(base, ids_of([*p, *r]))[-1]
        assert list(part["attributes"].values()) == pytest.approx(ratings.tolist(), abs=1e-5)
        assert value == pytest.approx(float(2 * ratings[2] - ratings[8]), abs=1e-5)


STEPS = ["Seven times six is 42.", "Add one: 43.", "So the answer is 43."]
PROBLEM = [turn("user", "What is 7 * 6 + 1?")]


def stepwise(reference):
    item = (PROBLEM, [turn("assistant", "\n\n".join(STEPS))], {"steps": STEPS})
    found = scorer_of(reference).score([item])
    return [step["probability"] for step in found.parts[0]["steps"]], found


def test_qwen_prm_is_read_at_its_marks(tmp_path) -> None:
    """Two layers, two classes, softmax at <extra_0>, as its card shows."""
    head = linear("score.0", WIDTH, bias=True) | linear("score.2", 2, bias=True)
    folder, base = public(tmp_path / "hf", "Qwen2ForProcessRewardModel", head, kind="Qwen2", num_labels=2)
    result, reference, _ = imported(tmp_path, folder)
    assert (result["family"], reference.config["step_mark"]) == ("process", "<extra_0>")
    text = "<extra_0>".join(STEPS) + "<extra_0>"
    ids = torch.tensor(ids_of([*PROBLEM, turn("assistant", text)]))
    x = torch.relu(hidden(base, ids) @ head["score.0.weight"].T + head["score.0.bias"])
    p = (x @ head["score.2.weight"].T + head["score.2.bias"]).softmax(dim=-1)
    expected = p[ids == tokenizer().convert_tokens_to_ids("<extra_0>"), 1].tolist()
    found, scores = stepwise(reference)
    assert found == pytest.approx(expected, abs=1e-5)
    assert [step["text"] for step in scores.parts[0]["steps"]] == STEPS
    assert scores.values[0] == pytest.approx(min(expected), abs=1e-5)


def test_a_process_value_head_is_read_at_line_ends(tmp_path) -> None:
    """Skywork-o1-Open-PRM: the sigmoid of a value head at the line break after every step."""
    head = linear("v_head.summary", bias=True)
    folder, base = public(tmp_path / "hf", "Qwen2ForPrmModel", head, kind="Qwen2")
    result, reference, _ = imported(tmp_path, folder, step_mark="\n")
    assert result["family"] == "process"
    text = "".join(f"{step}\n" for step in STEPS)
    ids = ids_of([*PROBLEM, turn("assistant", text)])
    begins = len(ids_of(PROBLEM)) + len(tokenizer()("<|start|>assistant<|end|>\n\n")["input_ids"])
    line = tokenizer()("\n")["input_ids"][0]
    places = [i for i, token in enumerate(ids) if token == line and i >= begins]
    values = hidden(base, ids) @ head["v_head.summary.weight"][0] + head["v_head.summary.bias"][0]
    assert stepwise(reference)[0] == pytest.approx(values.sigmoid()[places].tolist(), abs=1e-5)


def test_math_shepherd_is_the_softmax_over_two_tokens_at_its_tag(tmp_path) -> None:
    folder = tmp_path / "hf"
    model = language_model("Mistral")
    model.save_pretrained(folder)
    tokenizer(None).save_pretrained(folder)
    template = "{% for m in messages %}{{ ' ' if not loop.first }}{{ m['content'] }}{% endfor %}"
    spec = {"right_token": "+", "wrong_token": "-", "step_mark": r"\sки\n", "chat_template": template}
    result, reference, _ = imported(tmp_path, folder, **spec)
    assert result["family"] == "process"
    encode = tokenizer()
    texts = [f"{PROBLEM[0]['content']} ", *[f"{step} ки" for step in STEPS]]
    ids = encode(texts[0] + "\n".join(texts[1:]))["input_ids"]
    good, bad = encode("+-")["input_ids"]
    last = encode("ки")["input_ids"][-1]
    places = [i for i, token in enumerate(ids) if token == last]
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([ids])).logits[0][:, [good, bad]]
    assert len(places) == 3
    assert stepwise(reference)[0] == pytest.approx(logits.softmax(dim=-1)[places, 0].tolist(), abs=1e-5)


def test_the_logit_of_a_token_is_a_scalar_head(tmp_path) -> None:
    """As Llama-3.1-Nemotron-70B-Reward, whose reward is the logit of token 0 after the conversation."""
    folder = tmp_path / "hf"
    model = language_model()
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    result, reference, _ = imported(tmp_path, folder, right_token="!")
    assert result["family"] == "scalar_head"
    token = tokenizer()("!")["input_ids"][0]
    with torch.inference_mode():
        expected = [model(input_ids=torch.tensor([ids_of([*p, *r])])).logits[0, -1, token].item() for p, r in probes()]
    assert scorer_of(reference).score(probes()).values == pytest.approx(expected, abs=1e-5)
    assert not any("lm_head" in name for name in load_file(reference.path / "weights.safetensors"))
    for spec, says in [
        ({"right_token": "yes"}, "'yes' is 3 tokens of this model"),
        ({"wrong_token": "-"}, "right_token, which is empty"),
        ({"right_token": "+", "wrong_token": "+"}, "the same token"),
        ({"right_token": "+", "family": "process"}, "needs the logits of two tokens"),
    ]:
        with pytest.raises(JobError, match=says):
            imported(tmp_path, folder, **spec)


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (linear("my_head"), r"Its tensors are my_head\.weight \(1, 32\)"),
        (linear("v_head") | linear("other"), r"other\.weight \(1, 32\), v_head\.weight \(1, 32\)"),
        (linear("score", width=16), r"score\.weight reads 16 numbers, and there are 32"),
    ],
)
def test_other_heads_are_refused_by_tensor_and_shape(tmp_path, head, says) -> None:
    folder, _ = public(tmp_path / "hf", "SomeRewardModel", head)
    with pytest.raises(JobError, match=says) as refused:
        imported(tmp_path, folder)
    assert "regression_head.weight" in refused.value.hint


def test_a_backbone_that_is_not_whole_is_refused(tmp_path) -> None:
    folder, _ = public(tmp_path / "hf", "LlamaRewardModel", linear("regression_head"))
    edit(folder, lambda tensors: tensors.pop("model.norm.weight"))
    with pytest.raises(JobError, match=r"the backbone lacks norm\.weight"):
        imported(tmp_path, folder)
