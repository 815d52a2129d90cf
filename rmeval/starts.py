"""Which checkpoints a training can go on from: those with weights of the same backbone."""

from typing import Any

from annotator.errors import FieldError, InvalidInput
from annotator.models import Project
from rmeval.models import Checkpoint, RewardModel


def start_choices(reward_model: RewardModel, limit: int = 500) -> list[tuple[str, str]]:
    rows = Checkpoint.objects.filter(reward_model__project=reward_model.project, reward_model__deleted_at=None)
    found = rows.exclude(path="").select_related("reward_model").order_by("-pk")[:limit]
    return [(str(one.uid), str(one)) for one in found if not unfit_start(one, reward_model)]


def check_start(project: Project, spec: dict[str, Any], reward_model: RewardModel | None) -> None:
    """InvalidInput for a start that the run could only fail with."""
    uid = spec.get("start_from")
    if not uid or reward_model is None:
        return
    rows = Checkpoint.objects.filter(reward_model__project=project, uid=uid).select_related("reward_model")
    if why := unfit_start(rows.get(), reward_model):
        raise InvalidInput(why, errors=[FieldError("/spec/start_from", "does_not_fit", why)])


def unfit_start(checkpoint: Checkpoint, reward_model: RewardModel) -> str:
    """Why its weights are no start for the reward model; empty where they may be."""
    if not checkpoint.path:
        return f"{checkpoint} has no weights to start from: choose a trained checkpoint."
    own, other = (model.config.get("backbone") for model in (reward_model, checkpoint.reward_model))
    if own and other and own != other:
        return f"{checkpoint} has the backbone {other}; this reward model has {own}. Choose one with the same backbone."
    return ""
