"""What a typed spec or config takes, in words: for the page docs/settings.md, the command line, REST and page forms."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
}
NAMES = {"string": "text", "integer": "whole number", "boolean": "true or false", "array": "list"}


@dataclass(frozen=True, slots=True)
class Setting:
    """One field: its type in words, its default as JSON ("" where it must be given), what it means with its limits."""

    name: str
    kind: str
    default: str
    meaning: str


def settings_of(model: type[BaseModel]) -> Iterator[Setting]:
    """The fields of a spec or config, in their order."""
    schema = model.model_json_schema()
    for name, field in schema.get("properties", {}).items():
        told = resolved(field, schema)
        default = json.dumps(told["default"], ensure_ascii=False) if "default" in told else ""
        yield Setting(name, kind_of(told, schema), default, help_text(told))


def resolved(field: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Follow $ref and drop the null branch of an optional field; the field's own words win."""
    own: dict[str, Any] = {key: field[key] for key in ("title", "description", "default") if key in field}
    if "$ref" in field:
        return {**resolved(schema["$defs"][field["$ref"].rsplit("/", 1)[-1]], schema), **own}
    if "allOf" in field and len(field["allOf"]) == 1:
        return {**resolved(field["allOf"][0], schema), **own}
    if "anyOf" in field:
        branches = [branch for branch in field["anyOf"] if branch.get("type") != "null"]
        return {**resolved(branches[0], schema), **own} if branches else own
    return field


def help_text(field: dict[str, Any]) -> str:
    """The description of a field of a JSON schema, with its limits."""
    said = [text.format(field[key]) for key, text in LIMITS.items() if key in field]
    description = str(field.get("description", "")).strip()
    tail = f" ({', '.join(said)})" if said else ""
    return f"{description}{tail}"


def kind_of(field: dict[str, Any], schema: dict[str, Any]) -> str:
    """The type of a resolved field, in words."""
    if "enum" in field or "const" in field:
        return "one of " + ", ".join(str(value) for value in field.get("enum", [field.get("const")]))
    kind = str(field.get("type", "any"))
    if kind == "object" and field.get("properties"):
        return f"object of {', '.join(field['properties'])}"
    if kind == "array" and (inner := field.get("items")):
        return f"list of {kind_of(resolved(inner, schema), schema)}"
    return NAMES.get(kind, kind)
