"""The form that starts a training: source, objective with its own settings, and what every training takes."""

from typing import Any

from django import forms

from annotator.errors import FieldError
from rmeval.models import RewardModel
from rmeval.person_forms import metadata_keys
from rmeval.selectors.audits import edited_choices
from rmeval.selectors.reward_models import response_choices, source_choices
from rmeval.spec_forms import SpecForm, SuggestInput, spec_form
from rmeval.specs import job_of
from rmeval.starts import start_choices
from workers.families import FAMILIES
from workers.jobs.base import Source
from workers.jobs.train_rm import usual_objective
from workers.objectives import OBJECTIVES

AUTO = "auto"
NOTHING = "none: its members are measured, nothing is trained"
OWN = "objective_config__"
"""Before the names of the objective's own settings."""
SKIPPED = frozenset({"reward_model", "source", "evaluate_on", "objective", "objective_config", "start_from"})
PLAIN = frozenset({"learning_rate", "epochs", "batch_pairs", "validation_share", "seed"})


def source_value(value: str) -> dict[str, Any]:
    """{"dataset": uid} of the choice "dataset:<uid>", with its edits of "dataset:<uid>:edits"."""
    kind, uid, option = (*value.split(":"), "", "")[:3]
    return {kind: uid, "edits": True} if option == "edits" else {kind: uid}


class TrainingForm(SpecForm):
    """Made by train_form()."""

    objective_fields: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    """Settings of the objective that are chosen among sources."""

    @property
    def plain_fields(self) -> list[forms.BoundField]:
        return [self[n] for n in self.fields if n not in self.advanced and n not in self.objective_fields]

    @property
    def own_fields(self) -> list[forms.BoundField]:
        """Settings of the chosen objective."""
        return [self[name] for name in self.objective_fields]

    def add_problems(self, problems: list[FieldError], *, below: str) -> None:
        inside = f"{below}/objective_config/"
        for problem in problems:
            name = OWN + problem.pointer.removeprefix(inside).split("/")[0]
            if problem.pointer.startswith(inside) and name in self.fields:
                self.add_error(name, problem.detail)
            else:
                super().add_problems([problem], below=below)


def train_form(reward_model: RewardModel, data: Any = None, *, objective: str = AUTO) -> TrainingForm:
    """What the family can be trained with; what people rarely change folds away."""
    family: Any = FAMILIES.get(reward_model.family)
    fitting = {name: entry for name, entry in OBJECTIVES.items() if entry.needs <= family.capabilities}
    default = usual_objective(reward_model.family, reward_model.config)
    if hasattr(family, "usual_objective"):  # one objective fits these settings, and any other is refused
        fitting = {default: fitting[default]}
    if hasattr(family, "assemble"):
        fitting = {}
    wanted = objective if data is None else data.get("objective", AUTO)
    chosen: Any = fitting.get(wanted) or fitting.get(objective) or OBJECTIVES.get(default)
    usual = spec_form(job_of("train_rm").Spec, skip=SKIPPED, plain=PLAIN)
    own = spec_form(chosen.Config)
    made = type("TrainForm", (TrainingForm,), {"spec_fields": usual.spec_fields, "advanced": usual.advanced})
    form: TrainingForm = made(data)
    own_fields = {OWN + name: field for name, field in own(data).fields.items()}
    for name in source_settings(chosen.Config):
        own_fields[OWN + name] = sample_field(reward_model, chosen.Config.model_fields[name].description)
    form.objective_fields = tuple(own_fields)
    form.sources = tuple(source_settings(chosen.Config))
    form.fields = {
        **first_fields(reward_model, fitting, default=default, objective=wanted),
        **own_fields,
        **usual(data).fields,
    }
    for name in ("rater_key", "source_key"):
        form.fields[name].widget = SuggestInput(metadata_keys(reward_model.project))
    return form


def source_settings(config: Any) -> list[str]:
    """Settings of an objective that name a source of their own."""
    return [name for name, field in config.model_fields.items() if field.annotation == Source | None]


def sample_field(reward_model: RewardModel, description: str | None) -> forms.Field:
    choices = [("", "none"), *response_choices(project=reward_model.project)]
    return forms.ChoiceField(label="Samples", choices=choices, required=False, help_text=description or "")


def first_fields(
    reward_model: RewardModel, fitting: dict[str, Any], *, default: str, objective: str
) -> dict[str, forms.Field]:
    choices = source_choices(project=reward_model.project)
    usual = [(AUTO, f"{OBJECTIVES.get(default).title} (usual)")] if default in fitting else []
    objectives = [*usual, *((n, e.title) for n, e in fitting.items())] or [(AUTO, NOTHING)]
    return {
        "source": forms.ChoiceField(
            label="Train on",
            choices=[("", "Choose…"), *choices, *edited_choices(project=reward_model.project, choices=choices)],
            help_text="Pairs with known preferences, or labelled responses where the objective learns from those.",
        ),
        "evaluate_on": forms.MultipleChoiceField(
            label="Evaluate on, when done",
            choices=choices,
            required=False,
            help_text="One evaluation run each, started when the training has ended.",
        ),
        "objective": forms.ChoiceField(
            choices=objectives,
            initial=objective,
            required=False,
            help_text="What the training makes smaller. Those that this family can be trained with.",
            widget=forms.Select(
                {
                    "hx-get": "?part=objective",
                    "hx-target": "#objective-settings",
                    "hx-trigger": "change",
                }
            ),
        ),
        "start_from": forms.ChoiceField(
            choices=[("", "The pretrained backbone"), *start_choices(reward_model)],
            required=False,
            help_text="A checkpoint with the same backbone to go on from, as in training by stages.",
        ),
    }


def train_spec(form: TrainingForm, reward_model: RewardModel) -> dict[str, Any]:
    """The spec of train_rm as the form was filled in."""
    cleaned = form.cleaned_data
    own = {n.removeprefix(OWN): cleaned[n] for n in form.objective_fields if cleaned.get(n) not in (None, "")}
    own |= {name: source_value(own[name]) for name in form.sources if name in own}
    spec = {
        **form.values(),
        "reward_model": str(reward_model.uid),
        "source": source_value(cleaned["source"]),
        "objective": cleaned.get("objective") or AUTO,
    }
    if own:
        spec["objective_config"] = own
    if cleaned.get("start_from"):
        spec["start_from"] = cleaned["start_from"]
    if cleaned.get("evaluate_on"):
        spec["evaluate_on"] = [source_value(value) for value in cleaned["evaluate_on"]]
    return spec
