"""Fields of a body that nothing reads."""

from typing import Any

from rest_framework import serializers

from annotator.validation import invalid


def unknown_fields_check(data: Any, serializer: type[serializers.Serializer[Any]]) -> None:
    """Say so when a body has a field that nothing reads: a misspelt setting must not be ignored."""
    known = serializer().fields
    unknown = sorted(set(data) - set(known)) if isinstance(data, dict) else []
    if unknown:
        raise invalid(f"/{unknown[0]}", "unknown_field", f"There is no such field. Known: {', '.join(known)}.")
