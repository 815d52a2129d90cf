"""JSON with places for prompt and response, and paths into the JSON that comes back."""

import math
import re
from collections.abc import Sequence
from typing import Any

from workers.data.schema import Message

PLACES = ("{prompt}", "{response}", "{messages}", "{prompt_messages}", "{response_messages}")
_PLACE = re.compile("|".join(re.escape(place) for place in PLACES))
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")


class NoNumber(ValueError):
    """The answer has no finite number where the config says it is. The text says what is there."""


def text_of(messages: Sequence[Message]) -> str:
    """One message is its text; of several each is opened by its role."""
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join(f"{m['role']}:\n{m['content']}" for m in messages)


def filled(template: Any, prompt: Sequence[Message], response: Sequence[Message]) -> Any:
    """`template` with its places filled. A string that is one place of messages becomes a list of them.

    What is put in is never looked at for places again.
    """
    lists = {
        "{messages}": [*prompt, *response],
        "{prompt_messages}": list(prompt),
        "{response_messages}": list(response),
    }
    texts = {"{prompt}": text_of(prompt), "{response}": text_of(response)}

    def fill(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: fill(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [fill(inner) for inner in value]
        if not isinstance(value, str):
            return value
        if value in lists:
            return [{"role": m["role"], "content": m["content"]} for m in lists[value]]
        return _PLACE.sub(lambda found: texts.get(found[0], found[0]), value)

    return fill(template)


def has_response(template: Any) -> bool:
    """Is the response sent at all? Without it every response of a prompt would get one score."""
    if isinstance(template, dict):
        return any(has_response(value) for value in template.values())
    if isinstance(template, list):
        return any(has_response(value) for value in template)
    if not isinstance(template, str):
        return False
    return "{response}" in template or template in ("{messages}", "{response_messages}")


def parse_path(path: str) -> list[str | int]:
    """Steps of a path such as data[0].score or $.data[0].score. ValueError where it is none."""
    rest = path.removeprefix("$")
    steps: list[str | int] = []
    while rest:
        found = _STEP.match(rest)
        if found is None:
            raise ValueError(f"{path!r} is no path such as data[0].score")
        steps.append(found[1] if found[1] is not None else int(found[2]))
        rest = rest[found.end() :]
    return steps


def number_at(answer: Any, steps: Sequence[str | int], path: str) -> float:
    """The finite number at the end of the steps."""
    value = answer
    for step in steps:
        is_there = step in value if isinstance(value, dict) else isinstance(value, list) and _has_index(value, step)
        if not is_there:
            raise NoNumber(f"the answer has nothing at {path or 'its top'}")
        value = value[step]
    return as_number(value, path)


def as_number(value: Any, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise NoNumber(f"the answer has {_kind(value)} at {path or 'its top'}, not a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise NoNumber(f"the answer has a number at {path or 'its top'} that is not finite")
    return number


def _has_index(value: list[Any], step: str | int) -> bool:
    return isinstance(step, int) and step < len(value)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "something else")
