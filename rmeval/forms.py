"""Forms of runs and reward models. What a job or family takes is asked for by rmeval/spec_forms.py."""

from typing import Any

from django import forms

from annotator.models import Project
from rmeval.backbones import BUILT_IN
from rmeval.models import Checkpoint
from rmeval.selectors.reward_models import ELSEWHERE, checkpoint_choices, source_choices
from rmeval.spec_forms import SpecForm, SuggestInput, spec_form
from rmeval.training_form import source_value
from workers.families import FAMILIES


class RegisterForm(forms.Form):
    """The part that every family shares; its configuration is a second form on the same page."""

    name = forms.CharField(max_length=200, help_text="Unique in this project.")
    description = forms.CharField(required=False, widget=forms.Textarea({"rows": 2}), help_text="Markdown.")

    def add_problems(self, problems: list[Any]) -> None:
        for problem in problems:
            name = problem.pointer.strip("/").split("/")[0]
            self.add_error(name if name in self.fields else None, problem.detail)


def family_choices() -> list[dict[str, Any]]:
    """Families with what they are for, as their docstrings say it."""
    return [
        {
            "name": name,
            "title": family.title,
            "summary": (family.__doc__ or "").strip().split("\n\n")[0],
            "trainable": family.trainable,
        }
        for name, family in sorted(FAMILIES.items(), key=lambda item: not item[1].trainable)
    ]


def ways_to_come() -> list[tuple[str, list[dict[str, Any]]]]:
    """Headings and families: what is trained here, what is asked elsewhere, what is a rule."""
    choices = family_choices()
    return [
        ("Train a family here", [one for one in choices if one["trainable"]]),
        ("Ask a model that runs elsewhere", [one for one in choices if one["name"] in ELSEWHERE]),
        ("Baselines", [one for one in choices if not one["trainable"] and one["name"] not in ELSEWHERE]),
    ]


def config_form(family: Any, *args: Any, **kwargs: Any) -> SpecForm:
    form = spec_form(family.Config)(*args, **kwargs)
    if "backbone" in form.fields:
        form.fields["backbone"].widget = SuggestInput(list(BUILT_IN))
    return form


class EvaluateForm(forms.Form):
    """Evaluate one of the given checkpoints on a source of the project; either may be fixed by the page."""

    checkpoint = forms.ChoiceField(label="Reward model")
    source = forms.ChoiceField(label="Evaluate on", help_text="Pairs with known preferences.")

    def __init__(
        self,
        *args: Any,
        project: Project,
        checkpoints: list[Checkpoint] | None = None,
        source: tuple[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.auto_id = "id_evaluate_%s"  # it stands beside a training form with fields of these names
        known = (
            checkpoint_choices(project=project) if checkpoints is None else [(str(c.uid), str(c)) for c in checkpoints]
        )
        self.set_choices("checkpoint", known)
        self.set_choices("source", source_choices(project=project) if source is None else [source])
        if source is not None:
            self.fields["source"].widget = forms.HiddenInput()
            self.fields["source"].initial = source[0]

    def set_choices(self, name: str, choices: list[tuple[str, str]]) -> None:
        field = self.fields[name]
        if isinstance(field, forms.ChoiceField):
            field.choices = choices

    def spec(self) -> dict[str, Any]:
        return {"checkpoint": self.cleaned_data["checkpoint"], "source": source_value(self.cleaned_data["source"])}


class QueueFromPairsForm(forms.Form):
    """A new queue from the pairs behind a cell of a comparison."""

    name = forms.CharField(max_length=200)
    overlap = forms.IntegerField(min_value=1, max_value=50, initial=1, help_text="Judgements for each pair.")
    limit = forms.IntegerField(
        label="At most", min_value=1, max_value=100_000, initial=200, help_text="Pairs, from the first on."
    )
