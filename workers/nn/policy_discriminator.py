"""A backbone that reads a reference and a response side by side: its tokens, its renderer, its head and its scorer."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import AddedToken
from torch import Tensor

from workers.data.comparison_text import comparison_parts, comparison_text
from workers.data.render import CHARACTERS_PER_TOKEN, Encoded, Renderer, Tokenizer
from workers.data.schema import Message, Scores
from workers.errors import JobError
from workers.families.base import Item, extra_of, no_report
from workers.nn.backbone import Backbone
from workers.nn.heads import ScalarHead
from workers.nn.scoring import NetScorer

RESERVED = 4
"""Tokens kept free for the special ones."""
NO_REFERENCE = "no reference"


class ReferenceHead(ScalarHead):
    """A reward that says how close a response is to its reference; told besides is what it may be compared with."""

    def parts(self, outputs: Tensor) -> list[dict[str, Any]]:
        return [{"comparable_within": "one prompt and one reference"} for _ in range(len(outputs))]


def add_tokens(backbone: Backbone, names: Sequence[str]) -> Backbone:
    """The same backbone with these special tokens, its embeddings resized where there is no room for them.

    New rows are the mean embedding plus a little noise, always the same. JobError where a name has a use already.
    """
    tokenizer, model = backbone.tokenizer, backbone.model
    taken = {tokenizer.eos_token, tokenizer.bos_token, tokenizer.pad_token, tokenizer.unk_token}
    if (amiss := sorted(taken & set(names))) or len(set(names)) < len(names):
        raise JobError(
            f"{amiss[0] if amiss else names[0]} cannot mark the reward: it has another use.",
            "Name two different tokens of their own, such as <|reward|> and <|score|>.",
        )
    new = [name for name in names if name not in tokenizer.get_vocab()]
    tokenizer.add_tokens([AddedToken(name, special=True, normalized=False) for name in new], special_tokens=True)
    embedding = model.get_input_embeddings().weight
    mean, spread = embedding.detach().mean(dim=0), embedding.detach().std(dim=0)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        if len(tokenizer) > len(embedding):
            model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        rows = model.get_input_embeddings().weight
        for number in tokenizer.convert_tokens_to_ids(new):
            rows[number] = mean + spread * torch.randn(len(mean))
    return backbone


class ComparisonRenderer(Renderer):
    """Prompt and reference, separator, prompt and response, reward token: at most `max_length` tokens.

    Reference and response lose their end beyond `most` tokens each; the prompt, which stands there twice, keeps its
    last tokens. What stands before the response counts as prompt in what an item says it lost.
    """

    def __init__(
        self, tokenizer: Tokenizer, max_length: int, *, separator: str, reward_token: str, most: int | None, joint: str
    ) -> None:
        super().__init__(tokenizer, max_length, "plain")
        self.separator, self.reward_token, self.is_continued = separator, reward_token, joint == "none"
        self.separator_id, self.reward_id = (_id_of(tokenizer, name) for name in (separator, reward_token))
        self.room = max_length - max(RESERVED, len(self.start) + 2)
        self.most = min(most or max_length // 4, self.room // 2)

    @property
    def fingerprint(self) -> str:
        """As the plain renderer's, of the compared texts."""
        probe: list[Message] = [{"role": "user", "content": "Hi"}]
        [item] = self.compare([(probe, probe, {"reference": probe})])
        told = f"{self.max_length} {self.most} {self.is_continued} {item.ids.tolist()}"
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    def whole_text(self, item: Item) -> str:
        """The text of an item as it is read, before anything is cut."""
        return comparison_text(
            item[0],
            extra_of(item)["reference"],
            item[1],
            separator=self.separator,
            reward_token=self.reward_token,
            is_continued=self.is_continued,
        )

    def compare(self, items: Sequence[Item]) -> list[Encoded]:
        """Token ids; ValueError where an item has no reference."""
        texts = [self._parts(item) for item in items]
        end = self.max_length * CHARACTERS_PER_TOKEN
        prompts = self._once([before[-end:] for before, _, _ in texts])
        references = self._once([first[:end] for _, first, _ in texts])
        responses = self._ids([second[:end] for _, _, second in texts])
        return [self._joined(*parts) for parts in zip(prompts, references, responses, strict=True)]

    def _parts(self, item: Item) -> tuple[str, str, str]:
        reference = extra_of(item).get("reference")
        if not reference:
            raise ValueError("an item without a reference cannot be compared with one")
        return comparison_parts(item[0], reference, item[1], is_continued=self.is_continued)

    def _once(self, texts: list[str]) -> list[NDArray[np.int32]]:
        """Both responses of a pair have one prompt and one reference: tokenise each text once."""
        distinct = list(dict.fromkeys(texts))
        ids = dict(zip(distinct, self._ids(distinct), strict=True))
        return [ids[text] for text in texts]

    def _joined(self, prompt: NDArray[np.int32], reference: NDArray[np.int32], response: NDArray[np.int32]) -> Encoded:
        first, second = reference[: self.most], response[: self.most]
        kept = prompt[len(prompt) - min(len(prompt), (self.room - len(first) - len(second)) // 2) :]
        parts = (self.start, kept, first, [self.separator_id], kept, second, [self.reward_id])
        return Encoded(
            ids=np.concatenate([np.asarray(part, dtype=np.int32) for part in parts]),
            n_response=len(second) + 1,
            n_prompt_dropped=len(prompt) - len(kept) + len(reference) - len(first),
            n_response_dropped=len(response) - len(second),
        )


def _id_of(tokenizer: Any, name: str) -> int:
    found = tokenizer.get_vocab().get(name)
    if found is None:
        raise JobError(
            f"This backbone has no token {name}.",
            "Start from a checkpoint of the family policy_discriminator with the same tokens, or from a backbone.",
        )
    return int(found)


class ReferencedScorer(NetScorer):
    """Rewards as NetScorer gives them; nan and {"unscored": reason} in the parts of items without a reference."""

    def score(self, items: Sequence[Item], *, on_batch: Callable[[int], None] = no_report) -> Scores:
        readable = [i for i, item in enumerate(items) if extra_of(item).get("reference")]
        found = super().score([items[i] for i in readable], on_batch=on_batch)
        values, n_tokens = np.full(len(items), np.nan), np.zeros(len(items), dtype=np.int64)
        values[readable], n_tokens[readable] = found.values, found.n_tokens
        parts: list[Any] = [{"unscored": NO_REFERENCE} for _ in items]
        for i, told in zip(readable, found.parts or (), strict=True):
            parts[i] = told
        return replace(found, values=values, n_tokens=n_tokens, parts=parts)
