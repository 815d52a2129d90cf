"""The form that starts a label audit: what the job's own spec asks for, with sources and models as choices."""

from typing import Any

from django import forms

from annotator.models import Project
from rmeval.models import RewardModel
from rmeval.selectors.reward_models import source_choices
from rmeval.spec_forms import SpecForm, spec_form
from rmeval.specs import job_of
from rmeval.training_form import source_value
from workers.families import FAMILIES

KIND = "audit_labels"
CHOSEN = frozenset({"source", "reward_model", "reannotated"})
PLAIN = frozenset({"members", "folds", "suspect_share", "seed"})
NEEDS = frozenset({"features", "tokens"})
"""Of a family whose backbone and head an audit can use."""


class AuditStartForm(SpecForm):
    """Made by audit_start_form()."""

    def spec(self) -> dict[str, Any]:
        chosen = {name: self.cleaned_data[name] for name in CHOSEN if self.cleaned_data.get(name)}
        sources = {name: source_value(value) for name, value in chosen.items() if name != "reward_model"}
        return {**self.values(), **chosen, **sources}


def audit_start_form(project: Project, data: Any = None, *, source: str = "", reward_model: str = "") -> AuditStartForm:
    """`source` ("dataset:<uid>") and `reward_model` (uid) are chosen to begin with, where they are choices."""
    usual = spec_form(job_of(KIND).Spec, skip=CHOSEN, plain=PLAIN)
    own = {"spec_fields": usual.spec_fields, "advanced": usual.advanced | {"reannotated"}}
    form: AuditStartForm = type("AuditStart", (AuditStartForm,), own)(data)
    form.fields = {**chosen_fields(project, source=source, reward_model=reward_model), **usual(data).fields}
    return form


def chosen_fields(project: Project, *, source: str, reward_model: str) -> dict[str, forms.Field]:
    sources = source_choices(project=project)
    described = job_of(KIND).Spec.model_fields
    return {
        "source": forms.ChoiceField(
            label="Labels of",
            choices=[("", "Choose…"), *sources],
            initial=source,
            help_text="Pairs with known preferences. No label is changed by the audit.",
        ),
        "reward_model": forms.ChoiceField(
            label="Backbone and head of",
            choices=[("", "the built-in MiniLM"), *model_choices(project)],
            initial=reward_model,
            required=False,
            help_text="A reward model whose backbone and kind of head the members take; its weights are not used.",
        ),
        "reannotated": forms.ChoiceField(
            label="Judged once more",
            choices=[("", "none"), *sources],
            required=False,
            help_text=str(described["reannotated"].description),
        ),
    }


def model_choices(project: Project, limit: int = 500) -> list[tuple[str, str]]:
    """Reward models of a family with features that heads can be trained on."""
    families = [name for name, family in FAMILIES.items() if can_audit(family)]
    rows = RewardModel.objects.filter(project=project, deleted_at=None, family__in=families).order_by("-pk")
    return [(str(row.uid), row.name) for row in rows[:limit]]


def can_audit(family: Any) -> bool:
    return family is not None and bool(family.capabilities >= NEEDS)
