"""Gated public reward models, ArmoRM and QRM: their formulas, and QRM's gate and quantiles as ArmoRM's."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from workers.families.gated import answer_header
from workers.nn.backbone import Headless
from workers.nn.head_layouts import GATED_TENSORS
from workers.nn.public_found import Found, labels_of, linear, states_of, unknown_head

NORM = ("weight", "bias", "running_mean", "running_var")
NORM_EPS = 1e-5
"""Of torch's BatchNorm1d, which QRM takes as it is."""


def find_gated(name: str, named: str, loaded: Headless, head: dict[str, Tensor]) -> Found:
    """ArmoRM: score = sum_j g_j (r T)_j, r = W h_last, g = s softmax(MLP(h_gate) / temperature).

    h_gate is the state at the token that ends the user's turn, the first of the pattern "end of turn, assistant
    header": see Wang et al. 2024, arXiv 2406.12845, and the class published with the model. QRM (Dorka 2024, arXiv
    2409.10164) has q quantiles of every rating, whose mean is r, and a batch norm behind each ReLU of the gate: at
    rest both are linear, so that they go into the layers beside them.
    """
    config = loaded.model.config
    quantiles = getattr(config, "num_quantiles", 1)
    plain = as_armorm(name, named, head, quantiles)
    _insist(name, named, head, plain, width=config.hidden_size)
    temperature = float(getattr(config, "gating_temperature", 10))
    base, pattern = loaded.model, answer_header(loaded.tokenizer)
    published = score_of(head)

    def logits(ids: Tensor) -> Tensor:
        states = states_of(base, ids)
        return published(states[-1], states[last_occurrence(ids.tolist(), pattern)], temperature)[None]

    n_hidden = sum(n.startswith("gating.layers.") and n.endswith(".weight") for n in plain) - 1
    settings = {"gate_layers": n_hidden, "gate_width": len(plain["gating.layers.0.weight"]), "temperature": temperature}
    k = len(plain["reward_transform_matrix"])
    notes = [] if quantiles == 1 else [f"A rating is the mean of its {quantiles} quantiles; their spread is not kept."]
    return Found(
        name,
        named,
        base,
        loaded.tokenizer,
        plain,
        labels_of(config, k),
        None,
        logits,
        is_gated=True,
        settings={**settings, "gate_reads": "turn_end"},
        notes=notes,
        on_armorm_scale=quantiles == 1,
    )


def score_of(head: Mapping[str, Tensor]) -> Callable[[Tensor, Tensor, float], Tensor]:
    """The published formula on the published tensors: of the last state, the gate's and the temperature."""
    transform, numbers = head["reward_transform_matrix"], layer_numbers(head)

    def score(last: Tensor, prompt: Tensor, temperature: float) -> Tensor:
        ratings = (head["regression_layer.weight"] @ last).reshape(len(transform), -1).mean(dim=1)
        x = prompt
        for i in numbers:
            if f"gating.layers.{i}.running_mean" in head:
                scale, mean, shift = _norm(head, i)
                x = (x - mean) * scale + shift
            else:
                x = linear(x, head, f"gating.layers.{i}")
                x = x if i == numbers[-1] else x.relu()
        gate = head["gating.logit_scale"] * (x / temperature).softmax(dim=-1)
        found: Tensor = (gate * (ratings @ transform)).sum()
        return found

    return score


def as_armorm(name: str, named: str, head: Mapping[str, Tensor], quantiles: Any) -> dict[str, Tensor]:
    """The same tensors as ArmoRM's: quantiles averaged, norms in the layer behind them, layers numbered from 0."""
    lacking = sorted({*GATED_TENSORS} - head.keys())
    if lacking:
        raise unknown_head(name, named, head, f"{lacking[0]} is missing")
    k, weight = len(head["reward_transform_matrix"]), head["regression_layer.weight"]
    found = {n: t for n, t in head.items() if not n.startswith("gating.layers.")}
    if quantiles != 1:
        if not isinstance(quantiles, int) or quantiles < 1 or weight.ndim != 2 or len(weight) != k * quantiles:
            shape = tuple(weight.shape)
            why = f"regression_layer.weight has shape {shape}, not {k} ratings of {quantiles} quantiles each"
            raise unknown_head(name, named, head, why)
        found["regression_layer.weight"] = weight.reshape(k, quantiles, -1).mean(dim=1)
    scale: Tensor | None = None
    shift = torch.zeros(())
    n_linear = 0
    for i in layer_numbers(head):
        at = f"gating.layers.{i}"
        own = {n.removeprefix(f"{at}."): t for n, t in head.items() if n.startswith(f"{at}.")}
        if "running_mean" in own:
            _insist_norm(name, named, head, at, own, follows=n_linear)
            scale, mean, moved = _norm(head, i)
            shift = moved - mean * scale
            continue
        if odd := sorted(own.keys() - {"weight", "bias"}) or (["no weight"] if "weight" not in own else []):
            raise unknown_head(name, named, head, f"{at}.{odd[0]} is not known")
        weight, bias = own["weight"], own.get("bias", torch.zeros(len(own["weight"])))
        if scale is not None and weight.ndim == 2 and weight.shape[1] == len(scale):
            weight, bias = weight * scale, bias + weight @ shift
        found[f"gating.layers.{n_linear}.weight"], found[f"gating.layers.{n_linear}.bias"] = weight, bias
        scale, n_linear = None, n_linear + 1
    return found


def layer_numbers(head: Mapping[str, Tensor]) -> list[int]:
    found = {n.split(".")[2] for n in head if n.startswith("gating.layers.")}
    return sorted(int(number) for number in found if number.isdigit())


def _norm(head: Mapping[str, Tensor], number: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scale, mean and shift of a batch norm at rest."""
    weight, bias, mean, variance = (head[f"gating.layers.{number}.{part}"] for part in NORM)
    return weight / (variance + NORM_EPS).sqrt(), mean, bias


def _insist_norm(
    name: str, named: str, head: Mapping[str, Tensor], at: str, own: Mapping[str, Tensor], *, follows: int
) -> None:
    if missing := [part for part in NORM if part not in own]:
        raise unknown_head(name, named, head, f"{at}.{missing[0]} is missing")
    if odd := sorted(own.keys() - {*NORM, "num_batches_tracked"}):
        raise unknown_head(name, named, head, f"{at}.{odd[0]} is not known")
    if not follows or len({tuple(own[part].shape) for part in NORM}) > 1 or bool((own["running_var"] < 0).any()):
        raise unknown_head(name, named, head, f"{at} is no batch norm behind a layer")


def _insist(name: str, named: str, head: Mapping[str, Tensor], plain: Mapping[str, Tensor], *, width: int) -> None:
    """Names and shapes of ArmoRM's, in which the published ones are told where they differ."""
    n_layers = sum(n.startswith("gating.layers.") and n.endswith(".weight") for n in plain)
    layers = [f"gating.layers.{i}" for i in range(n_layers)]
    known = {*GATED_TENSORS, *(f"{n}.{kind}" for n in layers for kind in ("weight", "bias"))}
    if odd := sorted(plain.keys() - known):
        raise unknown_head(name, named, head, f"{odd[0]} is not known")
    k = len(plain["reward_transform_matrix"])
    shapes = {"regression_layer.weight": (k, width), "reward_transform_matrix": (k, k), "gating.logit_scale": (1,)}
    sizes = [width, *(len(plain[f"{n}.weight"]) for n in layers[:-1]), k]
    shapes |= {f"{n}.weight": (b, a) for n, a, b in zip(layers, sizes[:-1], sizes[1:], strict=True)}
    for tensor, shape in shapes.items():
        if tuple(plain[tensor].shape) != shape:
            raise unknown_head(name, named, head, f"{tensor} has shape {tuple(plain[tensor].shape)}, not {shape}")
    if n_layers < 2 or len(set(sizes[1:-1])) != 1 or float(plain["gating.logit_scale"]) <= 0:
        why = "its scale is not > 0" if n_layers > 1 and len(set(sizes[1:-1])) == 1 else ""
        raise unknown_head(name, named, head, why or "the hidden layers of its gate differ in width")


def last_occurrence(ids: list[int], pattern: list[int]) -> int:
    starts = range(len(ids) - len(pattern), -1, -1)
    return next(i for i in starts if ids[i : i + len(pattern)] == pattern)
