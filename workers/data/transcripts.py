"""Transcripts with Human/Assistant turns, and splitting conversations at the end of what they share."""

from __future__ import annotations

import re
from collections.abc import Sequence

from workers.data.examples import RowProblem
from workers.data.schema import Message

TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")
SPEAKERS = {"Human": "user", "Assistant": "assistant"}


def is_transcript(text: object) -> bool:
    """True when a text starts with a Human turn and holds at least one Assistant marker."""
    return isinstance(text, str) and text.lstrip().startswith("Human:") and "\n\nAssistant:" in text


def transcript_messages(text: str) -> list[Message]:
    """The turns of a transcript.

    The space after a marker separates and is not part of the turn, unless it is all there is: a turn of one space
    stays one space.
    """
    parts = TURN.split(text.lstrip())
    messages: list[Message] = []
    for speaker, body in zip(parts[1::2], parts[2::2], strict=True):
        content = body[1:] if len(body) > 1 and body[0] == " " else body
        messages.append({"role": SPEAKERS[speaker], "content": content})
    return messages


def transcript_text(messages: Sequence[Message]) -> str:
    """Turns as one transcript: the inverse of transcript_messages for user and assistant turns."""
    names = {"user": "Human", "assistant": "Assistant"}
    return "".join(f"\n\n{names.get(turn['role'], turn['role'].title())}: {turn['content']}" for turn in messages)


def split_shared(conversations: Sequence[list[Message]]) -> tuple[list[Message], list[list[Message]]]:
    """(shared prompt, what follows it in each conversation).

    The prompt ends where the conversations part, moved back so that every response starts with an assistant turn.
    """
    length = min(len(turns) for turns in conversations)
    first = conversations[0]
    place = next(
        (index for index in range(length) if any(turns[index] != first[index] for turns in conversations)), length
    )
    while place > 0 and not all(len(turns) > place and turns[place]["role"] == "assistant" for turns in conversations):
        place -= 1
    if place == 0:
        raise RowProblem(
            "no_shared_prompt", "the conversations do not start with the same prompt, so they cannot be compared"
        )
    return first[:place], [turns[place:] for turns in conversations]
