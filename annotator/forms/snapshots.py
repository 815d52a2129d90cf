"""The form that cuts a snapshot."""

from typing import Any

from django import forms

from annotator.services.snapshot_rows import AGGREGATION_MEANINGS, AGGREGATIONS
from workers.stats.majority import VERDICTS

VERDICT_LABELS = {"a": "A is better", "b": "B is better", "tie": "Tie", "both_bad": "Both bad"}


class SnapshotForm(forms.Form):
    """What the API takes as {aggregation, filter}, field by field."""

    aggregation = forms.ChoiceField(
        choices=[(name, f"{name.capitalize()}: {AGGREGATION_MEANINGS[name]}") for name in AGGREGATIONS],
        initial="majority",
        widget=forms.RadioSelect,
    )
    min_judgements = forms.IntegerField(
        label="At least this many judgements per item", min_value=1, max_value=50, initial=1
    )
    verdicts = forms.MultipleChoiceField(
        label="Keep only these verdicts",
        choices=[(name, VERDICT_LABELS[name]) for name in VERDICTS],
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="None ticked: all, undecided ones too.",
    )
    since = forms.DateTimeField(
        label="Judged since (UTC)",
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
    )
    raters = forms.CharField(
        required=False,
        label="Only these raters",
        help_text="Their r-… ids, separated by spaces; the agreement page lists them. Empty: everybody.",
    )
    exclude_flagged = forms.BooleanField(label="Leave out items with an open flag", required=False)

    def filter(self) -> dict[str, Any]:
        """Only what was set, as the service takes it."""
        values = self.cleaned_data
        chosen: dict[str, Any] = {"min_judgements": values["min_judgements"]}
        if values["verdicts"]:
            chosen["verdicts"] = values["verdicts"]
        if values["since"]:
            chosen["since"] = values["since"]
        if values["raters"].split():
            chosen["raters"] = values["raters"].split()
        if values["exclude_flagged"]:
            chosen["exclude_flagged"] = True
        return chosen
