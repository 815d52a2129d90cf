"""BERT without padding: linear layers over all tokens of a batch in one row, attention sequence by sequence.

The same weights and the same numbers as the padded forward of transformers (tested to 1e-5), with no work spent on
padding; where one vector a sequence is wanted, the last layer is computed for that token alone. It has gradients, so
training takes this path too. For CPUs: on a GPU the loop over sequences would leave the device idle.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from workers.data.render import Encoded
from workers.nn.dense import Activation, dense
from workers.nn.pooling import Pooling

PACKABLE = frozenset({"bert", "roberta", "xlm-roberta", "camembert"})


def is_packable(model: Any) -> bool:
    """Is this a model of BERT's layers, in evaluation mode or without dropout?"""
    config = model.config
    return (
        not (model.training and drops(model))
        and not (model.training and getattr(model, "is_activation_checkpointing", False))
        and not config.is_decoder
        and config.hidden_act in ("gelu", "relu")
        and getattr(config, "position_embedding_type", "absolute") == "absolute"
    )


def drops(model: Any) -> bool:
    """Is there dropout that would act, in an adapter for instance?"""
    return any(isinstance(module, torch.nn.Dropout) and module.p for module in model.modules())


class PackedBert:
    """Pooled vectors of many sequences from one pass of a BertModel (or RobertaModel) over their joined tokens."""

    def __init__(self, model: Any) -> None:
        self.embeddings = model.embeddings
        self.layers = list(model.encoder.layer)
        self.n_heads = int(model.config.num_attention_heads)
        is_bert = model.config.model_type == "bert"
        self.first_position = 0 if is_bert else int(model.config.pad_token_id) + 1
        self.activation: Activation = "gelu" if model.config.hidden_act == "gelu" else "relu"

    def pooled(self, batch: Sequence[Encoded], how: Pooling, tick: Callable[[], None]) -> Tensor:
        """Vectors of shape (n, width). `tick` is called before every layer, forward and backward."""
        sizes = [len(item) for item in batch]
        x = self._embed(batch, sizes)
        for layer in self.layers[:-1]:
            tick()
            x = with_tick(self._layer(layer, x, sizes), tick)
        tick()
        if how in ("first", "last"):
            ends = torch.tensor(sizes).cumsum(0)
            index = ends - 1 if how == "last" else ends - torch.tensor(sizes)
            return self._last_layer(self.layers[-1], x, x[index], [1] * len(sizes), sizes)
        if how == "response_mean":
            kept = [item.n_response for item in batch]
            tails = [part[len(part) - n :] for part, n in zip(torch.split(x, sizes), kept, strict=True)]
            x = self._last_layer(self.layers[-1], x, torch.cat(tails), kept, sizes)
            return _means(x, kept)
        return _means(self._layer(self.layers[-1], x, sizes), sizes)

    def states(self, batch: Sequence[Encoded], tick: Callable[[], None]) -> Sequence[Tensor]:
        """Last hidden states of every token, one tensor (tokens, width) a sequence."""
        sizes = [len(item) for item in batch]
        x = self._embed(batch, sizes)
        for layer in self.layers:
            tick()
            x = with_tick(self._layer(layer, x, sizes), tick)
        return torch.split(x, sizes)

    def _embed(self, batch: Sequence[Encoded], sizes: Sequence[int]) -> Tensor:
        e = self.embeddings
        ids = torch.cat([torch.from_numpy(item.ids).long() for item in batch])
        position = torch.cat([torch.arange(n) for n in sizes]) + self.first_position
        x = F.embedding(ids, e.word_embeddings.weight) + F.embedding(position, e.position_embeddings.weight)
        normed: Tensor = e.LayerNorm(x + e.token_type_embeddings.weight[0])
        return normed

    def _layer(self, layer: Any, x: Tensor, sizes: list[int]) -> Tensor:
        own = layer.attention.self
        # split, not slices: the backward of n slices would fill n zero tensors of full size
        parts = torch.split(dense([own.query, own.key, own.value], x), sizes)
        mixed = torch.cat([self._attend(*part.chunk(3, dim=1)) for part in parts])
        return self._finish(layer, x, mixed)

    def _last_layer(self, layer: Any, x: Tensor, asked: Tensor, n_asked: list[int], sizes: list[int]) -> Tensor:
        """The layer for the rows `asked` only, n_asked of them from each sequence."""
        own = layer.attention.self
        keys = torch.split(dense([own.key, own.value], x), sizes)
        queries = torch.split(dense([own.query], asked), n_asked)
        mixed = torch.cat([self._attend(q, *part.chunk(2, dim=1)) for q, part in zip(queries, keys, strict=True)])
        return self._finish(layer, asked, mixed)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        # In float32 under autocast too: for bf16 torch keeps a kernel for every length it has met, 100 MiB a step.
        with torch.autocast("cpu", enabled=False):
            q, k, v = (t.float().view(1, len(t), self.n_heads, -1).transpose(1, 2) for t in (q, k, v))
            return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(q.shape[2], -1)

    def _finish(self, layer: Any, x: Tensor, mixed: Tensor) -> Tensor:
        out = layer.attention.output
        x = out.LayerNorm(dense([out.dense], mixed, added=x))
        hidden = dense([layer.intermediate.dense], x, activation=self.activation)
        normed: Tensor = layer.output.LayerNorm(dense([layer.output.dense], hidden, added=x))
        return normed


def _means(x: Tensor, sizes: list[int]) -> Tensor:
    return torch.stack([part.float().mean(dim=0) for part in torch.split(x, sizes)])


def with_tick(x: Tensor, tick: Callable[[], None]) -> Tensor:
    """Call `tick` when the gradient arrives here, so that a long backward can be left too."""
    if x.requires_grad:
        x.register_hook(lambda _: tick())  # type: ignore[no-untyped-call]
    return x
