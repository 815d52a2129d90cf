"""Steps of a response: how a text is cut into them, and where given ones stand in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workers.data.schema import Message


@dataclass(frozen=True, slots=True)
class Step:
    """One step and its place: text[start:end] == step.text."""

    text: str
    start: int
    end: int


def steps_text(response: Sequence[Message]) -> str:
    """The text that offsets of steps count in: the turns of a response, a blank line between two of them."""
    return "\n\n".join(message["content"] for message in response)


def split_steps(text: str, tag: str = "") -> list[str]:
    """Cut a text at every line break, or after every `tag` where one is named. A blank piece is no step.

    A text without anything but white space is one step.
    """
    pieces = _after_each(text, tag) if tag else text.splitlines()
    return [piece.strip() for piece in pieces if piece.strip()] or [text]


def _after_each(text: str, tag: str) -> list[str]:
    *before, rest = text.split(tag)
    return [*(piece + tag for piece in before), rest]


def locate_steps(text: str, steps: Sequence[str]) -> list[Step] | None:
    """Places of steps in the order they come, each looked for after the one before; None where one is not there."""
    found, cursor = [], 0
    for step in steps:
        wanted = step.strip() or step
        start = text.find(wanted, cursor)
        if start < 0:
            return None
        cursor = start + len(wanted)
        found.append(Step(wanted, start, cursor))
    return found


def misalignment(text: str, steps: Sequence[str]) -> str | None:
    """Why `steps` are not the whole of `text` up to white space, in two or three words; None when they are."""
    if not all(step.strip() for step in steps):
        return "an empty step"
    found = locate_steps(text, steps)
    if found is None:
        return "steps not in the response"
    ends = [0, *(step.end for step in found)]
    starts = [*(step.start for step in found), len(text)]
    gaps = (text[end:start] for end, start in zip(ends, starts, strict=True))
    return "text between the steps" if any(gap.strip() for gap in gaps) else None


def steps_of_item(response: Sequence[Message], given: object, tag: str = "") -> list[str]:
    """The steps an item brings along, else those its text is cut into. Anything but a list of texts was not given."""
    if isinstance(given, list) and given and all(isinstance(step, str) for step in given):
        return given
    return split_steps(steps_text(response), tag)
