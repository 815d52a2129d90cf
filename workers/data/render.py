"""From messages to token ids: the one function that training, scoring and serving share.

A reward model sees a different text in training and in use as soon as two places build it, so there is one place. A
conversation that is too long loses the oldest part of its prompt; a response is never cut unless it alone exceeds the
context. Nothing is dropped silently: every item says what it lost.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from workers.data.schema import Message
from workers.errors import JobError

Rendering = Literal["auto", "chat_template", "plain"]
CHARACTERS_PER_TOKEN = 200
"""Far more than any tokenizer puts into one token: a longer prompt is shortened before it is tokenised at all."""


class Tokenizer(Protocol):
    """What is used of a Hugging Face tokenizer."""

    chat_template: Any
    bos_token_id: int | None
    cls_token_id: int | None
    sep_token_id: int | None
    eos_token_id: int | None

    def __call__(self, text: list[str], **options: Any) -> Mapping[str, Any]: ...

    def apply_chat_template(self, conversation: list[Message], **options: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of one prompt with its response, and what had to go to make them fit."""

    ids: NDArray[np.int32]
    n_response: int
    """Tokens from the first of the response to the end, closing special tokens included."""
    n_prompt_dropped: int = 0
    n_response_dropped: int = 0
    marks: NDArray[np.int32] | None = None
    """Positions in `ids` to read at, such as the last token of every step; None for families that read none."""

    def __len__(self) -> int:
        return len(self.ids)


class Renderer:
    """Conversations as token ids of at most `max_length`, by the tokenizer's chat template or by plain role labels."""

    def __init__(self, tokenizer: Tokenizer, max_length: int, rendering: Rendering = "auto") -> None:
        if rendering == "chat_template" and not tokenizer.chat_template:
            raise JobError("This backbone's tokenizer has no chat template.", "Set rendering to auto or plain.")
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.uses_template = bool(tokenizer.chat_template) and rendering != "plain"
        self.start, self.between, self.end = ((), (), ()) if self.uses_template else _special_ids(tokenizer)

    @property
    def fingerprint(self) -> str:
        """Changes whenever the same messages would become other ids: template, special tokens, length or labels."""
        probe: list[Message] = [{"role": "user", "content": "Hi"}]
        told = [self.max_length, self.start, self.between, self.end, self.tokenizer.chat_template or ""]
        ids = self.encode([(probe, [{"role": "assistant", "content": "Hello, world"}])])[0].ids.tolist()
        return hashlib.sha256(json.dumps([told, ids]).encode()).hexdigest()[:16]

    def text(self, prompt: Sequence[Message], response: Sequence[Message]) -> tuple[str, str]:
        """The text before the response, and the response's own text."""
        return self._by_template(prompt, response) if self.uses_template else _by_labels(prompt, response)

    def encode(self, items: Sequence[tuple[Sequence[Message], Sequence[Message]]]) -> list[Encoded]:
        texts = [self.text(prompt, response) for prompt, response in items]
        prompts = list(dict.fromkeys(text for text, _ in texts))
        prompt_ids = dict(zip(prompts, self._ids([self._last_part(text) for text in prompts]), strict=True))
        response_ids = self._ids([text for _, text in texts])
        return [self._fit(prompt_ids[text], ids) for (text, _), ids in zip(texts, response_ids, strict=True)]

    def _fit(self, prompt: NDArray[np.int32], response: NDArray[np.int32]) -> Encoded:
        """Join the parts; where they do not fit, drop the prompt's oldest tokens (never its opening special token)."""
        fixed = len(self.start) + len(self.between) + len(self.end)
        kept_response = response[: self.max_length - fixed]
        room = self.max_length - fixed - len(kept_response)
        kept_prompt = self._newest(prompt, room)
        parts = (self.start, kept_prompt, self.between, kept_response, self.end)
        if not any(map(len, parts)):
            raise JobError(
                "The backbone's chat template writes nothing at all of a conversation, so there is nothing to read.",
                "Set rendering to plain, or choose a backbone with the chat template of its training.",
            )
        return Encoded(
            ids=np.concatenate([np.asarray(part, dtype=np.int32) for part in parts]),
            n_response=len(kept_response) + len(self.end),
            n_prompt_dropped=len(prompt) - len(kept_prompt),
            n_response_dropped=len(response) - len(kept_response),
        )

    def _newest(self, prompt: NDArray[np.int32], room: int) -> NDArray[np.int32]:
        if len(prompt) <= room:
            return prompt
        if room and prompt[0] == self.tokenizer.bos_token_id:
            return np.concatenate([prompt[:1], prompt[len(prompt) - room + 1 :]])
        return prompt[len(prompt) - room :]

    def _last_part(self, text: str) -> str:
        return text[-self.max_length * CHARACTERS_PER_TOKEN :]

    def _ids(self, texts: list[str]) -> list[NDArray[np.int32]]:
        if not texts:
            return []
        found = self.tokenizer(
            texts,
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            # In plain rendering every special token is ours: "[SEP]" in a text is seven characters like any other.
            split_special_tokens=not self.uses_template,
            verbose=False,
        )
        return [np.asarray(ids, dtype=np.int32) for ids in found["input_ids"]]

    def _by_template(self, prompt: Sequence[Message], response: Sequence[Message]) -> tuple[str, str]:
        try:
            whole: str = self.tokenizer.apply_chat_template([*prompt, *response], tokenize=False)
            before: str = (
                self.tokenizer.apply_chat_template(list(prompt), tokenize=False, add_generation_prompt=True)
                if prompt
                else ""
            )
        except Exception as error:
            roles = ", ".join(m["role"] for m in [*prompt, *response])
            raise JobError(
                f"The backbone's chat template refuses a conversation with the roles {roles}: {error}",
                "Set rendering to plain, or give the conversations the roles this template expects.",
            ) from error
        if not whole.startswith(before):  # some templates drop or rewrite earlier turns once there is an answer
            before = _common_start(before, whole)
        return before, whole[len(before) :]


def _by_labels(prompt: Sequence[Message], response: Sequence[Message]) -> tuple[str, str]:
    before = "".join(f"{m['role']}:\n{m['content']}\n\n" for m in prompt)
    role = response[0]["role"] if response else "assistant"
    first, rest = response[:1], response[1:]
    text = "".join(m["content"] for m in first) + "".join(f"\n\n{m['role']}:\n{m['content']}" for m in rest)
    return f"{before}{role}:\n", text


def _special_ids(tokenizer: Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Special ids before the prompt, between prompt and response, and at the end.

    What the tokenizer itself puts around a text, plus its separator between the parts where it has one, plus EOS at
    the end of a causal model's text, whose last token is pooled.
    """
    found = tokenizer(["a"], add_special_tokens=True, return_special_tokens_mask=True)
    ids, mask = list(found["input_ids"][0]), list(found["special_tokens_mask"][0])
    first, last = mask.index(0), len(mask) - mask[::-1].index(0)
    start, end = tuple(ids[:first]), tuple(ids[last:])
    between = (tokenizer.sep_token_id,) if end and tokenizer.sep_token_id in end else ()
    if not end and tokenizer.eos_token_id is not None:
        end = (tokenizer.eos_token_id,)
    return start, tuple(t for t in between if t is not None), end


def _common_start(left: str, right: str) -> str:
    n = next((i for i, (x, y) in enumerate(zip(left, right, strict=False)) if x != y), min(len(left), len(right)))
    return left[:n]
