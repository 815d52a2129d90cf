"""Forms of queues: one for the question, one for the queue around it."""

from datetime import timedelta
from typing import Any

from django import forms

from annotator.errors import InvalidInput
from annotator.models import Dataset, Project, Queue
from annotator.selectors.items import ItemFilters
from annotator.services.queue_items import MAX_OVERLAP

POINTS = [(2, "2: left or right"), (3, "3: left, equal, right"), (7, "7: how much better, on either side")]
JUSTIFICATION = [("off", "not asked"), ("optional", "optional"), ("required", "required")]


class QuestionForm(forms.Form):
    """The pairwise question as a lead sets it up."""

    title = forms.CharField(max_length=300, initial="Which response is better?", label="Question")
    points = forms.TypedChoiceField(choices=POINTS, coerce=int, initial=7, label="Scale")
    allow_tie = forms.BooleanField(
        required=False,
        initial=True,
        label="Offer a tie",
        help_text="Adds “equal” in the middle, to 2 points as well; without it the scale is left and right alone.",
    )
    allow_both_bad = forms.BooleanField(required=False, initial=True, label="Offer “both bad”")
    allow_cannot_judge = forms.BooleanField(required=False, initial=True, label="Offer “cannot judge”")
    justification = forms.ChoiceField(choices=JUSTIFICATION, initial="optional")
    reasons = forms.CharField(
        required=False,
        widget=forms.Textarea(attrs={"rows": 4}),
        label="Reason chips",
        help_text="One per line, at most 60 characters each, for example: Correct, Clear, Safe.",
    )
    reason_first = forms.BooleanField(required=False, label="The reason is written before the choice opens")

    def question(self, name: str = "preference") -> dict[str, Any]:
        values = self.cleaned_data
        fields = (
            "title",
            "points",
            "allow_tie",
            "allow_both_bad",
            "allow_cannot_judge",
            "justification",
            "reason_first",
        )
        reasons = [line.strip() for line in values["reasons"].splitlines() if line.strip()]
        return {"type": "pairwise", "name": name, **{field: values[field] for field in fields}, "reasons": reasons}

    @staticmethod
    def initial_of(question: dict[str, Any]) -> dict[str, Any]:
        return {**question, "reasons": "\n".join(question["reasons"])}


class DatasetField(forms.ModelChoiceField):  # type: ignore[type-arg]
    """Names may repeat and hide what they hold: each dataset is listed with its size."""

    def label_from_instance(self, obj: Dataset) -> str:
        return f"{obj.name} ({obj.n_examples:,} examples, {obj.n_responses:,} responses)"


class QueueForm(QuestionForm):
    """A new queue."""

    name = forms.CharField(max_length=200)
    dataset = DatasetField(queryset=Dataset.objects.none(), to_field_name="uid", empty_label="Choose a dataset")
    overlap = forms.IntegerField(
        min_value=1,
        max_value=MAX_OVERLAP,
        initial=1,
        label="Raters per item",
        help_text="2 or more let agreement be measured; with 3 or more a majority can decide. "
        "With 2 or more, started items are finished first, so that agreement shows early; “Order” below changes that.",
    )
    pair_policy = forms.ChoiceField(
        choices=[choice for choice in Queue.PairPolicy.choices if choice[0] != Queue.PairPolicy.LISTED],
        label="Pairs of an example with more than two responses",
    )
    max_pairs = forms.IntegerField(min_value=1, max_value=1000, initial=10, label="At most this many pairs per example")
    order_policy = forms.ChoiceField(
        required=False,
        choices=[
            ("", "as the number of raters has it"),
            *Queue.OrderPolicy.choices,
        ],
        label="Order",
        help_text="By itself: with 2 or more raters started items are finished first, with 1 every item comes once.",
    )
    lease_minutes = forms.IntegerField(
        min_value=1,
        max_value=1440,
        initial=10,
        label="Minutes an item is held",
        help_text="Renewed while the page is open; then it goes to somebody else and the draft is kept.",
    )
    guidelines = forms.CharField(
        required=False, widget=forms.Textarea(attrs={"rows": 8}), help_text="Markdown, beside every item."
    )
    field_order = ("name", "dataset", "overlap")

    def __init__(self, project: Project, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        ready = Dataset.objects.filter(project=project, state=Dataset.State.READY, deleted_at=None)
        self.fields["dataset"].queryset = ready.order_by("-pk")  # type: ignore[attr-defined]
        self.has_datasets = ready.exists()

    def settings(self) -> dict[str, Any]:
        """Arguments of queue_create that this form decides."""
        values = self.cleaned_data
        plain = ("name", "dataset", "overlap", "pair_policy", "max_pairs", "order_policy", "guidelines")
        return {
            **{field: values[field] for field in plain},
            "form": [self.question()],
            "lease": timedelta(minutes=values["lease_minutes"]),
        }


class ItemFilterForm(forms.Form):
    """Narrows the items of a queue."""

    q = forms.CharField(label="Search", required=False, max_length=500)
    state = forms.ChoiceField(
        required=False,
        choices=[("", "any"), ("untouched", "not begun"), ("begun", "begun, not done"), ("done", "done")],
    )
    next = forms.BooleanField(required=False, label="Given out next")
    flagged = forms.BooleanField(required=False, label="With an open flag")
    gold = forms.BooleanField(required=False, label="Gold")

    def filters(self) -> ItemFilters:
        """No filters where the form was refused; it says so beside the field."""
        if not self.is_valid():
            return ItemFilters()
        given = self.cleaned_data
        return ItemFilters(given["state"], given["next"], given["flagged"], given["gold"], given["q"])


def sentence(detail: str) -> str:
    """A checker's words as a page shows them."""
    return detail[:1].upper() + detail[1:]


def add_errors(form: forms.Form, error: InvalidInput) -> None:
    """Put a service's complaints at the fields they point at."""
    for problem in error.errors:
        field = next((part for part in reversed(problem.pointer.split("/")) if part in form.fields), None)
        form.add_error(field, sentence(problem.detail))
    if not error.errors:
        form.add_error(None, error.detail)
