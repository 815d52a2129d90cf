"""Conversations as people type them: plain text, turns that begin with who speaks, or JSON; and steps of a response."""

import json
import re
from typing import Any

from workers.data.schema import Message
from workers.data.steps import split_steps

TURN = re.compile(r"^(system|user|human|assistant):[ \t]*\n?", re.IGNORECASE | re.MULTILINE)
ROLES = {"human": "user"}
STEPS = {
    "model": "as each reward model's settings say",
    "lines": "every line is a step",
    "paragraphs": "every paragraph is a step",
}


def read_messages(text: str, *, role: str) -> list[Message]:
    """Messages of a typed text; one message of `role` where nothing says otherwise. ValueError says what is wrong.

    A text that begins with "user:", "assistant:" or "system:" is read as turns, one that is a JSON list as messages.
    """
    text = text.replace("\r\n", "\n").strip()
    if text.startswith("[") and (found := json_messages(text)) is not None:
        return found
    if not TURN.match(text):
        return [{"role": role, "content": text}]
    parts = TURN.split(text)[1:]
    turns = zip(parts[::2], parts[1::2], strict=True)
    return [{"role": ROLES.get(who.lower(), who.lower()), "content": said.strip()} for who, said in turns]


def json_messages(text: str) -> list[Message] | None:
    """A JSON list of messages; None for a text that only begins like one."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list) or not found or not all(isinstance(message, dict) for message in found):
        return None
    for number, message in enumerate(found, start=1):
        if set(message) != {"role", "content"} or not all(isinstance(value, str) for value in message.values()):
            raise ValueError(f'Message {number} is not {{"role": text, "content": text}}.')
    return found


def write_messages(messages: list[Any], *, role: str) -> str:
    """Text that read_messages() reads as these messages: as plain as it can be."""
    plain = messages[0]["content"] if len(messages) == 1 else ""
    turns = "\n\n".join(f"{message['role']}:\n{message['content']}" for message in messages)
    for text in (plain, turns):
        if text and read_messages(text, role=role) == messages:
            return str(text)
    return json.dumps(messages, ensure_ascii=False)


def read_steps(messages: list[Message], how: str) -> list[str]:
    """Steps to send with a response; none where each model cuts it by itself."""
    text = "\n\n".join(message["content"] for message in messages)
    if how == "lines":
        return split_steps(text)
    return [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()] if how == "paragraphs" else []
