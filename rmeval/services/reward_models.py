"""Reward models and their checkpoints."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from pydantic import BaseModel

from annotator.errors import DomainError, FieldError, InvalidInput
from annotator.live import poke
from annotator.models import Project, User
from annotator.validation import require_storable
from rmeval.backbones import ALLOWED_NAMES, BUILT_IN, CAUSAL_NAMES, ENCODERS, is_hub_id, is_path
from rmeval.models import Checkpoint, RewardModel, Run
from rmeval.specs import in_words, problems
from workers.data.vocabularies import folder_difference
from workers.errors import SpecError
from workers.families import FAMILIES
from workers.families.implicit import NONE, START
from workers.registry import UnknownName
from workers.specs import parse_spec


def family_of(name: str) -> Any:
    """A registered family, or what is known instead."""
    try:
        return FAMILIES.get(name)
    except UnknownName as error:
        raise InvalidInput(
            str(error), code="unknown_family", errors=[FieldError("/family", "unknown_family", str(error))]
        ) from error


def config_clean(family: Any, config: dict[str, Any], *, pointer: str = "/config") -> dict[str, Any]:
    """The full configuration with its defaults, or every wrong value named."""
    try:
        cleaned: BaseModel = parse_spec(family.Config, config, at=pointer)
    except SpecError as error:
        errors = problems(error)
        raise InvalidInput(f"The configuration has wrong values. {in_words(errors)}", errors=errors) from error
    return cleaned.model_dump(mode="json")


def backbone_check(
    config: dict[str, Any], *, model_dirs: list[Path], pointer: str = "/config", field: str = "backbone"
) -> None:
    """Refuse a backbone that cannot exist: no built-in name, no hub id by its form, or a folder without a model.

    A folder must lie where the site's operator opened one. Otherwise anybody who may register a model could read what
    lies elsewhere on the server; so that is asked first, and a refusal does not say what is there. A reference that a
    backbone is compared with is held to the same, and to the same tokens as far as both lie in folders.
    """
    _name_check(str(config.get(field) or ""), model_dirs=model_dirs, at=f"{pointer}/{field}")
    reference = str(config.get("reference") or "")
    if field != "backbone" or reference in ("", START, NONE):
        return
    _name_check(reference, model_dirs=model_dirs, at=f"{pointer}/reference", what="reference")
    folders = [Path(name).expanduser() for name in (str(config.get("backbone") or ""), reference)]
    if difference := folder_difference(*folders, names=("backbone", "reference")):
        detail = f"{difference[:1].upper()}{difference[1:]}. A log-ratio needs two models that read the same tokens."
        raise refused_backbone(detail, f"{pointer}/reference", "other_tokenizer")


def _name_check(name: str, *, model_dirs: list[Path], at: str, what: str = "backbone") -> None:
    if not name or name in BUILT_IN:
        return
    unknown = refused_backbone(f"There is no {what} called {name}. {ALLOWED_NAMES}", at, "unknown_backbone")
    try:
        folder = Path(name).expanduser()
        is_here = folder.exists()
    except (OSError, RuntimeError) as error:  # a name too long for a file; the home of nobody
        raise unknown from error
    if not is_path(name) and not is_here:
        if not is_hub_id(name):
            raise unknown
        return
    if not any(folder.resolve().is_relative_to(allowed) for allowed in model_dirs):
        detail = (
            f"The folder {name} is not open to this site. Give a Hugging Face id, or have STEELYARD_MODEL_DIRS name it."
        )
        raise refused_backbone(detail, at, "folder_not_allowed")
    if not (folder / "config.json").is_file():
        detail = f"There is no model in the folder {name}: it holds no config.json. {ALLOWED_NAMES}"
        raise refused_backbone(detail, at, "no_model_in_folder")


def refused_backbone(detail: str, pointer: str, code: str) -> InvalidInput:
    return InvalidInput(detail, errors=[FieldError(pointer, code, detail)])


@transaction.atomic
def reward_model_register(
    *,
    project: Project,
    name: str,
    family: str,
    config: dict[str, Any],
    user: User | None,
    description: str = "",
) -> RewardModel:
    """Register a reward model. A family that needs no training can score at once, so it gets its checkpoint here."""
    name = name.strip()
    if not name:
        raise InvalidInput("Give the reward model a name.", errors=[FieldError("/name", "required", "Give a name.")])
    if len(name) > 200:
        raise InvalidInput(
            "The name is longer than 200 characters.",
            errors=[FieldError("/name", "too_long", "At most 200 characters.")],
        )
    require_storable({"name": name, "description": description, "config": config}, "")
    found = family_of(family)
    config = config_clean(found, config)
    backbone_check(config, model_dirs=settings.MODEL_DIRS)
    if getattr(found, "causal_only", False) and config.get("backbone") in ENCODERS:
        detail = f"{config['backbone']} is an encoder; the family {family} needs a causal language model."
        raise refused_backbone(f"{detail} {CAUSAL_NAMES}", "/config/backbone", "not_causal")
    try:
        with transaction.atomic():
            reward_model = RewardModel.objects.create(
                project=project, name=name, family=family, config=config, created_by=user, description=description
            )
    except IntegrityError as error:
        detail = f"This project already has a reward model named {name}. Choose another name."
        raise DomainError(detail, code="name_taken", errors=[FieldError("/name", "name_taken", detail)]) from error
    if not found.trainable:
        checkpoint_create(reward_model=reward_model)
    poke(f"project.{project.uid}", "reward_model")
    return reward_model


@transaction.atomic
def reward_model_of_run(*, run: Run, name: str, family: str, config: dict[str, Any]) -> RewardModel:
    """The reward model a run makes for its checkpoints: registered once, whatever attempt asks."""
    if run.reward_model is None:
        run.reward_model = reward_model_register(
            project=run.project, name=name, family=family, config=config, user=run.created_by
        )
        Run.objects.filter(pk=run.pk).update(reward_model=run.reward_model)
    return run.reward_model


@transaction.atomic
def checkpoint_create(
    *,
    reward_model: RewardModel,
    run: Run | None = None,
    path: str = "",
    sha256: str = "",
    step: int | None = None,
    metrics: dict[str, Any] | None = None,
) -> Checkpoint:
    """The next checkpoint of a reward model; the lock keeps two runs from taking one number."""
    RewardModel.objects.select_for_update().get(pk=reward_model.pk)
    last = Checkpoint.objects.filter(reward_model=reward_model).order_by("-number").first()
    return Checkpoint.objects.create(
        reward_model=reward_model,
        number=last.number + 1 if last else 1,
        run=run,
        path=path,
        sha256=sha256,
        step=step,
        metrics=metrics or {},
    )
