"""Causal language models with the head that predicts the next token: loading, reopening, logits where they are needed.

The head is kept as `lm_head` of the backbone's own model where it has weights of its own, and is nothing where it
shares the embedding's. So the backbone's tensors have the same names as in every other family.
"""

from typing import Any

import torch
import transformers
from torch import Tensor, nn

from workers.errors import JobError
from workers.nn.backbone import Backbone, described, pretrained
from workers.nn.tiny import TINY_LANGUAGE_MODELS, tiny_causal_lm, tiny_tokenizer

SAME_LOGITS = 1e-3
N_PROBE = 8


def load_causal_lm(name: str, revision: str | None = None) -> Backbone:
    """Pretrained weights with the language-model head, by the same names and rules as `load_backbone`.

    JobError where `name` is no causal language model, or computes its logits in a way that is not known here.
    """
    if name in TINY_LANGUAGE_MODELS:
        return take_apart(tiny_causal_lm(is_tied=name.endswith("-tied")), tiny_tokenizer("tiny-causal"), name)
    if name in ("minilm", "tiny-encoder"):
        raise _not_causal(name)
    try:
        tokenizer, model = pretrained(name, transformers.AutoModelForCausalLM, revision)
    except JobError as error:
        raise _not_causal(name) if "AutoModelForCausalLM" in error.message else error from error
    return take_apart(model, tokenizer, name)


def take_apart(model: Any, tokenizer: Any, name: str) -> Backbone:
    """The backbone of a causal language model of transformers, its head beside it where it has weights of its own."""
    base, head = model.base_model, model.get_output_embeddings()
    found = described(base, tokenizer)
    if not found.is_causal or head is None or base is model:
        raise _not_causal(name)
    is_tied = head.weight is base.get_input_embeddings().weight
    base.config.get_text_config().tie_word_embeddings = is_tied
    if not is_tied:
        base.lm_head = head
    _insist_same_logits(model, base, name)
    return found


def with_lm_head(backbone: Backbone) -> Backbone:
    """The same backbone; where its config asks for a head with weights of its own and there is none, a random one."""
    model = backbone.model
    if model.config.get_text_config().tie_word_embeddings or hasattr(model, "lm_head"):
        return backbone
    with torch.device("meta"):
        whole = transformers.AutoModelForCausalLM.from_config(model.config)  # type: ignore[no-untyped-call]
    head = whole.get_output_embeddings()
    model.lm_head = nn.Linear(head.in_features, head.out_features, bias=head.bias is not None)
    return backbone


def language_head(model: Any) -> Any:
    """The module whose weight makes logits of states: the embedding where it is shared."""
    return model.lm_head if hasattr(model, "lm_head") else model.get_input_embeddings()


def token_logits(model: Any, hidden: Tensor) -> Tensor:
    """Next-token logits in float32, shape (n, vocabulary), of last hidden states (n, width)."""
    head = language_head(model)
    bias = getattr(head, "bias", None)
    logits = nn.functional.linear(hidden.float(), head.weight.float(), None if bias is None else bias.float())
    config = model.config.get_text_config()
    logits = logits * (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)
    cap = getattr(config, "final_logit_softcapping", None)
    return torch.tanh(logits / cap) * cap if cap else logits


def _insist_same_logits(model: Any, base: Any, name: str) -> None:
    ids = (torch.arange(1, N_PROBE + 1) % base.get_input_embeddings().num_embeddings)[None].to(model.device)
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        expected = model(input_ids=ids, use_cache=False).logits[0].float()
        found = token_logits(base, base(input_ids=ids, use_cache=False).last_hidden_state[0])
    model.train(was_training)
    if expected.shape != found.shape or not torch.allclose(expected, found, atol=SAME_LOGITS, rtol=SAME_LOGITS):
        raise JobError(
            f"{name} computes its logits in a way that is not known here.",
            "Choose a causal model with a plain language-model head, such as Qwen/Qwen2.5-0.5B.",
        )


def _not_causal(name: str) -> JobError:
    return JobError(
        f"{name} is not a causal language model, whose likelihood this family reads.",
        "Choose one such as Qwen/Qwen2.5-0.5B, or a local folder that holds one.",
    )
