"""Several linear heads and a router on the prompt, for people who do not want the same."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from workers.data.schema import Message
from workers.errors import JobError
from workers.families import FAMILIES
from workers.families.base import BackboneConfig, Item, NetFamily, extra_of
from workers.families.latent_user import LatentUserFamily, Text, context_pairs, read_with_contexts

if TYPE_CHECKING:
    from workers.data.render import Encoded, Renderer
    from workers.nn.backbone import Backbone
    from workers.nn.mixture import MixtureHead, MixtureNet
    from workers.nn.net import Dtype
    from workers.nn.pooling import Pooling


@FAMILIES.add("mixture")
class MixtureFamily(NetFamily):
    """Linear heads on a frozen backbone, weighed by a router that reads the prompt: several tastes in one model.

    An item may bring its context, a criterion in words; the reward is personalised where training has seen that
    context, and says "not personalised" where it has not. Or it brings labelled pairs of whoever asks, as a latent
    user does, and the heads are weighed by how well each explains them, without training.
    """

    title: ClassVar[str] = "Mixture of heads"
    capabilities: ClassVar[frozenset[str]] = frozenset(
        {"pointwise", "trainable", "tokens", "heads", "router", "features", "personal", "person_pairs"}
    )
    default_objective: ClassVar[str] = "mixture_nll"
    frozen: ClassVar[bool] = True

    class Config(BackboneConfig):
        """What the reward model is made of."""

        n_heads: int = Field(default=5, ge=2, le=64, description="Reward heads; more than there are tastes do no harm.")
        router_width: int = Field(default=128, ge=1, le=65536, description="Width of the router's hidden layer.")
        max_contexts: int = Field(default=256, ge=1, le=65536, description="Contexts that can be known at once.")

    @classmethod
    def head(cls, config: Config, width: int) -> "MixtureHead":
        from workers.nn.mixture import MixtureHead

        return MixtureHead(
            width, n_heads=config.n_heads, router_width=config.router_width, max_contexts=config.max_contexts
        )

    @classmethod
    def net(cls, config: Any, backbone: "Backbone", *, dtype: "Dtype" = "float32") -> "MixtureNet":
        from workers.nn.mixture import MixtureNet

        usual: Pooling = "last" if backbone.is_causal else "mean"
        pooling = usual if config.pooling == "auto" else config.pooling
        head = cls.head(config, backbone.width)
        return MixtureNet(backbone, pooling, head=head, dropout=config.dropout, dtype=dtype)

    @classmethod
    def encode(cls, config: Any, renderer: "Renderer", items: Sequence[Item]) -> "Sequence[Encoded]":
        """The item; before it, where it has a context, that context alone and context with prompt, or its pairs."""
        from workers.nn.joined import join_texts

        own = _with_pairs(items, renderer)
        contexts = [_context(number, item) for number, item in enumerate(items)]
        texts = list(dict.fromkeys(text for text in contexts if text))
        read = renderer.encode([([], [_said(text)]) for text in texts])
        known = {text: _shortened(found, renderer.max_length // 2) for text, found in zip(texts, read, strict=True)}
        return [
            join_texts(item, [known[text], _before_prompt(known[text], item, renderer)]) if text else item
            for item, text in zip(own, contexts, strict=True)
        ]

    @classmethod
    def unfit(cls, config: Any, item: Item) -> str | None:
        context = extra_of(item).get("context")
        if context is None or isinstance(context, str):
            return None
        return LatentUserFamily.unfit(config, item) if isinstance(context, list) else "context not text"


def _with_pairs(items: Sequence[Item], renderer: "Renderer") -> "list[Encoded]":
    """Each item alone or, where its context is a list, with both texts of every labelled pair in it."""
    from workers.nn.mixture import join_pairs

    read = read_with_contexts(renderer, items, _own_pairs)
    return [join_pairs(alone, others) if others else alone for alone, others in read]


def _own_pairs(item: Item, number: int) -> list[tuple[Text, Text]]:
    return context_pairs(item, number) if isinstance(extra_of(item).get("context"), list) else []


def _context(number: int, item: Item) -> str:
    context = extra_of(item).get("context")
    if context is None or isinstance(context, list):
        return ""
    if not isinstance(context, str):
        raise JobError(
            f"The context of item {number + 1} is not a text but {type(context).__name__}.",
            'Give a criterion in words, {"context": "prefers short answers"}, a list of labelled pairs, or none.',
        )
    return context.strip()


def _said(text: str) -> Message:
    return {"role": "user", "content": text}


def _shortened(context: "Encoded", most: int) -> "Encoded":
    """A context of more tokens than this loses its end, so that some of the prompt is read too."""
    return replace(context, ids=context.ids[:most], n_response=min(context.n_response, most))


def _before_prompt(context: "Encoded", item: "Encoded", renderer: "Renderer") -> "Encoded":
    """Context, then the newest part of the prompt that fits; the opening special token stands once."""
    from workers.data.render import Encoded

    prompt = item.ids[len(renderer.start) : len(item) - item.n_response]
    room = renderer.max_length - len(context)
    return Encoded(ids=np.concatenate([context.ids, prompt[max(0, len(prompt) - room) :]]), n_response=1)
