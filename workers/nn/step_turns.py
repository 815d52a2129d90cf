"""Steps as turns of a conversation, as process reward models read them that answer each step by a word of their own."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workers.data.render import Encoded, Rendering
from workers.data.schema import Message
from workers.data.steps import Step
from workers.errors import JobError
from workers.nn.steps import StepRenderer, Turns

FORM = "Leave step_answer empty, or give the chat template that the model was trained with."


@dataclass(frozen=True)
class Turned:
    """The text before the first step, the rest, and where in the rest the answer to each step begins."""

    before: str
    text: str
    answers: list[int]


class TurnRenderer(StepRenderer):
    """Every step is a turn of the user, the first after the question and a space, and `answer` is what follows it.

    A step is read at the token before its answer, whose logits are what the model thinks of it. So are RLHFlow's
    process reward models asked (Xiong et al. 2024, RLHFlow/RLHF-Reward-Modeling, math-rm), with + as the answer.
    """

    def __init__(self, tokenizer: Any, max_length: int, rendering: Rendering = "auto", *, answer: str) -> None:
        super().__init__(tokenizer, max_length, rendering)
        if not self.uses_template:
            raise JobError("Steps as turns need a chat template, and there is none, or rendering is plain.", FORM)
        self.answer = answer

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"{super().fingerprint} turns {self.answer}".encode()).hexdigest()[:16]

    def encode_steps(self, items: Sequence[tuple[Turns, Turns, Sequence[str]]]) -> list[Encoded]:
        """A step whose answer lies behind the cut of a text too long for the context has no mark."""
        self.insist_on_offsets()
        turned = [self.turned(prompt, steps) for prompt, _, steps in items]
        prompts = self._ids([self._last_part(one.before) for one in turned])
        rests = self._ids([one.text for one in turned])
        encoded = [self._fit(before, rest) for before, rest in zip(prompts, rests, strict=True)]
        starts = self._token_starts([one.text for one in turned])
        if not all(np.isin(one.answers, begins).all() for one, begins in zip(turned, starts, strict=True)):
            raise JobError(f"The tokenizer joins the answer {self.answer!r} with the text before it.", FORM)
        return [
            self.read_at(item, [Step("", place, place) for place in one.answers], begins)
            for item, one, begins in zip(encoded, turned, starts, strict=True)
        ]

    def turned(self, prompt: Turns, steps: Sequence[str]) -> Turned:
        """The conversation of one item. JobError where the template does not keep answers apart."""
        first, *others = [step.strip() for step in steps]
        is_asked = bool(prompt) and prompt[-1]["role"] == "user"
        turns: list[Message] = list(prompt[:-1] if is_asked else prompt)
        asked = f"{prompt[-1]['content']} {first}" if is_asked else first
        waiting = []
        for content in (asked, *others):
            turns.append({"role": "user", "content": content})
            waiting.append(self._rendered(turns, is_waiting=True))
            turns.append({"role": "assistant", "content": self.answer})
        whole = self._rendered(turns, is_waiting=False)
        if not all(whole.startswith(text + self.answer) for text in waiting) or asked.strip() not in waiting[0]:
            raise JobError("The chat template does not put the answer to a step right behind its header.", FORM)
        begin = waiting[0].rindex(asked.strip()) + len(asked.strip()) - len(first)
        # The space goes with the step: tokenizers make it part of the word behind it.
        begin -= int(is_asked and whole[begin - 1] == " ")
        return Turned(whole[:begin], whole[begin:], [len(text) - begin for text in waiting])

    def _rendered(self, turns: Turns, *, is_waiting: bool) -> str:
        try:
            text: str = self.tokenizer.apply_chat_template(
                list(turns), tokenize=False, add_generation_prompt=is_waiting
            )
        except Exception as error:  # whatever Jinja, or a function that the template calls, may raise
            raise JobError(f"The chat template refuses steps as turns: {error}", FORM) from error
        return text
