"""The form that starts a study: arms as rows, or a grid, or shares of the data."""

import json
import re
from typing import Any

from django import forms

from annotator.errors import FieldError
from annotator.models import Dataset, Project
from rmeval.models import RewardModel
from rmeval.selectors.reward_models import source_choices
from rmeval.spec_forms import SuggestInput
from rmeval.training_form import source_value
from workers.families import FAMILIES
from workers.jobs.train_rm import TrainRewardModel, usual_objective
from workers.objectives import OBJECTIVES

ROWS = 4
NOT_VARIED = frozenset({"reward_model", "source", "evaluate_on", "seed"})
#: Commas and line breaks part settings, but not inside brackets.
BETWEEN = re.compile(r"[,\n](?![^\[{]*[\]}])")


def setting_names(reward_model: RewardModel) -> list[str]:
    """What an arm may change: settings of the training, of the objective usual for the model, and of the model."""
    own = [name for name in TrainRewardModel.Spec.model_fields if name not in NOT_VARIED]
    if reward_model.family not in FAMILIES:
        return own
    usual: Any = OBJECTIVES.get(usual_objective(reward_model.family, reward_model.config))
    objective = [f"objective_config.{name}" for name in usual.Config.model_fields]
    return [*own, *objective, *(f"config.{name}" for name in FAMILIES.get(reward_model.family).Config.model_fields)]


def read_value(text: str) -> Any:
    """A JSON value where it is one, else the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {"yes": True, "no": False, "none": None}.get(text, text)


def read_settings(text: str) -> dict[str, Any]:
    """{"learning_rate": 0.001} of "learning_rate = 0.001". ValueError says which part cannot be read."""
    made: dict[str, Any] = {}
    for part in BETWEEN.split(text.replace("\r\n", "\n")):
        if not part.strip():
            continue
        name, sign, value = (piece.strip() for piece in part.partition("="))
        if not sign or not name or not value:
            raise ValueError(f"“{part.strip()}” is not of the form setting = value.")
        if name in made:
            raise ValueError(f"{name} stands here twice.")
        made[name] = read_value(value)
    return made


def read_list(text: str) -> list[Any]:
    return [read_value(part.strip()) for part in BETWEEN.split(text) if part.strip()]


class StudyForm(forms.Form):
    """What all studies are asked; the rows of arms or of the grid depend on the question."""

    source = forms.ChoiceField(label="Train on", help_text="Pairs or labelled responses.")
    n_seeds = forms.IntegerField(
        label="Seeds",
        min_value=1,
        max_value=100,
        initial=3,
        help_text="Every way is trained this often, and all share them. Five or more tell ways apart; two hardly.",
    )
    shared = forms.CharField(
        label="Settings of all",
        required=False,
        max_length=10_000,
        widget=forms.Textarea({"rows": 2, "spellcheck": "false"}),
        help_text="setting = value, one a line; whatever is left out takes its default. config.NAME sets the model's,"
        " objective_config.NAME the objective's.",
    )
    keep_checkpoints = forms.BooleanField(required=False, label="Keep every trained model as a checkpoint")

    def __init__(self, *args: Any, reward_model: RewardModel, question: str, rows: int = ROWS, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reward_model, self.question, self.n_rows = reward_model, question, rows
        self.names = setting_names(reward_model)
        self.auto_id = "id_study_%s"
        choices = [("", "Choose…"), *labelled_choices(project=reward_model.project)]
        self.fields["source"].choices = choices  # type: ignore[attr-defined]
        if question == "learning_curve":
            self.fields["shares"] = forms.CharField(
                initial="0.1, 0.25, 0.5, 1", help_text="Parts of the training data."
            )
        for n in range(1, rows + 1) if question != "learning_curve" else ():
            self.add_row(n)

    def add_row(self, n: int) -> None:
        if self.question == "grid":
            widget = SuggestInput(self.names)
            self.fields[f"name_{n}"] = forms.CharField(label="Setting", required=False, max_length=100, widget=widget)
            self.fields[f"text_{n}"] = forms.CharField(label="Values", required=False, max_length=2000)
            return
        title = "Name (the baseline)" if n == 1 else "Name"
        self.fields[f"name_{n}"] = forms.CharField(label=title, required=False, max_length=80)
        self.fields[f"text_{n}"] = forms.CharField(
            label="What it changes", required=False, max_length=2000, widget=forms.Textarea({"rows": 2})
        )

    @property
    def rows(self) -> list[tuple[forms.BoundField, forms.BoundField]]:
        if self.question == "learning_curve":
            return []
        return [(self[f"name_{n}"], self[f"text_{n}"]) for n in range(1, self.n_rows + 1)]

    @property
    def shared_fields(self) -> list[forms.BoundField]:
        names = ("source", "n_seeds", "shared", *(("shares",) if self.question == "learning_curve" else ()))
        return [self[name] for name in names]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        for name in ("shared", *(f"text_{n}" for n in range(1, self.n_rows + 1))):
            if name not in cleaned:
                continue
            try:
                reads = read_list if self.question == "grid" and name != "shared" else read_settings
                cleaned[name] = reads(cleaned[name])
            except ValueError as error:
                self.add_error(name, str(error))
        for n in range(1, self.n_rows + 1):
            if cleaned.get(f"text_{n}") and not cleaned.get(f"name_{n}", "").strip():
                self.add_error(f"name_{n}", "Give this row a name." if self.question != "grid" else "Name the setting.")
        return cleaned

    def spec(self) -> dict[str, Any]:
        cleaned = self.cleaned_data
        shared, config = parted(cleaned["shared"])
        named = [(cleaned[f"name_{n}"].strip(), cleaned[f"text_{n}"]) for n in range(1, self.n_rows + 1) if self.rows]
        spec: dict[str, Any] = {
            "reward_model": str(self.reward_model.uid),
            "source": source_value(cleaned["source"]),
            "question": self.question,
            "settings": shared,
            "n_seeds": cleaned["n_seeds"],
            "keep_checkpoints": cleaned["keep_checkpoints"],
        }
        if self.question == "grid":
            fixed = {f"config.{name}": [value] for name, value in config.items()}
            return {**spec, "grid": {**fixed, **{name: values for name, values in named if name}}}
        if self.question == "learning_curve":
            return {**spec, "shares": read_list(cleaned["shares"])}
        arms = [(name, *parted(changes)) for name, changes in named if name]
        return {**spec, "arms": [{"name": n, "settings": s, "config": {**config, **c}} for n, s, c in arms]}

    def add_problems(self, problems: list[FieldError]) -> None:
        for problem in problems:
            name = problem.pointer.removeprefix("/spec").strip("/").split("/")[0]
            field = {"settings": "shared"}.get(name, name)
            self.add_error(field if field in self.fields else None, problem.detail)


def parted(settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings of the training, and those of the reward model without their prefix."""
    own = {name: value for name, value in settings.items() if not name.startswith("config.")}
    return own, {name[7:]: value for name, value in settings.items() if name.startswith("config.")}


def labelled_choices(*, project: Project) -> list[tuple[str, str]]:
    """Sources with pairs, then datasets without any, which may hold labelled responses."""
    others = Dataset.objects.filter(project=project, deleted_at=None, state="ready", n_preferences=0, n_responses__gt=0)
    rows = [(f"dataset:{d.uid}", f"{d.name} ({d.n_responses} responses)") for d in others.order_by("-pk")[:200]]
    return [*source_choices(project=project), *rows]
