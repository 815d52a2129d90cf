"""A job's spec checked: errors with JSON pointers, and references that must be of the project."""

from typing import Any
from uuid import UUID

from pydantic import BaseModel

from annotator.errors import FieldError, InvalidInput, NotFound
from annotator.models import Project
from annotator.validation import require_storable
from rmeval.models import Checkpoint, RewardModel
from rmeval.sources import check_ready, source_of
from workers.errors import SpecError
from workers.families import FAMILIES
from workers.jobs import JOBS
from workers.jobs.train_rm import objective_of
from workers.registry import UnknownName
from workers.specs import parse_spec


def problems(error: SpecError) -> list[FieldError]:
    return [FieldError(item["pointer"], item["code"], item["detail"]) for item in error.errors]


def in_words(errors: list[FieldError]) -> str:
    return "; ".join(f"{field_of(error.pointer)}: {error.detail}" for error in errors)


def field_of(pointer: str) -> str:
    """The last name of a pointer; with the place in it where it ends in one: /spec/responses/0 -> responses/0."""
    parts = pointer.split("/")
    n = next((n for n, part in enumerate(reversed(parts), start=1) if not part.isdecimal()), len(parts))
    return "/".join(parts[-n:])


def job_of(kind: str) -> Any:
    """A registered job kind, or what is known instead."""
    try:
        return JOBS.get(kind)
    except UnknownName as error:
        raise InvalidInput(
            str(error), code="unknown_kind", errors=[FieldError("/kind", "unknown_kind", str(error))]
        ) from error


def spec_clean(job: Any, spec: object) -> dict[str, Any]:
    """The full spec with its defaults as it will be kept, or every wrong value named."""
    if not isinstance(spec, dict):
        raise InvalidInput("spec must be a JSON object.", errors=[FieldError("/spec", "type", "Not an object.")])
    require_storable(spec, "/spec")
    try:
        cleaned: BaseModel = parse_spec(job.Spec, spec, at="/spec")
    except SpecError as error:
        errors = problems(error)
        raise InvalidInput(f"The spec has wrong values. {in_words(errors)}", errors=errors) from error
    return cleaned.model_dump(mode="json")


def as_uid(value: object, pointer: str) -> UUID:
    try:
        return UUID(str(value))
    except ValueError as error:
        detail = "This is not a uid."
        raise InvalidInput(detail, errors=[FieldError(pointer, "uid", detail)]) from error


def missing(detail: str, pointer: str) -> NotFound:
    return NotFound(detail, code="unknown_reference", errors=[FieldError(pointer, "unknown_reference", detail)])


def check_reward_model(project: Project, value: Any, pointer: str) -> None:
    if not RewardModel.objects.filter(project=project, deleted_at=None, uid=as_uid(value, pointer)).exists():
        raise missing("This project has no such reward model.", pointer)


def check_checkpoint(project: Project, value: Any, pointer: str) -> None:
    if not Checkpoint.objects.filter(reward_model__project=project, uid=as_uid(value, pointer)).exists():
        raise missing("This project has no such checkpoint.", pointer)


def check_source(
    project: Project, value: Any, pointer: str, *, needs_preferences: bool = True, least_decided: int = 1
) -> None:
    for key in ("dataset", "snapshot"):
        if value.get(key):
            as_uid(value[key], f"{pointer}/{key}")
    source = source_of(project, value, pointer=pointer)
    check_ready(source, pointer=pointer, needs_preferences=needs_preferences, least_decided=least_decided)


def needs_preferences(job: Any, spec: dict[str, Any], reward_model: RewardModel | None) -> bool:
    """Does the job learn from, or measure on, pairs with a preference? A job that does not always, says when."""
    decide = getattr(job, "needs_preferences", None)
    if decide is None or reward_model is None:
        return True
    return bool(decide(parse_spec(job.Spec, spec), reward_model.family, reward_model.config))


def check_fit(job: Any, spec: dict[str, Any], reward_model: RewardModel | None) -> None:
    """What a job asks of the family of its reward model, refused before the run starts rather than in it."""
    check = getattr(job, "check", None)
    if check is None or reward_model is None:
        return
    try:
        parsed = parse_spec(job.Spec, spec)
        check(parsed, reward_model.family, reward_model.config)
        check_config(job, parsed, reward_model)
    except SpecError as error:
        errors = [FieldError(f"/spec{e['pointer']}", e["code"], e["detail"]) for e in error.errors]
        raise InvalidInput(in_words(errors), errors=errors) from error


def check_config(job: Any, spec: Any, reward_model: RewardModel) -> None:
    """What a training asks of the settings of its reward model. SpecError where it would fail whatever the data."""
    refuses = getattr(FAMILIES.get(reward_model.family), "refuses", None)
    if job.name != "train_rm" or refuses is None:
        return
    objective = objective_of(spec, reward_model.family, reward_model.config)
    if problem := refuses(reward_model.config, objective.name, spec):
        raise SpecError([problem])


def check_references(project: Project, spec: dict[str, Any]) -> None:
    """Every model and checkpoint a spec names must be of its project. Fields mean the same in every job.

    An empty text names nothing, and is refused like any other that is no uid.
    """
    if spec.get("reward_model") is not None:
        check_reward_model(project, spec["reward_model"], "/spec/reward_model")
    if spec.get("checkpoint") is not None:
        check_checkpoint(project, spec["checkpoint"], "/spec/checkpoint")
    for index, uid in enumerate(spec.get("checkpoints") or []):
        check_checkpoint(project, uid, f"/spec/checkpoints/{index}")
    for name in ("start_from", "earlier", "later", "implicit"):
        if spec.get(name) is not None:
            check_checkpoint(project, spec[name], f"/spec/{name}")


def check_sources(
    project: Project, spec: dict[str, Any], *, needs_preferences: bool = True, least_decided: int = 1
) -> None:
    """Every source a spec names must be of its project, readable and not empty."""
    if spec.get("source"):
        check_source(
            project,
            spec["source"],
            "/spec/source",
            needs_preferences=needs_preferences,
            least_decided=least_decided,
        )
    for index, source in enumerate(spec.get("evaluate_on") or []):
        check_source(project, source, f"/spec/evaluate_on/{index}")
    if spec.get("reannotated"):
        check_source(project, spec["reannotated"], "/spec/reannotated", needs_preferences=needs_preferences)
    places = spec["settings"] if isinstance(spec.get("settings"), list) else []
    for index, place in enumerate(places):
        check_source(project, place["source"], f"/spec/settings/{index}/source")
