"""InternLM2's reward models as Llama: the rewards of a formula written with torch alone, or a refusal."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.workers.test_import_public_heads import (
    WIDTH,
    ids_of,
    random,
    tokenizer,
)
from tests.workers.test_import_rm import imported, scorer_of
from workers.errors import JobError
from workers.nn.importing import probes

INTERN = {
    "model_type": "internlm2",
    "architectures": ["InternLM2ForRewardModel"],
    "auto_map": {"AutoConfig": "configuration_internlm2.InternLM2Config", "AutoModel": "modeling.InternLM2"},
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 272,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1000000,
    "rope_scaling": {"type": "dynamic", "factor": 2.0},
    "hidden_act": "silu",
    "bias": False,
    "pad_token_id": 2,
    "reward_token_id": 265,
}
HEAD_WIDTH = WIDTH // 4


def intern_tensors(*, bias=False):
    rows = (4 + 2 * 2) * HEAD_WIDTH
    found = {"model.tok_embeddings.weight": random(272, WIDTH), "model.norm.weight": 1 + random(WIDTH)}
    for i in range(2):
        torch.manual_seed(i)
        at = f"model.layers.{i}"
        shapes = {"attention.wqkv": (rows, WIDTH), "attention.wo": (WIDTH, WIDTH), "feed_forward.w1": (48, WIDTH)}
        shapes |= {"feed_forward.w3": (48, WIDTH), "feed_forward.w2": (WIDTH, 48)}
        found |= {f"{at}.{name}.weight": torch.randn(shape) * 0.3 for name, shape in shapes.items()}
        found |= {f"{at}.{norm}.weight": 1 + 0.2 * torch.randn(WIDTH) for norm in ("attention_norm", "ffn_norm")}
        if bias:
            found |= {f"{at}.{n}.bias": torch.randn(shapes[n][0]) * 0.3 for n in ("attention.wqkv", "attention.wo")}
    return found | {"v_head.weight": random(1, WIDTH)}


def intern_folder(folder, tensors, **config):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**INTERN, **config}))
    (folder / "modeling.py").write_text("raise SystemExit('code of a model was run')")
    made = tokenizer()
    made.add_tokens(["[UNUSED_TOKEN_130]"])
    assert made.convert_tokens_to_ids("[UNUSED_TOKEN_130]") == 265
    made.save_pretrained(folder)
    told = json.loads((folder / "tokenizer_config.json").read_text())
    own = {"auto_map": {"AutoTokenizer": ["tok.InternLM2Tokenizer", None]}, "tokenizer_class": "InternLM2Tokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**told, **own}))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def norm(x, weight):
    return weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)


def rotated(x, theta=1000000.0):
    """x of shape (tokens, heads, width): the halves of a head turn by position * theta^(-2 i / width)."""
    half = x.shape[-1] // 2
    angle = torch.arange(len(x))[:, None] * theta ** (-torch.arange(half) * 2 / x.shape[-1])
    cos, sin = (torch.cat([f(angle)] * 2, dim=-1)[:, None] for f in (torch.cos, torch.sin))
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], dim=-1) * sin


def intern_reward(tensors, ids):
    """InternLM2's forward pass for one text, from its published definition, and v_head at the last token."""
    x = tensors["model.tok_embeddings.weight"][torch.tensor(ids)]
    for i in range(2):
        layer = {
            n.removeprefix(f"model.layers.{i}."): t for n, t in tensors.items() if n.startswith(f"model.layers.{i}.")
        }
        y = norm(x, layer["attention_norm.weight"])
        fused = nn.functional.linear(y, layer["attention.wqkv.weight"], layer.get("attention.wqkv.bias"))
        fused = fused.reshape(len(ids), 2, 2 + 2, HEAD_WIDTH)  # key heads, two queries with key and value, width
        q, k, v = fused[:, :, :2].reshape(len(ids), 4, HEAD_WIDTH), fused[:, :, 2], fused[:, :, 3]
        q, k = rotated(q), rotated(k).repeat_interleave(2, dim=1)
        weights = torch.einsum("ihd,jhd->hij", q, k) / HEAD_WIDTH**0.5
        weights = (weights + torch.triu(torch.full((len(ids), len(ids)), -torch.inf), 1)).softmax(dim=-1)
        mixed = torch.einsum("hij,jhd->ihd", weights, v.repeat_interleave(2, dim=1)).reshape(len(ids), WIDTH)
        x = x + nn.functional.linear(mixed, layer["attention.wo.weight"], layer.get("attention.wo.bias"))
        y = norm(x, layer["ffn_norm.weight"])
        inner = nn.functional.silu(y @ layer["feed_forward.w1.weight"].T) * (y @ layer["feed_forward.w3.weight"].T)
        x = x + inner @ layer["feed_forward.w2.weight"].T
    return float(norm(x, tensors["model.norm.weight"])[-1] @ tensors["v_head.weight"][0])


@pytest.mark.parametrize("bias", [False, True])
def test_internlm2_is_read_as_a_llama_without_its_code(tmp_path, bias) -> None:
    tensors = intern_tensors(bias=bias)
    folder = intern_folder(tmp_path / "hf", tensors, bias=bias)
    result, reference, _ = imported(tmp_path, folder)
    assert (result["family"], result["imported_from"]["class"]) == ("scalar_head", "InternLM2ForRewardModel")
    expected = [intern_reward(tensors, [*ids_of([*p, *r]), 265]) for p, r in probes()]
    scorer = scorer_of(reference)
    assert [item.ids.tolist() for item in scorer.encode(probes())] == [[*ids_of([*p, *r]), 265] for p, r in probes()]
    found = scorer.score(probes()).values
    assert found == pytest.approx(expected, abs=1e-5)
    assert found.std() > 0.1
    assert any("[UNUSED_TOKEN_130]" in note for note in result["notes"])


def test_an_internlm2_that_is_not_whole_is_refused(tmp_path) -> None:
    tensors = intern_tensors()
    cases = [
        ({"reward_token_id": 4000}, tensors, "names the token 4000 for the reward"),
        ({"reward_token_id": None}, tensors, "names the token None"),
        ({"rope_scaling": {"type": "yarn", "factor": 2.0}}, tensors, "scales positions by 'yarn'"),
        ({"num_key_value_heads": 4}, tensors, r"attention\.wqkv\.weight of .* has 64 rows; its config\.json says 96"),
        ({"intermediate_size": 40}, tensors, r"mlp\.down_proj\.weight .* has shape \(32, 48\), not \(32, 40\)"),
        ({}, {n: t for n, t in tensors.items() if "1.attention.wo" not in n}, r"lacks layers\.1\.self_attn\.o_proj"),
        ({}, {**tensors, "model.adapter.weight": random(2, 2)}, r"adapter\.weight .* there is no place for it"),
        ({}, {**tensors, "v_head.bias_of_its_own": random(1)}, r"v_head\.bias_of_its_own \(1,\)"),
        ({"num_hidden_layers": None}, tensors, "num_hidden_layers"),
    ]
    for i, (config, held, says) in enumerate(cases):
        folder = intern_folder(tmp_path / str(i), held, **config)
        with pytest.raises(JobError, match=says):
            imported(tmp_path / f"run {i}", folder)
    folder = intern_folder(tmp_path / "whole", tensors)
    with pytest.raises(JobError, match="plain role labels have none"):
        imported(tmp_path, folder, rendering="plain")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(JobError, match=r"comes as code, .* no tokenizer\.json"):
        imported(tmp_path, folder)
