"""A Django form from a pydantic model: the page asks for exactly what the API and the command line take.

Fields come from the JSON schema, so that help, limits and defaults are written once, on the model.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, cast

from django import forms
from django.forms.fields import InvalidJSONInput
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from pydantic import BaseModel

from annotator.errors import FieldError
from workers.described import help_text, resolved

TEXT_AREA_ROWS = 3
TEXTS = ["a", "b"]


class JsonField(forms.JSONField):
    """Numbers too long and nesting too deep for Python are no JSON to a person either.

    `shape` is an example of what is wanted. Where it is a list of texts, texts with commas or line breaks between them
    do as well.
    """

    def __init__(self, *args: Any, shape: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.shape = shape
        self.error_messages["invalid"] = f"This is not JSON. Write it like {json.dumps(shape)}."

    def to_python(self, value: Any) -> Any:
        try:
            return super().to_python(value)
        except (forms.ValidationError, ValueError, RecursionError) as error:
            if self.shape == TEXTS and isinstance(value, str) and not set(value) & set('[]{}"'):
                return [part.strip() for part in value.replace("\n", ",").split(",") if part.strip()]
            raise forms.ValidationError(self.error_messages["invalid"], code="invalid") from error

    def prepare_value(self, value: Any) -> Any:
        """Nothing is an empty field, not the word null."""
        return "" if value is None else super().prepare_value(value)

    def bound_data(self, data: Any, initial: Any) -> Any:
        """What was typed, also where it cannot be parsed."""
        try:
            return super().bound_data(data, initial)
        except (ValueError, RecursionError):
            return InvalidJSONInput(data)


class SuggestInput(forms.TextInput):
    """Free text beside a list of suggestions."""

    def __init__(self, suggestions: Sequence[str], attrs: dict[str, Any] | None = None) -> None:
        super().__init__(attrs)
        self.suggestions = suggestions

    def render(self, name: str, value: Any, attrs: dict[str, Any] | None = None, renderer: Any = None) -> SafeString:
        listed = f"{(attrs or {}).get('id') or name}_suggestions"
        shown = super().render(name, value, {**(attrs or {}), "list": listed, "autocomplete": "off"}, renderer)
        options = format_html_join("", '<option value="{}"></option>', ((text,) for text in self.suggestions))
        return format_html('{}<datalist id="{}">{}</datalist>', shown, listed, options)


class SpecForm(forms.Form):
    """Made by spec_form(). `values()` is what was filled in; the model itself judges it."""

    spec_fields: tuple[str, ...] = ()
    advanced: frozenset[str] = frozenset()

    def values(self) -> dict[str, Any]:
        """Filled-in values; an empty field takes the model's default."""
        return {
            name: self.cleaned_data[name] for name in self.spec_fields if self.cleaned_data.get(name) not in (None, "")
        }

    def add_problems(self, problems: list[FieldError], *, below: str) -> None:
        """Show what the model said beside the field it is about."""
        for problem in problems:
            name = problem.pointer.removeprefix(below).strip("/").split("/")[0]
            self.add_error(name if name in self.fields else None, problem.detail)

    @property
    def plain_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in self.fields if name not in self.advanced]

    @property
    def has_advanced_errors(self) -> bool:
        return self.is_bound and any(name in self.errors for name in self.advanced)

    @property
    def advanced_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in self.fields if name in self.advanced]


@lru_cache(maxsize=256)
def spec_form(
    model: type[BaseModel], *, skip: frozenset[str] = frozenset(), plain: frozenset[str] | None = None
) -> type[SpecForm]:
    """A form class for a model, made once. Fields outside `plain` fold away as advanced."""
    schema = model.model_json_schema()
    names = [name for name in schema.get("properties", {}) if name not in skip]
    fields = {name: form_field(name, resolved(schema["properties"][name], schema)) for name in names}
    folded = frozenset() if plain is None else frozenset(names) - plain
    body = {**fields, "spec_fields": tuple(names), "advanced": folded}
    return cast(type[SpecForm], type(f"{model.__name__}Form", (SpecForm,), body))


def form_field(name: str, field: dict[str, Any]) -> forms.Field:
    default = field.get("default")
    options: dict[str, Any] = {
        "required": False,
        "label": name.replace("_", " ").capitalize(),
        "help_text": help_text(field),
    }
    kind = field.get("type")
    if "enum" in field or "const" in field:
        choices = [(str(value), str(value)) for value in field.get("enum", [field.get("const")])]
        return forms.ChoiceField(choices=[*unset(field), *choices], initial=default, **options)
    if kind == "boolean":
        return forms.TypedChoiceField(
            choices=[*unset(field), ("true", "yes"), ("false", "no")],
            coerce=lambda value: value == "true",
            empty_value=None,
            initial="" if unset(field) else str(bool(default)).lower(),
            **options,
        )
    if kind == "integer":
        return forms.IntegerField(initial=default, widget=number_input(field, step="1"), **options)
    if kind == "number":
        return forms.FloatField(initial=default, widget=number_input(field, step="any"), **options)
    if kind in {"object", "array"}:
        area = forms.Textarea({"rows": TEXT_AREA_ROWS})
        return JsonField(initial=default or None, widget=area, shape=example_of(field), **options)
    if examples := field.get("examples"):
        options["widget"] = SuggestInput([str(example) for example in examples])
    # A default with white space at an end ("Bearer ") means it; elsewhere it comes from pasting.
    is_spaced = isinstance(default, str) and default != default.strip()
    return forms.CharField(initial=default, strip=not is_spaced, **options)


def unset(field: dict[str, Any]) -> list[tuple[str, str]]:
    """The choice to say nothing, where that is the default and means something else than each of the others."""
    return [("", "as usual")] if "default" in field and field["default"] is None else []


def example_of(field: dict[str, Any]) -> Any:
    """The shape of a list or an object, for those who write it by hand."""
    inner = field.get("items") or field.get("additionalProperties")
    kind = inner.get("type") if isinstance(inner, dict) else None
    value = {"string": "a", "integer": 1, "number": 0.5}.get(str(kind), "a" if field["type"] == "object" else {})
    if field["type"] == "object":
        return {"name": value}
    return TEXTS if value == "a" else [value]


def number_input(field: dict[str, Any], *, step: str) -> forms.NumberInput:
    """No min and max attributes: the model refuses a wrong number and says why, which the browser does less well."""
    says_nothing = field.get("default") is None and "empty:" not in str(field.get("description", "")).lower()
    return forms.NumberInput({"step": step, "placeholder": "none" if says_nothing else ""})
