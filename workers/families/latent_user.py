"""A reward for one person, known from a few of that person's choices."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from workers.data.schema import Message
from workers.errors import JobError
from workers.families import FAMILIES
from workers.families.base import BackboneConfig, Item, NetFamily, extra_of
from workers.person import MOST_PAIRS

if TYPE_CHECKING:
    from workers.data.render import Encoded, Renderer
    from workers.nn.backbone import Backbone
    from workers.nn.latent_user import LatentUserHead, LatentUserNet
    from workers.nn.net import Dtype
    from workers.nn.pooling import Pooling

HINT = 'Give {"context": [{"prompt": [messages], "chosen": [messages], "rejected": [messages]}, ...]}, or no context.'


@FAMILIES.add("latent_user")
class LatentUserFamily(NetFamily):
    """An encoder reads a person's labelled pairs into a latent z; the reward r(item, z) depends on it.

    Trained on pairs whose raters are known. An item may bring its context, labelled pairs of whoever asks:
    {"context": [{"prompt": messages, "chosen": messages, "rejected": messages}, ...]}. Without one the reward is that
    of the mean user, and is labelled so. Keep the pairs to be scored out of the context.
    """

    title: ClassVar[str] = "Latent user"
    capabilities: ClassVar[frozenset[str]] = frozenset(
        {"pointwise", "trainable", "tokens", "features", "personal", "latent_user", "person_pairs"}
    )
    default_objective: ClassVar[str] = "latent_user_elbo"
    frozen: ClassVar[bool] = True

    class Config(BackboneConfig):
        """What the reward model is made of."""

        latent: int = Field(default=32, ge=1, le=4096, description="Dimensions of the latent user.")
        hidden: int = Field(default=256, ge=1, le=65536, description="Width of encoder and decoder.")
        n_references: int = Field(
            default=256, ge=2, le=65536, description="Training responses that the comparable scale is made of."
        )
        scale: Literal["raw", "comparable"] = Field(
            default="raw",
            description="Reward to store: r(s, z), whose scale is each user's own, or the chance in [0, 1] that the "
            "response beats a training response for this user, which can be compared between users.",
        )

    @classmethod
    def head(cls, config: Config, width: int) -> "LatentUserHead":
        from workers.nn.latent_user import LatentUserHead

        return LatentUserHead(
            width,
            latent=config.latent,
            hidden=config.hidden,
            n_references=config.n_references,
            scale=config.scale,
        )

    @classmethod
    def net(cls, config: Any, backbone: "Backbone", *, dtype: "Dtype" = "float32") -> "LatentUserNet":
        from workers.nn.latent_user import LatentUserNet

        usual: Pooling = "last" if backbone.is_causal else "mean"
        pooling = usual if config.pooling == "auto" else config.pooling
        head = cls.head(config, backbone.width)
        return LatentUserNet(backbone, pooling, head=head, dropout=config.dropout, dtype=dtype)

    @classmethod
    def encode(cls, config: Any, renderer: "Renderer", items: Sequence[Item]) -> "Sequence[Encoded]":
        """The item; before it the chosen and the rejected text of every pair of its context."""
        from workers.nn.joined import join_texts

        return [join_texts(own, others) for own, others in read_with_contexts(renderer, items)]

    @classmethod
    def unfit(cls, config: Any, item: Item) -> str | None:
        try:
            context_pairs(item, 1)
        except JobError:
            return "context malformed"
        return None


Text = tuple[list[Message], list[Message]]


def read_with_contexts(
    renderer: "Renderer",
    items: Sequence[Item],
    pairs_of: Callable[[Item, int], list[tuple[Text, Text]]] | None = None,
) -> "list[tuple[Encoded, list[Encoded]]]":
    """Each item's own text, and the chosen and the rejected text of every pair of its context.

    A context that many items share is read once. pairs_of(item, number): its pairs; context_pairs by default.
    """
    shared = {id(extra_of(item).get("context")): number for number, item in reversed(list(enumerate(items)))}
    contexts = {number: (pairs_of or context_pairs)(items[number], number + 1) for number in shared.values()}
    texts = [text for pairs in contexts.values() for pair in pairs for text in pair]
    read = iter(renderer.encode([*((item[0], item[1]) for item in items), *texts]))
    own = [next(read) for _ in items]
    others = {number: [next(read) for _ in pairs * 2] for number, pairs in contexts.items()}
    return [(alone, others[shared[id(extra_of(item).get("context"))]]) for alone, item in zip(own, items, strict=True)]


def context_pairs(item: Item, number: int) -> list[tuple[Text, Text]]:
    """Chosen and rejected text of each pair of an item's context. JobError says which pair is wrong, and how."""
    found = extra_of(item).get("context") or []
    if not isinstance(found, list):
        raise JobError(f"The context of item {number} is {type(found).__name__}, not a list of pairs.", HINT)
    if len(found) > MOST_PAIRS:
        raise JobError(
            f"The context of item {number} has {len(found)} pairs.", f"Give at most {MOST_PAIRS}; eight are usual."
        )
    return [_pair(pair, f"Pair {i} of the context of item {number}") for i, pair in enumerate(found, start=1)]


def _pair(pair: Any, where: str) -> tuple[Text, Text]:
    if not isinstance(pair, Mapping):
        raise JobError(f"{where} is {type(pair).__name__}, not an object.", HINT)
    for name in ("prompt", "chosen", "rejected"):
        if not _are_messages(pair.get(name)) or (name != "prompt" and not pair[name]):
            raise JobError(f"{where} has no messages under {name!r}.", HINT)
    if pair["chosen"] == pair["rejected"]:
        raise JobError(f"{where} has the same response twice, which says nothing of anybody.", "Leave it out.")
    return (pair["prompt"], pair["chosen"]), (pair["prompt"], pair["rejected"])


def _are_messages(found: Any) -> bool:
    return isinstance(found, list) and all(
        isinstance(m, Mapping) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str) for m in found
    )
