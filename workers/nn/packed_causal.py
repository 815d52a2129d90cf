"""Llama and its kin without padding, and with every prompt of a batch computed once for all its responses.

Linear layers run over all tokens of a batch in one row: each prompt once, then its responses one by one. Attention goes
segment by segment: a prompt sees itself, a response sees its prompt and itself, so that every token has the position
and the past it has in a sequence of its own. The same numbers and gradients as the padded forward of transformers
(tested to 1e-5), for scoring and for training. For CPUs: on a GPU the loop over segments would leave the device idle.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from workers.data.render import Encoded
from workers.nn.dense import dense
from workers.nn.packed import drops, with_tick
from workers.nn.pooling import Pooling

Turns = tuple[Tensor, Tensor]
"""Cosine and sine of every token's rotation, (tokens, 1, head width)."""

PACKABLE_CAUSAL = frozenset({"llama", "qwen2", "qwen3", "mistral"})
FIXED_ROPE = frozenset({"default", "linear", "llama3", "yarn"})
"""Rotations that depend on the position alone, not on the longest sequence of a call."""


def is_packable_causal(model: Any) -> bool:
    """Is this a model of Llama's layers in which every token sees all before it, and nothing is dropped at random?"""
    config = model.config
    if config.model_type not in PACKABLE_CAUSAL or not getattr(config, "is_causal", True):
        return False
    if model.training and (getattr(config, "attention_dropout", 0) or drops(model)):
        return False
    if torch.is_grad_enabled() and getattr(model, "is_activation_checkpointing", False):
        return False
    if config.model_type == "mistral" and getattr(config, "sliding_window", None) is not None:
        return False
    if getattr(config, "hidden_act", "silu") not in ("silu", "swish"):
        return False
    windows = [getattr(layer.self_attn, "sliding_window", None) for layer in model.layers]
    return not any(windows) and getattr(model.rotary_emb, "rope_type", "default") in FIXED_ROPE


@dataclass(frozen=True)
class Segment:
    """Tokens that stand together in the row: a prompt, a response, or both; `prompt` is the number of its prompt's."""

    start: int
    size: int
    prompt: int | None = None

    @property
    def end(self) -> int:
        return self.start + self.size


@dataclass(frozen=True)
class Row:
    """A batch in one row, and where in it each item's tokens are."""

    ids: Tensor
    positions: Tensor
    segments: list[Segment]
    places: list[int]
    """Number of each item's segment."""

    @property
    def sizes(self) -> list[int]:
        return [segment.size for segment in self.segments]

    def whole(self, parts: Sequence[Tensor], number: int) -> Tensor:
        """Of tensors split by segment: that of segment `number` with its prompt's before it."""
        prompt = self.segments[number].prompt
        return parts[number] if prompt is None else torch.cat([parts[prompt], parts[number]])


def prompt_key(item: Encoded) -> bytes:
    """Items of one key share the tokens before their response."""
    return item.ids[: len(item) - item.n_response].tobytes()


def lay_out(batch: Sequence[Encoded]) -> Row:
    """Each prompt that several items share once, before its responses; the other items whole.

    So are those without a token of a response: a segment of nothing would have no last token.
    """
    groups: dict[bytes, list[int]] = {}
    for number, item in enumerate(batch):
        groups.setdefault(prompt_key(item) if item.n_response else b"", []).append(number)
    parts: list[Tensor] = []
    positions: list[Tensor] = []
    segments: list[Segment] = []
    places: dict[int, int] = {}
    end = 0

    def add(ids: Any, first: int, prompt: int | None = None) -> int:
        nonlocal end
        parts.append(torch.from_numpy(ids).long())
        positions.append(torch.arange(first, first + len(ids)))
        segments.append(Segment(end, len(ids), prompt))
        end += len(ids)
        return len(segments) - 1

    for key, numbers in groups.items():
        if len(numbers) == 1 or not key:
            for number in numbers:
                places[number] = add(batch[number].ids, 0)
            continue
        n_prompt = len(batch[numbers[0]]) - batch[numbers[0]].n_response
        prompt = add(batch[numbers[0]].ids[:n_prompt], 0)
        for number in numbers:
            places[number] = add(batch[number].ids[n_prompt:], n_prompt, prompt)
    return Row(torch.cat(parts), torch.cat(positions), segments, [places[number] for number in range(len(batch))])


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
            x = with_tick(self._layer(layer, x, turns, row), tick)
        tick()
        return self._normed(self._last_layer(self.layers[-1], x, turns, row))

    def states(self, batch: Sequence[Encoded], tick: Callable[[], None]) -> list[Tensor]:
        """Last hidden states of every token, one tensor (tokens, width) a sequence, its prompt's included."""
        row = lay_out(batch)
        x, turns = self._embed(row)
        for layer in self.layers:
            tick()
            x = with_tick(self._layer(layer, x, turns, row), tick)
        parts = torch.split(self._normed(x), row.sizes)
        return [row.whole(parts, place) for place in row.places]

    def _embed(self, row: Row) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        x = self.model.embed_tokens(row.ids)
        cos, sin = self.model.rotary_emb(x[None], position_ids=row.positions[None])
        return x, (cos[0, :, None], sin[0, :, None])

    def _normed(self, x: Tensor) -> Tensor:
        normed: Tensor = self.model.norm(x)
        return normed

    def _layer(self, layer: Any, x: Tensor, turns: Turns, row: Row) -> Tensor:
        q, k, v = (torch.split(part, row.sizes) for part in _projected(layer, x, turns))
        mixed = [
            _attend(layer.self_attn, own, row.whole(k, number), row.whole(v, number)) for number, own in enumerate(q)
        ]
        return self._finish(layer, x, torch.cat(mixed))

    def _last_layer(self, layer: Any, x: Tensor, turns: Turns, row: Row) -> Tensor:
        """The layer for the last token of every item only."""
        ends = torch.tensor([row.segments[place].end - 1 for place in row.places])
        q, *rest = _projected(layer, x, turns, asked=ends)
        k, v = (torch.split(part, row.sizes) for part in rest)
        mixed = [
            _attend(layer.self_attn, q[number : number + 1], row.whole(k, place), row.whole(v, place))
            for number, place in enumerate(row.places)
        ]
        return self._finish(layer, x[ends], torch.cat(mixed))

    @staticmethod
    def _finish(layer: Any, x: Tensor, mixed: Tensor) -> Tensor:
        x = dense([layer.self_attn.o_proj], mixed.flatten(1), added=x)
        normed, mlp = layer.post_attention_layernorm(x), layer.mlp
        hidden = dense([mlp.gate_proj], normed, activation="swish") * dense([mlp.up_proj], normed)
        return dense([mlp.down_proj], hidden, added=x)


def _projected(layer: Any, x: Tensor, turns: Turns, asked: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values (tokens, heads, head width), turned by their positions; queries of `asked` alone."""
    own, normed = layer.self_attn, layer.input_layernorm(x)
    cos, sin = turns
    widths = [own.q_proj.out_features, own.k_proj.out_features, own.v_proj.out_features]
    if asked is None:
        q, k, v = torch.split(dense([own.q_proj, own.k_proj, own.v_proj], normed), widths, dim=1)
        return _turned(_heads(own, q, "q"), cos, sin), _turned(_heads(own, k, "k"), cos, sin), _heads(own, v, "v")
    q = _heads(own, dense([own.q_proj], normed[asked]), "q")
    k, v = torch.split(dense([own.k_proj, own.v_proj], normed), widths[1:], dim=1)
    return _turned(q, cos[asked], sin[asked]), _turned(_heads(own, k, "k"), cos, sin), _heads(own, v, "v")


def _heads(attention: Any, x: Tensor, name: str) -> Tensor:
    """(tokens, heads, head width), normalised where the model does that (Qwen3)."""
    found = x.view(len(x), -1, attention.head_dim)
    norm = getattr(attention, f"{name}_norm", None)
    return found if norm is None else norm(found)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-right, left), dim=-1) * sin


def _attend(attention: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Each of the last len(q) tokens over itself and all before it; (tokens, heads, head width)."""
    n_shared = q.shape[1] // k.shape[1]
    given = q.dtype
    q, k, v = (t.to(torch.promote_types(t.dtype, torch.float32)).transpose(0, 1)[None] for t in (q, k, v))
    if n_shared > 1:
        k, v = k.repeat_interleave(n_shared, dim=1), v.repeat_interleave(n_shared, dim=1)
    mask = None
    if 1 < q.shape[2] < k.shape[2]:
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(k.shape[2] - q.shape[2])
    is_whole = q.shape[2] == k.shape[2]
    with torch.autocast("cpu", enabled=False):
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=is_whole, scale=attention.scaling)
    return found[0].transpose(0, 1).to(given)


def _pool(states: Tensor, item: Encoded, how: Pooling) -> Tensor:
    if how == "first":
        return states[0]
    kept = states[len(states) - item.n_response :] if how == "response_mean" else states
    return kept.float().mean(dim=0).to(states.dtype)
