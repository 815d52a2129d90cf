"""Forms of datasets: import a file, narrow a list of examples."""

from __future__ import annotations

import json
from typing import Any

from django import forms

from annotator.errors import DomainError
from workers.data.formats import FORMATS
from workers.data.importing import AUTO


def format_choices() -> list[tuple[str, str]]:
    known = [(name, f"{found.title}: {found.columns}") for name, found in FORMATS.items()]
    return [(AUTO, "Detect from the first rows"), *known]


def format_examples() -> list[dict[str, str]]:
    """Every format with a worked row, as the import page explains it."""
    return [
        {
            "name": name,
            "title": found.title,
            "columns": found.columns,
            "example": json.dumps(found.example, ensure_ascii=False),
        }
        for name, found in FORMATS.items()
    ]


class ImportForm(forms.Form):
    file = forms.FileField(
        label="File",
        help_text="JSON Lines, a JSON array, CSV, TSV or Parquet; each may be gzipped.",
        widget=forms.ClearableFileInput(attrs={"accept": ".jsonl,.json,.ndjson,.csv,.tsv,.parquet,.gz"}),
    )
    name = forms.CharField(max_length=200, required=False, help_text="By default the file's name.")
    format = forms.ChoiceField(label="Format", choices=format_choices, initial=AUTO)
    licence = forms.CharField(
        max_length=200, required=False, help_text="Kept with the data and its exports, e.g. CC BY 4.0."
    )
    allow_duplicate = forms.BooleanField(required=False, widget=forms.HiddenInput)

    def add_domain_error(self, error: DomainError) -> None:
        """Show what a service refused beside the field it is about."""
        named = [(found.pointer.strip("/"), found.detail) for found in error.errors]
        for name, detail in named or [("", error.detail)]:
            self.add_error(name if name in self.fields else None, detail)


class FilterForm(forms.Form):
    q = forms.CharField(label="Search", required=False, max_length=500)
    key = forms.ChoiceField(label="Metadata", required=False)
    value = forms.CharField(label="is", required=False, max_length=500)

    def __init__(self, *args: Any, keys: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["key"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [("", "any"), *((key, key) for key in keys)]
