"""Sources that the settings of an objective name, checked like the source of the run itself, before it starts."""

from collections.abc import Iterator
from typing import Any

from annotator.errors import FieldError, InvalidInput
from annotator.models import Project
from rmeval.models import RewardModel
from rmeval.sources import check_ready, source_of
from rmeval.specs import as_uid
from workers.errors import SpecError
from workers.jobs import JOBS
from workers.jobs.base import Source
from workers.jobs.train_rm import TrainRewardModel, objective_of
from workers.jobs.train_study import arms_of
from workers.specs import parse_spec

SETTING = "objective_config"


def check_further_sources(project: Project, kind: str, spec: dict[str, Any], reward_model: RewardModel | None) -> None:
    """For trainings and studies whose spec is known to fit: each source is of the project, ready and not empty."""
    if reward_model is None:
        return
    for pointer, settings, changes in trainings_in(kind, spec):
        own = settings.get(SETTING) or {}
        found = {"objective": settings.get("objective") or "auto", "reward_model": "-", "source": {"dataset": "-"}}
        objective = objective_of(
            parse_spec(TrainRewardModel.Spec, found), reward_model.family, {**reward_model.config, **changes}
        )
        try:
            config: Any = parse_spec(objective.Config, own)
        except SpecError:
            continue  # only where the family takes no objective, and the settings are not looked at
        for name in type(config).model_fields:
            if isinstance(source := getattr(config, name), Source):
                check_responses(project, source.query(), f"{pointer}/{SETTING}/{name}")
        if lacks := getattr(objective, "lacks", lambda _: None)(config):
            name, detail = lacks
            raise InvalidInput(
                f"{name}: {detail}", errors=[FieldError(f"{pointer}/{SETTING}/{name}", "required", detail)]
            )


def trainings_in(kind: str, spec: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(pointer, settings, changes to the reward model's) of the training that a spec asks for, or of every arm."""
    if kind == "train_rm":
        yield "/spec", spec, {}
    elif kind == "train_study":
        job: Any = JOBS.get(kind)
        study = parse_spec(job.Spec, spec)
        for number, arm in enumerate(arms_of(study)):
            is_own = bool({"objective", SETTING} & arm.settings.keys())
            own = f"/spec/arms/{number}/settings" if study.question == "compare" else "/spec/grid"
            yield (own if is_own else "/spec/settings"), {**study.settings, **arm.settings}, arm.config


def check_responses(project: Project, query: dict[str, Any], pointer: str) -> None:
    for key, uid in query.items():
        as_uid(uid, f"{pointer}/{key}")
    source = source_of(project, query, pointer=pointer)
    check_ready(source, pointer=pointer, needs_preferences=False)
    if not source.responses().exists():
        detail = f"{source.name} has no responses."
        raise InvalidInput(detail, code="no_responses", errors=[FieldError(pointer, "no_responses", detail)])
