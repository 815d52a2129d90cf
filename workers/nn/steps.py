"""Rewards a step: token positions where steps end, a head on the states there, and what is told of every step."""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from workers.data.render import Encoded, Renderer, Rendering
from workers.data.schema import Message, Scores
from workers.data.steps import Step, locate_steps, steps_of_item, steps_text
from workers.errors import JobError
from workers.families.base import Item, extra_of, no_report
from workers.nn.heads import DeepHead, Head, ScalarHead
from workers.nn.reward_net import RewardNet
from workers.nn.scoring import NetScorer

Aggregation = Literal["min", "mean", "last", "product", "sum"]
Turns = Sequence[Message]
SHOWN = 60


class StepRenderer(Renderer):
    """Conversations as token ids, with the position of the last token of every step as marks.

    step_mark: a text that is put after every step, whose last token is then read instead.
    """

    def __init__(self, tokenizer: Any, max_length: int, rendering: Rendering = "auto", *, step_mark: str = "") -> None:
        super().__init__(tokenizer, max_length, rendering)
        self.step_mark = step_mark
        if step_mark.strip() in getattr(tokenizer, "all_special_tokens", ()) and not self.uses_template:
            raise JobError(
                f"{step_mark!r} is a special token, which plain role labels spell out.",
                "Set rendering to chat_template, or give the model a chat template.",
            )

    @property
    def fingerprint(self) -> str:
        own = super().fingerprint
        return own if not self.step_mark else hashlib.sha256(f"{own} {self.step_mark}".encode()).hexdigest()[:16]

    def encode_steps(self, items: Sequence[tuple[Turns, Turns, Sequence[str]]]) -> list[Encoded]:
        """A step that lies wholly behind the cut of a response too long for the context has no mark.

        One that is cut in its middle is read at its last token that was kept.
        """
        self.insist_on_offsets()
        if self.step_mark:
            items = [(prompt, *marked(response, steps, self.step_mark)) for prompt, response, steps in items]
        encoded = self.encode([(prompt, response) for prompt, response, _ in items])
        texts = [self.text(prompt, response)[1] for prompt, response, _ in items]
        starts = self._token_starts(texts)
        return [
            self._marked(item, text, steps, begins)
            for item, text, (_, _, steps), begins in zip(encoded, texts, items, starts, strict=True)
        ]

    def insist_on_offsets(self) -> None:
        if not getattr(self.tokenizer, "is_fast", False):
            raise JobError(
                "This backbone's tokenizer does not tell where its tokens stand in the text.",
                "Choose a backbone with a fast tokenizer (tokenizer.json).",
            )

    def _token_starts(self, texts: list[str]) -> list[NDArray[np.int64]]:
        if not texts:
            return []
        found = self.tokenizer(
            texts,
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            return_offsets_mapping=True,
            split_special_tokens=not self.uses_template,
            verbose=False,
        )
        return [np.array([start for start, _ in offsets], dtype=np.int64) for offsets in found["offset_mapping"]]

    def _marked(self, item: Encoded, text: str, steps: Sequence[str], starts: NDArray[np.int64]) -> Encoded:
        places = self._marked_places(text, steps) if self.step_mark else locate_steps(text, steps)
        if places is None:
            raise JobError(
                f'The steps of the response that begins with "{text.strip()[:SHOWN]}" are not in its text.',
                "Import it again with steps that are the response's own text, or without steps.",
            )
        return self.read_at(item, places, starts)

    def read_at(self, item: Encoded, places: Sequence[Step], starts: NDArray[np.int64]) -> Encoded:
        """The item with the last token of every place as its mark; places count in the text that `starts` count in."""
        n_kept = item.n_response - len(self.end)
        first = np.searchsorted(starts, [step.start for step in places], side="left")
        last = np.searchsorted(starts, [step.end for step in places], side="left") - 1
        read = np.clip(last, 0, max(0, n_kept - 1))[first < n_kept]
        if not len(read):
            return replace(item, marks=np.array([len(item) - 1], dtype=np.int32))
        return replace(item, marks=(len(item) - item.n_response + read).astype(np.int32))

    def _marked_places(self, text: str, steps: Sequence[str]) -> list[Step]:
        """Where each step stands with its mark; templates may strip white space at the ends, but nothing between."""
        joined = "".join(steps)
        begin = text.find(joined)
        if begin < 0:
            raise JobError(
                f"The chat template changes the text of a response, and with it the mark {self.step_mark!r}.",
                "Give step_mark another form, or set rendering to plain.",
            )
        ends = np.cumsum([len(step) for step in steps]) + begin
        return [Step(step, int(end) - len(step), int(end)) for step, end in zip(steps, ends, strict=True)]


def marked(response: Turns, steps: Sequence[str], mark: str) -> tuple[list[Message], list[str]]:
    """The response as its steps, each with the mark after it, in one turn; and these steps.

    A step that already ends in the mark keeps it. White space at the end of a mark that has more parts the steps, and
    is no part of the mark that is read.
    """
    read = mark.rstrip() or mark
    gap = mark[len(read) :]
    whole = [step.strip().removesuffix(read.strip() or read).rstrip() + read for step in steps]
    turn: Message = {"role": response[0]["role"], "content": gap.join(whole)}
    return [turn], [whole[0], *(gap + step for step in whole[1:])]


def marks_of(item: Encoded) -> Tensor:
    if item.marks is None:
        raise ValueError("this sequence was encoded without marks")
    return torch.from_numpy(item.marks).long()


class StepNet(RewardNet):
    """One output a step: shape (n, most steps), nan where a response has fewer."""

    def forward(self, batch: Sequence[Encoded]) -> Tensor:
        states = self.states(batch)
        picked = [found[marks_of(item).to(found.device)] for found, item in zip(states, batch, strict=True)]
        logits = torch.split(self.outputs_of(torch.cat(picked)), [len(part) for part in picked])
        return nn.utils.rnn.pad_sequence(list(logits), batch_first=True, padding_value=float("nan"))


class StepRewards(Head):
    """A logit that a step is right; the reward puts the steps' probabilities together."""

    aggregation: Aggregation

    def reward(self, outputs: Tensor) -> Tensor:
        return aggregate(outputs.float().sigmoid(), self.aggregation)

    def parts(self, outputs: Tensor) -> list[dict[str, Any]]:
        rows = outputs.detach().double().sigmoid().cpu().tolist()
        return [{"steps": [{"probability": p} for p in row if not math.isnan(p)]} for row in rows]


class StepHead(StepRewards, ScalarHead):
    """One linear layer."""

    def __init__(self, width: int, aggregation: Aggregation = "min") -> None:
        super().__init__(width)
        self.aggregation = aggregation


class DeepStepHead(StepRewards, DeepHead):
    """Several linear layers with an activation between them."""

    def __init__(self, width: int, aggregation: Aggregation = "min", **shape: Any) -> None:
        super().__init__(width, **shape)
        self.aggregation = aggregation


def aggregate(probabilities: Tensor, how: Aggregation) -> Tensor:
    """One number a response from the probabilities of its steps.

    Parameters
    ----------
    probabilities : Tensor of shape (n, k)
        In [0, 1]; nan behind the last step of a response. Every response has a step.
    how
        min, mean, last or product in [0, 1]; sum in [0, steps], which grows with every step and is there to show why
        one should not use it.

    Returns
    -------
    Tensor of shape (n,)
    """
    is_step = ~probabilities.isnan()
    count = is_step.sum(dim=1)
    if how == "min":
        return torch.where(is_step, probabilities, torch.inf).amin(dim=1)
    if how == "last":
        return probabilities.gather(1, (count - 1)[:, None]).squeeze(1)
    if how == "product":
        return torch.where(is_step, probabilities, 1.0).prod(dim=1)
    total = torch.where(is_step, probabilities, 0.0).sum(dim=1)
    return total if how == "sum" else total / count


class StepScorer(NetScorer):
    """Adds to the probability of every step its text and its place in the response."""

    tag = ""

    def score(self, items: Sequence[Item], *, on_batch: Callable[[int], None] = no_report) -> Scores:
        found = super().score(items, on_batch=on_batch)
        parts = [self._told(item, part) for item, part in zip(items, found.parts or (), strict=True)]
        return replace(found, parts=parts)

    def _told(self, item: Item, part: Any) -> dict[str, Any]:
        """Steps that were cut off have no probability and are not told."""
        places = locate_steps(steps_text(item[1]), steps_of_item(item[1], extra_of(item).get("steps"), self.tag))
        told = [
            {"text": place.text, "start": place.start, "end": place.end, **step}
            for place, step in zip(places or (), part["steps"], strict=False)
        ]
        return {"steps": told}
