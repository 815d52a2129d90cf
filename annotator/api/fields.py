"""Fields of a body: those that nothing reads, and choices that say what there is to choose."""

from typing import Any, NoReturn

from rest_framework import serializers

from annotator.validation import invalid


def unknown_fields_check(data: Any, serializer: type[serializers.Serializer[Any]]) -> None:
    """Say so when a body has a field that nothing reads: a misspelt setting must not be ignored."""
    known = serializer().fields
    unknown = sorted(set(data) - set(known)) if isinstance(data, dict) else []
    if unknown:
        raise invalid(f"/{unknown[0]}", "unknown_field", f"There is no such field. Known: {', '.join(known)}.")


class ChoiceInput(serializers.ChoiceField):
    """A choice of a body; a refusal names the choices."""

    def fail(self, key: str, **kwargs: Any) -> NoReturn:
        if key == "invalid_choice":
            known = ", ".join(str(choice) for choice in self.choices)
            text = str(kwargs.get("input"))[:100]
            raise serializers.ValidationError(f'"{text}" is not known. Choose one of: {known}.', code=key)
        super().fail(key, **kwargs)
