"""Reward models whose class comes with the model: their weights are read by name, their code is never run.

What such a class computes is published: linear layers on the last hidden state (a row of PUBLIC_HEADS), ArmoRM's gate,
or the logits of a language model at one or two tokens. It is written down here once more, straight from the formula, as
what the imported checkpoint is compared with.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from workers.errors import JobError
from workers.nn.backbone import is_causal, load_headless
from workers.nn.causal_lm import load_causal_lm
from workers.nn.head_layouts import Layout, public_head
from workers.nn.heads import ACTIVATIONS
from workers.nn.internlm2 import end_in_reward_token, load_internlm2, raw_config
from workers.nn.public_found import Found, labels_of, linear, states_of, unknown_head
from workers.nn.public_gates import find_gated
from workers.nn.reward_scale import SCALE_BUFFERS, reward_scale

UNUSED = frozenset({"lm_head.weight", "lm_head.bias"})
"""Of the language model that a reward model was made from."""
STEP_CLASSES = ("processreward", "forprm")
QWEN_STEP_MARK = "<extra_0>"


def find_public(name: str, revision: str | None, named: str, *, wanted: str, template: str = "") -> Found:
    """A causal model with a head of a known layout. JobError names the tensors where it has another."""
    told = raw_config(name, revision)
    loaded = load_internlm2(name, revision, told) if told else load_headless(name, revision)
    take_template(loaded.tokenizer, template)
    notes = [f"Read at {end_in_reward_token(loaded.tokenizer, told, name)!r}, put at the end."] if told else []
    head = {n: t.float() for n, t in loaded.rest.items() if n not in UNUSED}
    scale = reward_scale(name, loaded.model.config, head)
    head = {n: t for n, t in head.items() if n not in SCALE_BUFFERS}
    if not head:
        raise JobError(
            f"{name} is of the class {named}, which gives no reward that can be imported.",
            "A plain language model or encoder is a backbone: register a reward model on it and train. Where its "
            "reward is the logit of a token, name the token as right_token.",
        )
    if loaded.missing or not is_causal(loaded.model.config.model_type):
        why = f"the backbone lacks {loaded.missing[0]}" if loaded.missing else "it is no causal language model"
        raise unknown_head(name, named, head, why)
    if any(n.startswith("gating.") for n in head):
        return find_gated(name, named, loaded, head)
    known = public_head(head)
    if known is None:
        raise unknown_head(name, named, head)
    layout, base = known.layout, loaded.model
    reads_tokens = wanted == "process" or (wanted == "auto" and any(word in named.lower() for word in STEP_CLASSES))
    n = len(head[f"{layout.last}.weight"])
    _insist_shapes(name, named, head, layout, width=base.config.hidden_size)

    def logits(ids: Tensor) -> Tensor:
        x = states_of(base, ids)
        if layout.first:
            x = ACTIVATIONS[layout.activation]()(linear(x, head, layout.first))
        found = scale.of(linear(x, head, layout.last))
        return found if reads_tokens else found[-1]

    marks = reads_tokens and QWEN_STEP_MARK in loaded.tokenizer.get_vocab()
    return Found(
        name,
        named,
        base,
        loaded.tokenizer,
        scale.folded(head, layout),
        labels_of(base.config, n),
        layout,
        logits,
        reads_tokens=reads_tokens,
        settings={"step_mark": QWEN_STEP_MARK} if marks else {},
        notes=[f"Its head, {', '.join(sorted(head))}, is laid out as in {known.seen_in}.", *notes, *scale.notes],
        needs_template=bool(told),
    )


def find_logit(name: str, revision: str | None, right: str, wrong: str, *, wanted: str, template: str = "") -> Found:
    """A language model whose reward is the logit of a token, or its difference to another's: a linear head as well."""
    whole = load_causal_lm(name, revision)
    base, tokenizer = whole.model, whole.tokenizer
    take_template(tokenizer, template)
    config = base.config.get_text_config()
    if getattr(config, "final_logit_softcapping", None):
        raise JobError(f"{name} caps its logits, so that none of them is linear in the state.", "Choose another model.")
    scale = (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)
    output = getattr(base, "lm_head", None) or base.get_input_embeddings()
    if hasattr(base, "lm_head"):
        del base.lm_head  # the checkpoint keeps the rows that make the reward, not all of it
    ids = [_token_id(tokenizer, text, len(output.weight)) for text in (right, wrong) if text]
    if len(set(ids)) < len(ids):
        raise JobError(f"right_token and wrong_token are the same token {ids[0]}.", "Give two.")
    reads_tokens = wanted == "process" or (wanted == "auto" and bool(wrong))
    if reads_tokens and not wrong:
        raise JobError("A step's probability needs the logits of two tokens.", "Give wrong_token too.")
    bias = getattr(output, "bias", None)
    rows = [output.weight[i].detach().float() * scale for i in ids]
    shifts = [torch.zeros(()) if bias is None else bias[i].detach().float() * scale for i in ids]
    head = {
        "logit.weight": (rows[0] - rows[1] if wrong else rows[0])[None],
        "logit.bias": (shifts[0] - shifts[1] if wrong else shifts[0])[None],
    }

    def logits(text: Tensor) -> Tensor:
        every = nn.functional.linear(states_of(base, text), output.weight.float(), bias) * scale
        found = every[:, ids[0]] - (every[:, ids[1]] if wrong else 0)
        return found[:, None] if reads_tokens else found[-1:]

    told = f"token {ids[0]} ({right!r})" + (f" less that of token {ids[1]} ({wrong!r})" if wrong else "")
    return Found(
        name,
        f"{type(base).__name__} with its language-model head",
        base,
        tokenizer,
        head,
        ["reward"],
        Layout("last", "logit"),
        logits,
        reads_tokens=reads_tokens,
        notes=[f"Its reward is the logit of {told}."],
    )


def take_template(tokenizer: Any, template: str) -> None:
    """Give the tokenizer a chat template; JobError where it is none, or drops what is said. Empty: it keeps its own."""
    if not template:
        return
    tokenizer.chat_template = template
    try:
        told = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]
        text = tokenizer.apply_chat_template(told, tokenize=False)
    except Exception as error:  # whatever Jinja, or a function that the template calls, may raise
        raise JobError(f"The chat_template that was given cannot be used: {error}", "Give a Jinja template.") from error
    if lost := [message["content"] for message in told if message["content"].casefold() not in text.casefold()]:
        raise JobError(
            f"The chat_template that was given leaves out what is said: {lost[0]!r} is not in the text it makes.",
            "Give the Jinja template of the model's training, with every message's content in it.",
        )


def _token_id(tokenizer: Any, text: str, n_logits: int) -> int:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if len(ids) == 1 and ids[0] >= n_logits:
        raise JobError(
            f"Its tokenizer says that {text!r} is the token {ids[0]}, and it has {n_logits} logits: they do not belong"
            " together.",
            "Put the tokenizer beside it that it was trained with.",
        )
    if len(ids) != 1:
        raise JobError(f"{text!r} is {len(ids)} tokens of this model, not one.", "Name a single token.")
    return int(ids[0])


def _insist_shapes(name: str, named: str, head: Mapping[str, Tensor], layout: Layout, *, width: int) -> None:
    sizes = [width]
    for layer in (layout.first, layout.last):
        if not layer:
            continue
        weight = head[f"{layer}.weight"]
        if weight.ndim != 2 or weight.shape[1] != sizes[-1]:
            why = f"{layer}.weight reads {weight.shape[-1]} numbers, and there are {sizes[-1]}"
            raise unknown_head(name, named, head, why)
        sizes.append(len(weight))
