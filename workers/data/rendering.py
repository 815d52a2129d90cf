"""Messages as the text columns of standard (not conversational) trainer formats."""

from __future__ import annotations

from collections.abc import Sequence

from workers.data.schema import Message
from workers.data.transcripts import transcript_text


def prompt_text(prompt: Sequence[Message]) -> str:
    """A single user turn as it is; anything longer as a transcript that waits for the assistant."""
    if len(prompt) == 1 and prompt[0]["role"] == "user":
        return prompt[0]["content"]
    return transcript_text(prompt) + "\n\nAssistant: "


def response_text(response: Sequence[Message]) -> str:
    """A single assistant turn as it is; later turns follow as a transcript."""
    return response[0]["content"] + transcript_text(response[1:])


def turns(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Messages with role before content, whatever order they came in."""
    return [{"role": message["role"], "content": message["content"]} for message in messages]
