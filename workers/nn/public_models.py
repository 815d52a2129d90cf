"""Reward models whose class comes with the model: their weights are read by name, their code is never run.

What such a class computes is published: linear layers on the last hidden state (a row of PUBLIC_HEADS), ArmoRM's gate,
or the logits of a language model at one or two tokens. It is written down here once more, straight from the formula, as
what the imported checkpoint is compared with.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from workers.errors import JobError
from workers.families.gated import answer_header
from workers.nn.backbone import is_causal, load_headless
from workers.nn.causal_lm import load_causal_lm
from workers.nn.exported_reading import ExportedReading
from workers.nn.head_layouts import GATED_TENSORS, PUBLIC_HEADS, Layout, public_head
from workers.nn.heads import ACTIVATIONS

UNUSED = frozenset({"lm_head.weight", "lm_head.bias"})
"""Of the language model that a reward model was made from."""
STEP_CLASSES = ("processreward", "forprm")
QWEN_STEP_MARK = "<extra_0>"


@dataclass(frozen=True)
class Found:
    """A model, its head apart, and `logits`: what its class gives for the ids of one text.

    Logits have shape (labels,), or (tokens, labels) where it `reads_tokens`.
    """

    name: str
    class_name: str
    base: Any
    tokenizer: Any
    head: Mapping[str, Tensor]
    labels: list[str]
    layout: Layout | None
    logits: Callable[[Tensor], Tensor]
    reads_tokens: bool = False
    is_gated: bool = False
    notes: list[str] = field(default_factory=list)
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of the family, where the model says them."""
    exported: ExportedReading | None = None
    on_armorm_scale: bool = True
    """Of a gate: whether its ratings are a fifth of those told, as ArmoRM's of HelpSteer are."""

    @property
    def commit(self) -> str | None:
        found: str | None = getattr(self.base.config, "_commit_hash", None)
        return found


def find_public(name: str, revision: str | None, named: str, *, wanted: str, template: str = "") -> Found:
    """A causal model with a head of a known layout. JobError names the tensors where it has another."""
    loaded = load_headless(name, revision)
    take_template(loaded.tokenizer, template)
    head = {n: t.float() for n, t in loaded.rest.items() if n not in UNUSED}
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
        return _gated(name, named, loaded, head)
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
            x = ACTIVATIONS[layout.activation]()(_linear(x, head, layout.first))
        found = _linear(x, head, layout.last)
        return found if reads_tokens else found[-1]

    marks = reads_tokens and QWEN_STEP_MARK in loaded.tokenizer.get_vocab()
    return Found(
        name,
        named,
        base,
        loaded.tokenizer,
        head,
        labels_of(base.config, n),
        layout,
        logits,
        reads_tokens=reads_tokens,
        settings={"step_mark": QWEN_STEP_MARK} if marks else {},
        notes=[f"Its head, {', '.join(sorted(head))}, is laid out as in {known.seen_in}."],
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
    ids = [_token_id(tokenizer, text) for text in (right, wrong) if text]
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
    """Give the tokenizer a chat template; JobError where it is none. Empty: it keeps its own."""
    if not template:
        return
    tokenizer.chat_template = template
    try:
        tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    except Exception as error:  # whatever Jinja, or a function that the template calls, may raise
        raise JobError(f"The chat_template that was given cannot be used: {error}", "Give a Jinja template.") from error


def _token_id(tokenizer: Any, text: str) -> int:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise JobError(f"{text!r} is {len(ids)} tokens of this model, not one.", "Name a single token.")
    return int(ids[0])


def _gated(name: str, named: str, loaded: Any, head: dict[str, Tensor]) -> Found:
    """ArmoRM: score = sum_j g_j (r T)_j, r = W h_last, g = s softmax(MLP(h_gate) / temperature).

    h_gate is the state at the token that ends the user's turn, the first of the pattern "end of turn, assistant
    header": see Wang et al. 2024, arXiv 2406.12845, and the class published with the model.
    """
    config = loaded.model.config
    n_layers = sum(n.startswith("gating.layers.") and n.endswith(".weight") for n in head)
    layers = [f"gating.layers.{i}" for i in range(n_layers)]
    expected = {*GATED_TENSORS, *(f"{n}.{kind}" for n in layers for kind in ("weight", "bias"))}
    lacking, odd = sorted(expected - head.keys() - {f"{layers[-1]}.bias"}), sorted(head.keys() - expected)
    if lacking or odd:
        raise unknown_head(name, named, head, f"{lacking[0]} is missing" if lacking else f"{odd[0]} is not known")
    k, width = len(head["reward_transform_matrix"]), config.hidden_size
    shapes = {"regression_layer.weight": (k, width), "reward_transform_matrix": (k, k), "gating.logit_scale": (1,)}
    sizes = [width, *(len(head[f"{n}.weight"]) for n in layers[:-1]), k]
    shapes |= {f"{n}.weight": (b, a) for n, a, b in zip(layers, sizes[:-1], sizes[1:], strict=True)}
    for tensor, shape in shapes.items():
        if tuple(head[tensor].shape) != shape:
            raise unknown_head(name, named, head, f"{tensor} has shape {tuple(head[tensor].shape)}, not {shape}")
    if len(set(sizes[1:-1])) != 1 or float(head["gating.logit_scale"]) <= 0:
        why = "the hidden layers of its gate differ in width" if len(set(sizes[1:-1])) != 1 else "its scale is not > 0"
        raise unknown_head(name, named, head, why)
    temperature = float(getattr(config, "gating_temperature", 10))
    base, pattern = loaded.model, answer_header(loaded.tokenizer)

    def logits(ids: Tensor) -> Tensor:
        states = states_of(base, ids)
        ratings = states[-1] @ head["regression_layer.weight"].T
        x = states[last_occurrence(ids.tolist(), pattern)]
        for i, layer in enumerate(layers):
            x = _linear(x, head, layer)
            x = x.relu() if i < n_layers - 1 else x
        gate = head["gating.logit_scale"] * (x / temperature).softmax(dim=-1)
        return (gate * (ratings @ head["reward_transform_matrix"])).sum()[None]

    settings = {"gate_layers": n_layers - 1, "gate_width": sizes[1], "temperature": temperature}
    return Found(
        name,
        named,
        base,
        loaded.tokenizer,
        head,
        labels_of(config, k),
        None,
        logits,
        is_gated=True,
        settings={**settings, "gate_reads": "turn_end"},
    )


def last_occurrence(ids: list[int], pattern: list[int]) -> int:
    starts = range(len(ids) - len(pattern), -1, -1)
    return next(i for i in starts if ids[i : i + len(pattern)] == pattern)


def states_of(base: Any, ids: Tensor) -> Tensor:
    """Last hidden states (tokens, width) of one text, without padding."""
    with torch.inference_mode():
        found: Tensor = base.eval()(input_ids=ids[None], attention_mask=torch.ones_like(ids[None])).last_hidden_state
    return found[0].float()


def labels_of(config: Any, n: int) -> list[str]:
    """Names of n outputs, where the config has as many."""
    names = {int(i): str(label) for i, label in (getattr(config, "id2label", None) or {}).items()}
    return [names.get(i, f"LABEL_{i}") for i in range(n)]


def unknown_head(name: str, named: str, found: Mapping[str, Tensor], why: str = "") -> JobError:
    """Names the tensors with their shapes, and the layouts that are known."""
    shown = ", ".join(f"{n} {tuple(t.shape)}" for n, t in sorted(found.items())[:12]) or "none"
    known = "; ".join(" and ".join(head.layout.weights) for head in PUBLIC_HEADS)
    return JobError(
        f"The head of {name} ({named}) is laid out in a way that is not known here{f': {why}' if why else ''}. Its "
        f"tensors are {shown}.",
        f"Known are heads of a causal model with these tensors: {known}; and ArmoRM's {', '.join(GATED_TENSORS)}. "
        "Rename the tensors where the model computes the same, or score it through an endpoint or a score file.",
    )


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


def _linear(x: Tensor, head: Mapping[str, Tensor], name: str) -> Tensor:
    return nn.functional.linear(x, head[f"{name}.weight"], head.get(f"{name}.bias"))
