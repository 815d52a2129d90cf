"""Forms of the page of a label audit."""

from typing import Any

from django import forms

from rmeval.models import PairEdit

CHECKED, NEGATIVE, LOWEST = "checked", "negative", "lowest"
WHICH = [(CHECKED, "the pairs ticked below"), (NEGATIVE, "all of negative strength"), (LOWEST, "the lowest share")]


class ChoiceOfPairs(forms.Form):
    """Which pairs an action is about."""

    which = forms.ChoiceField(label="Pairs", choices=WHICH, initial=CHECKED)
    share = forms.FloatField(
        label="Share", required=False, min_value=0, max_value=1, help_text="For the lowest share: 0.1 is a tenth."
    )
    pairs = forms.TypedMultipleChoiceField(required=False, coerce=str, widget=forms.MultipleHiddenInput())

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.auto_id = f"id_{self.prefix or type(self).__name__.lower()}_%s"  # two of these stand on one page
        if self.is_bound and hasattr(self.data, "getlist"):
            given = self.data.getlist("pairs")
            field = self.fields["pairs"]
            if isinstance(field, forms.ChoiceField):
                field.choices = [(pair, pair) for pair in given]  # the service judges them

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("which") == LOWEST and not cleaned.get("share"):
            self.add_error("share", "Give the share, such as 0.1.")
        if cleaned.get("which") == CHECKED and not cleaned.get("pairs"):
            self.add_error(None, "No pair is ticked.")
        return cleaned

    def choice(self) -> dict[str, Any]:
        """Keyword arguments of chosen_pairs()."""
        which = self.cleaned_data["which"]
        return {
            CHECKED: {"pairs": self.cleaned_data["pairs"]},
            NEGATIVE: {"negative": True},
            LOWEST: {"lowest_share": self.cleaned_data["share"]},
        }[which]


class EditLabelsForm(ChoiceOfPairs):
    kind = forms.ChoiceField(label="What to do", choices=PairEdit.Kind.choices)
    value = forms.FloatField(
        required=False, help_text="soften: chance that the label is wrong, such as 0.1. weight: the weight."
    )
    reason = forms.CharField(required=False, max_length=300)
    field_order = ("which", "share", "kind", "value", "reason")


class QueueFromSuspectsForm(ChoiceOfPairs):
    name = forms.CharField(max_length=200, initial="A second look", help_text="Raters see it: no word of labels.")
    overlap = forms.IntegerField(min_value=1, max_value=50, initial=1, help_text="Judgements for each pair.")


class SecondVerdictsForm(forms.Form):
    snapshot = forms.ChoiceField(help_text="What people said on second sight becomes the label of these pairs.")

    def __init__(self, *args: Any, snapshots: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["snapshot"]
        if isinstance(field, forms.ChoiceField):
            field.choices = snapshots
