"""InternLM2's reward models as Llama: the same computation, its tensors under other names. None of its code is run.

InternLM2 (Cai et al. 2024, arXiv 2403.17297) keeps queries, keys and values in one tensor `wqkv`: for every key head
the queries that share it, then the key, then the value. Its reward models put a token of their own at the end of a
conversation, and `v_head` reads the state there.
"""

import json
from pathlib import Path
from typing import Any

import transformers
from safetensors import safe_open
from tokenizers import AddedToken
from torch import Tensor

from workers.errors import JobError
from workers.nn.backbone import Headless, explained, insist_finite, published_file, weight_files
from workers.nn.config_check import check_files_hold, check_length, check_sizes

MODEL_TYPE = "internlm2"
NAMES = {
    "tok_embeddings.weight": "embed_tokens.weight",
    "norm.weight": "norm.weight",
    "attention.wo.weight": "self_attn.o_proj.weight",
    "attention.wo.bias": "self_attn.o_proj.bias",
    "feed_forward.w1.weight": "mlp.gate_proj.weight",
    "feed_forward.w3.weight": "mlp.up_proj.weight",
    "feed_forward.w2.weight": "mlp.down_proj.weight",
    "attention_norm.weight": "input_layernorm.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
}
SHAPE = {
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "rms_norm_eps",
    "hidden_act",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
}
"""Settings of the same name and meaning in both."""


def raw_config(name: str, revision: str | None) -> dict[str, Any]:
    """config.json as it stands, of an InternLM2; empty for any other model, and where there is none."""
    file = published_file(name, "config.json", revision)
    try:
        found = json.loads(file.read_text(encoding="utf-8")) if file else {}
    except (ValueError, RecursionError):  # transformers says what is wrong with it
        found = {}
    return found if isinstance(found, dict) and found.get("model_type") == MODEL_TYPE else {}


def load_internlm2(name: str, revision: str | None, told: dict[str, Any]) -> Headless:
    """The backbone as a Llama, and the tensors that are not its. JobError where something has no place in a Llama."""
    if published_file(name, "tokenizer.json", revision) is None:
        raise JobError(
            f"The tokenizer of {name} comes as code, which is never run here: it has no tokenizer.json.",
            "Put a tokenizer.json beside it, as save_pretrained writes it for the tokenizer of its fast class.",
        )
    tensors: dict[str, Tensor] = {}
    config = as_llama(name, told)
    files = explained(name, lambda: weight_files(name, revision))
    explained(name, lambda: check_files_hold(name, config, files))
    for file in files:
        with explained(name, lambda file=file: safe_open(file, framework="pt")) as opened:  # type: ignore[misc]
            tensors |= {n: opened.get_tensor(n).float() for n in opened.keys()}  # noqa: SIM118
    insist_finite(name, tensors)
    renamed = {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
    rest = {n: t for n, t in tensors.items() if not n.startswith("model.")}
    given = in_llama_names(name, renamed, config)
    model: Any = explained(name, lambda: transformers.LlamaModel(config))
    own = model.state_dict()
    wrong = [n for n in sorted(own.keys() & given.keys()) if own[n].shape != given[n].shape]
    if odd := sorted(given.keys() - own.keys()) + wrong:
        shape = tuple(given[odd[0]].shape)
        raise JobError(
            f"The tensors of {name} do not fit its config.json: {odd[0]} (in Llama's names) has shape {shape}"
            f"{f', not {tuple(own[odd[0]].shape)}' if odd[0] in own else ', and there is no place for it'}.",
            "Its files are not those of one model: get them again.",
        )
    model.load_state_dict(given, strict=False)
    return Headless(model.eval(), _tokenizer(name, revision), rest, sorted(own.keys() - given.keys()))


def as_llama(name: str, told: dict[str, Any]) -> Any:
    """The config of the same Llama. Dynamic scaling of positions acts beyond the context alone, which is never left."""
    scaling = told.get("rope_scaling") or {}
    if not isinstance(scaling, dict) or (scaling.get("type") == "linear" and "factor" not in scaling):
        raise JobError(f"The config.json of {name} says rope_scaling {scaling!r}.", "Get its files again.")
    kind = scaling.get("type", "dynamic")
    if kind not in ("dynamic", "linear"):
        raise JobError(f"{name} scales positions by {kind!r}, which is not known here.", "Choose another model.")
    rope: dict[str, Any] = {"rope_theta": told.get("rope_theta", 10000.0), "rope_type": "default"}
    if kind == "linear":
        rope |= {"rope_type": "linear", "factor": scaling["factor"]}
    lacking = sorted({"hidden_size", "num_attention_heads", "num_hidden_layers", "vocab_size"} - told.keys())
    if lacking:
        raise JobError(f"The config.json of {name} lacks {lacking[0]}.", "Get its files again.")
    heads = told.get("num_key_value_heads") or told["num_attention_heads"]
    shape = {key: value for key, value in told.items() if key in SHAPE}
    rest = {"num_key_value_heads": heads, "attention_bias": bool(told.get("bias")), "rope_parameters": rope}
    config = explained(name, lambda: transformers.LlamaConfig(**shape, **rest))
    check_sizes(name, config)
    return config


def in_llama_names(name: str, tensors: dict[str, Tensor], config: Any) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for full, tensor in tensors.items():
        if full.endswith("rotary_emb.inv_freq"):
            continue
        *place, rest = ["", full] if not full.startswith("layers.") else _split(full)
        if rest in ("attention.wqkv.weight", "attention.wqkv.bias"):
            parts = apart(name, full, tensor, config)
            kind = rest.rsplit(".", 1)[1]
            found |= {f"{place[0]}self_attn.{p}_proj.{kind}": t for p, t in zip("qkv", parts, strict=True)}
        else:
            found[f"{place[0]}{NAMES.get(rest, rest)}"] = tensor
    return found


def apart(name: str, full: str, tensor: Tensor, config: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of a fused tensor of (key heads, queries of one + 2, head width) rows."""
    n_keys, n_heads = config.num_key_value_heads, config.num_attention_heads
    group, width = n_heads // n_keys, config.hidden_size // n_heads
    rows = n_keys * (group + 2) * width
    if len(tensor) != rows:
        raise JobError(
            f"The tensor {full} of {name} has {len(tensor)} rows; its config.json says {rows}: {n_heads} queries and "
            f"twice {n_keys} keys of {width}.",
            "Its files are not those of one model: get them again.",
        )
    split = tensor.reshape(n_keys, group + 2, width, *tensor.shape[1:])
    queries, keys, values = split[:, :group], split[:, -2], split[:, -1]
    return queries.flatten(0, 2).contiguous(), keys.flatten(0, 1).contiguous(), values.flatten(0, 1).contiguous()


def end_in_reward_token(tokenizer: Any, told: dict[str, Any], name: str) -> str:
    """Let the chat template end a conversation in the token whose state is read; the token. JobError where it cannot.

    The published code appends the id to the template's ids, unless it stands there already.
    """
    number = told.get("reward_token_id")
    token = tokenizer.convert_ids_to_tokens(number) if isinstance(number, int) and number >= 0 else None
    if not isinstance(token, str) or number == tokenizer.unk_token_id:
        raise JobError(
            f"The config.json of {name} names the token {number} for the reward, and its tokenizer has none such.",
            "Get its config.json and tokenizer.json again.",
        )
    if not tokenizer.chat_template:
        raise JobError(f"{name} comes without a chat template, which it needs.", "Give one as chat_template.")
    if tokenizer(token, add_special_tokens=False)["input_ids"] != [number]:
        tokenizer.add_tokens([AddedToken(token, special=True, normalized=False)], special_tokens=True)
    if tokenizer(token, add_special_tokens=False)["input_ids"] != [number]:
        raise JobError(f"The tokenizer of {name} does not read {token!r} as its token {number}.", "Get it again.")
    ending = "{% if not add_generation_prompt %}" + "{{ " + json.dumps(token) + " }}{% endif %}"
    if not tokenizer.chat_template.endswith(ending):
        tokenizer.chat_template += ending
    return token


def _split(full: str) -> list[str]:
    _, number, rest = full.split(".", 2)
    return [f"layers.{number}.", rest]


def _tokenizer(name: str, revision: str | None) -> Any:
    file = published_file(name, "tokenizer.json", revision)
    folder = Path(file or "").parent
    published_file(name, "tokenizer_config.json", revision)
    published_file(name, "special_tokens_map.json", revision)
    tokenizer = explained(name, lambda: transformers.PreTrainedTokenizerFast.from_pretrained(folder))
    check_length(tokenizer)
    tokenizer.init_kwargs.pop("auto_map", None)  # of the code beside it; a checkpoint keeps these settings
    return tokenizer
