"""The form that imports scores from a file."""

from typing import Any

from django import forms

from annotator.models import Dataset, Project

LIMIT = 500


class ScoreImportForm(forms.Form):
    file = forms.FileField(
        label="File",
        allow_empty_file=True,  # the reader says better what is wrong with it
        help_text="JSON Lines, a JSON array, CSV, TSV or Parquet; each may be gzipped.",
        widget=forms.ClearableFileInput(attrs={"accept": ".jsonl,.json,.ndjson,.csv,.tsv,.parquet,.gz"}),
    )
    dataset = forms.ChoiceField(
        label="Responses of", required=False, help_text="Where texts repeat between datasets, name the one meant."
    )

    def __init__(self, *args: Any, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.datasets = list(datasets_with_responses(project)[:LIMIT])
        choices = [("", "any dataset of this project"), *((str(d.uid), d.name) for d in self.datasets)]
        self.fields["dataset"].choices = choices  # type: ignore[attr-defined]

    def chosen(self) -> Dataset | None:
        uid = self.cleaned_data["dataset"]
        return next((d for d in self.datasets if str(d.uid) == uid), None)


def datasets_with_responses(project: Project) -> Any:
    return Dataset.objects.filter(project=project, deleted_at=None, state="ready", n_responses__gt=0).order_by("-pk")
