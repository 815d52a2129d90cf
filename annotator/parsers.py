"""JSON in."""

from typing import Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser

#: Far from what Python can take: what is parsed here is encoded again with more of the stack in use.
MAX_DEPTH = 100


class BoundedJsonParser(JSONParser):
    """A body nested so deeply that it cannot be parsed is the caller's mistake, not a failure of ours."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        try:
            value = super().parse(stream, media_type=media_type, parser_context=parser_context)
        except RecursionError as error:
            raise ParseError(TOO_DEEP) from error
        if is_deeper(value, MAX_DEPTH):
            raise ParseError(TOO_DEEP)
        return value


TOO_DEEP = f"The JSON is nested too deeply: at most {MAX_DEPTH} levels are read."


def is_deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects lie in each other beyond so many levels. Walks level by level, without recursion."""
    containers = [value] if isinstance(value, dict | list) else []
    for _ in range(levels):
        if not containers:
            return False
        containers = [
            part
            for container in containers
            for part in (container.values() if isinstance(container, dict) else container)
            if isinstance(part, dict | list)
        ]
    return bool(containers)
