"""Llama and its kin without padding, and with every prompt of a batch computed once for all its responses.

Linear layers run over all tokens of a batch in one row: each prompt once, then its responses one by one. Attention goes
segment by segment: a prompt sees itself, a response sees its prompt and itself, so that every token has the position
and the past it has in a sequence of its own. The same weights and numbers as the padded forward of transformers
(tested to 1e-5). Without gradients, for CPUs: on a GPU the loop over segments would leave the device idle.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from workers.data.render import Encoded
from workers.nn.pooling import Pooling

PACKABLE_CAUSAL = frozenset({"llama", "qwen2", "qwen3", "mistral"})
FIXED_ROPE = frozenset({"default", "linear", "llama3", "yarn"})
"""Rotations that depend on the position alone, not on the longest sequence of a call."""


def is_packable_causal(model: Any) -> bool:
    """Is this a model of Llama's layers, in evaluation mode, in which every token sees all before it?"""
    config = model.config
    if config.model_type not in PACKABLE_CAUSAL or model.training or not getattr(config, "is_causal", True):
        return False
    if config.model_type == "mistral" and getattr(config, "sliding_window", None) is not None:
        return False
    windows = [getattr(layer.self_attn, "sliding_window", None) for layer in model.layers]
    return not any(windows) and getattr(model.rotary_emb, "rope_type", "default") in FIXED_ROPE


@dataclass(frozen=True)
class Segment:
    """Tokens that stand together in the row: a prompt, a response, or both; `prefix` is where its prompt stands."""

    start: int
    size: int
    prefix: slice

    @property
    def place(self) -> slice:
        return slice(self.start, self.start + self.size)


@dataclass(frozen=True)
class Row:
    """A batch in one row, and where in it each item's tokens are."""

    ids: Tensor
    positions: Tensor
    segments: list[Segment]
    items: list[Segment]


def prompt_key(item: Encoded) -> bytes:
    """Items of one key share the tokens before their response."""
    return item.ids[: len(item) - item.n_response].tobytes()


def lay_out(batch: Sequence[Encoded]) -> Row:
    """Each prompt that several items share once, before its responses; the other items whole."""
    groups: dict[bytes, list[int]] = {}
    for number, item in enumerate(batch):
        groups.setdefault(prompt_key(item), []).append(number)
    parts: list[Tensor] = []
    positions: list[Tensor] = []
    segments: list[Segment] = []
    items: dict[int, Segment] = {}
    end = 0

    def add(ids: Any, first: int, prefix: slice) -> Segment:
        nonlocal end
        parts.append(torch.from_numpy(ids).long())
        positions.append(torch.arange(first, first + len(ids)))
        segments.append(Segment(end, len(ids), prefix))
        end += len(ids)
        return segments[-1]

    for key, numbers in groups.items():
        if len(numbers) == 1 or not key:
            for number in numbers:
                items[number] = add(batch[number].ids, 0, slice(0, 0))
            continue
        n_prompt = len(batch[numbers[0]]) - batch[numbers[0]].n_response
        prompt = add(batch[numbers[0]].ids[:n_prompt], 0, slice(0, 0))
        for number in numbers:
            items[number] = add(batch[number].ids[n_prompt:], n_prompt, prompt.place)
    return Row(torch.cat(parts), torch.cat(positions), segments, [items[number] for number in range(len(batch))])


class PackedCausal:
    """Pooled vectors or states of many sequences from one pass of a LlamaModel (or Qwen2Model, Qwen3Model)."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.layers = list(model.layers)[: int(model.config.num_hidden_layers)]

    def pooled(self, batch: Sequence[Encoded], how: Pooling, tick: Callable[[], None]) -> Tensor:
        """Vectors of shape (n, width)."""
        if how != "last":
            states = self.states(batch, tick)
            return torch.stack([_pool(own, item, how) for own, item in zip(states, batch, strict=True)])
        row = lay_out(batch)
        x, turns = self._embed(row)
        for layer in self.layers[:-1]:
            tick()
            x = self._layer(layer, x, turns, row.segments)
        tick()
        return self._normed(self._last_layer(self.layers[-1], x, turns, row.items))

    def states(self, batch: Sequence[Encoded], tick: Callable[[], None]) -> list[Tensor]:
        """Last hidden states of every token, one tensor (tokens, width) a sequence, its prompt's included."""
        row = lay_out(batch)
        x, turns = self._embed(row)
        for layer in self.layers:
            tick()
            x = self._layer(layer, x, turns, row.segments)
        x = self._normed(x)
        return [torch.cat([x[item.prefix], x[item.place]]) for item in row.items]

    def _embed(self, row: Row) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        x = self.model.embed_tokens(row.ids)
        cos, sin = self.model.rotary_emb(x[None], position_ids=row.positions[None])
        return x, (cos[0, :, None], sin[0, :, None])

    def _normed(self, x: Tensor) -> Tensor:
        normed: Tensor = self.model.norm(x)
        return normed

    def _layer(self, layer: Any, x: Tensor, turns: tuple[Tensor, Tensor], segments: Sequence[Segment]) -> Tensor:
        attention, normed = layer.self_attn, layer.input_layernorm(x)
        q = _turned(_heads(attention, normed, "q"), *turns)
        k, v = _turned(_heads(attention, normed, "k"), *turns), _heads(attention, normed, "v")
        mixed = torch.empty_like(q)
        for segment in segments:
            place, prefix = segment.place, segment.prefix
            mixed[place] = _attend(attention, q[place], _joined(k, prefix, place), _joined(v, prefix, place))
        return self._finish(layer, x, mixed)

    def _last_layer(self, layer: Any, x: Tensor, turns: tuple[Tensor, Tensor], items: Sequence[Segment]) -> Tensor:
        """The layer for the last token of every item only."""
        attention, normed = layer.self_attn, layer.input_layernorm(x)
        ends = torch.tensor([item.start + item.size - 1 for item in items])
        q = _turned(_heads(attention, normed[ends], "q"), turns[0][ends], turns[1][ends])
        k, v = _turned(_heads(attention, normed, "k"), *turns), _heads(attention, normed, "v")
        mixed = torch.empty_like(q)
        for number, item in enumerate(items):
            keys, values = _joined(k, item.prefix, item.place), _joined(v, item.prefix, item.place)
            mixed[number : number + 1] = _attend(attention, q[number : number + 1], keys, values)
        return self._finish(layer, x[ends], mixed)

    @staticmethod
    def _finish(layer: Any, x: Tensor, mixed: Tensor) -> Tensor:
        x = x + layer.self_attn.o_proj(mixed.flatten(1))
        found: Tensor = x + layer.mlp(layer.post_attention_layernorm(x))
        return found


def _heads(attention: Any, x: Tensor, name: str) -> Tensor:
    """Projections (tokens, heads, head width), normalised where the model does that (Qwen3)."""
    found: Tensor = getattr(attention, f"{name}_proj")(x).view(len(x), -1, attention.head_dim)
    norm = getattr(attention, f"{name}_norm", None)
    return found if norm is None else norm(found)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-right, left), dim=-1) * sin


def _joined(x: Tensor, prefix: slice, place: slice) -> Tensor:
    return x[place] if prefix.stop == prefix.start else torch.cat([x[prefix], x[place]])


def _attend(attention: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Each of the last len(q) tokens over itself and all before it; (tokens, heads, head width)."""
    n_shared = q.shape[1] // k.shape[1]
    q, k, v = (t.float().transpose(0, 1)[None] for t in (q, k, v))
    if n_shared > 1:
        k, v = k.repeat_interleave(n_shared, dim=1), v.repeat_interleave(n_shared, dim=1)
    mask = None
    if 1 < q.shape[2] < k.shape[2]:
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(k.shape[2] - q.shape[2])
    is_whole = q.shape[2] == k.shape[2]
    with torch.autocast("cpu", enabled=False):
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=is_whole, scale=attention.scaling)
    return found[0].transpose(0, 1)


def _pool(states: Tensor, item: Encoded, how: Pooling) -> Tensor:
    if how == "first":
        return states[0]
    kept = states[len(states) - item.n_response :] if how == "response_mean" else states
    return kept.float().mean(dim=0).to(states.dtype)
