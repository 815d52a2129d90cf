"""Checks of values that came from outside, with JSON pointers to what is wrong."""

import json
from typing import Any

from pydantic import ValidationError

from annotator.errors import FieldError, InvalidInput


def pydantic_errors(error: ValidationError, pointer: str = "") -> list[FieldError]:
    """One FieldError for each thing pydantic found, below `pointer`."""
    return [
        FieldError(
            "/".join([pointer, *(escape(part) for part in found["loc"])]),
            "unknown_field" if found["type"] == "extra_forbidden" else found["type"],
            "There is no such field."
            if found["type"] == "extra_forbidden"
            else found["msg"].removeprefix("Value error, "),
        )
        for found in error.errors(include_url=False, include_context=False)
    ]


def escape(part: str | int) -> str:
    """One step of a JSON pointer (RFC 6901)."""
    return str(part).replace("~", "~0").replace("/", "~1")


def require_storable(value: Any, pointer: str, *, max_bytes: int = 200_000) -> None:
    """Refuse what PostgreSQL cannot keep (NUL, half a surrogate pair), what is no JSON number, and what is too long."""
    try:
        encoded = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except RecursionError as error:
        raise invalid(pointer, "too_deep", "Values are nested too deeply to be kept.") from error
    except (UnicodeEncodeError, ValueError) as error:
        raise invalid(pointer, "not_storable", "Not a finite number, or text that is not valid Unicode.") from error
    if b"\\u0000" in encoded.replace(b"\\\\", b""):
        raise invalid(pointer, "nul", "The text contains a NUL character, which cannot be kept.")
    if len(encoded) > max_bytes:
        raise invalid(pointer, "too_long", f"{len(encoded)} bytes; at most {max_bytes} are kept.")


def invalid(pointer: str, code: str, detail: str) -> InvalidInput:
    return InvalidInput(detail, errors=[FieldError(pointer, code, detail)])
