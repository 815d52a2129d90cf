"""Forms made from typed configs: what they show to begin with is what the config takes."""

import json
from typing import Any

import pytest
from django import forms
from pydantic import BaseModel, Field

from rmeval.spec_forms import spec_form
from workers.families import FAMILIES
from workers.objectives import OBJECTIVES

MODELS = {name: entry.Config for registry in (FAMILIES, OBJECTIVES) for name, entry in registry.items()}


class Several(BaseModel):
    names: list[str] = Field(default=["a b", "c"])
    rows: list[dict[str, Any]] = Field(default=[])
    counts: dict[str, int] = Field(default={})
    body: dict[str, Any] | None = None


def sent_as_shown(form: forms.Form) -> dict[str, Any]:
    return {name: form[name].value() for name in form.fields}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_form_sent_as_it_is_shown_gives_the_defaults(name: str) -> None:
    made: Any = spec_form(MODELS[name])
    form = made(sent_as_shown(made()))
    assert form.is_valid(), form.errors
    fields = MODELS[name].model_fields
    defaults = {k: fields[k].get_default(call_default_factory=True) for k in form.values()}
    assert json.loads(json.dumps(form.values())) == json.loads(json.dumps(defaults))


def test_lists_and_objects() -> None:
    made: Any = spec_form(Several)
    shown = made()
    assert [shown[name].value() for name in shown.fields] == ['["a b", "c"]', "", "", ""]
    form = made({"names": "helpful, not verbose\nsafe", "counts": '{"x": 1}', "body": "null"})
    assert form.is_valid()
    assert form.values() == {"names": ["helpful", "not verbose", "safe"], "counts": {"x": 1}}


@pytest.mark.parametrize(
    ("field", "text", "says"),
    [
        ("names", '["a", b]', 'This is not JSON. Write it like ["a", "b"].'),
        ("rows", "a, b", "This is not JSON. Write it like [{}]."),
        ("counts", "x = 1", 'This is not JSON. Write it like {"name": 1}.'),
        ("counts", "[" * 100_000, "This is not JSON."),
    ],
)
def test_what_is_no_json_is_told_with_an_example_and_kept(field: str, text: str, says: str) -> None:
    form: Any = spec_form(Several)({field: text})
    assert form.errors[field][0].startswith(says)
    assert form[field].value() == text
