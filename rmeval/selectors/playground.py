"""Reads behind the playground: which checkpoints can score a typed text, and the texts to begin with."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import OuterRef, Subquery

from annotator.errors import NotFound
from annotator.models import Dataset, Example, Project
from rmeval.conversation_text import write_messages
from rmeval.models import Checkpoint, RewardModel, Run
from rmeval.sources import reference_of
from workers.families import FAMILIES
from workers.jobs.score_text import MOST_RESPONSES
from workers.person import TAKES_PAIRS

KIND = "score_text"
MOST_MODELS = 50
USUAL_RESPONSES = 2


@dataclass(frozen=True)
class Candidate:
    """The newest checkpoint of a reward model, or why the model cannot score a typed text."""

    name: str
    family: str
    reward_model: UUID
    checkpoint: UUID | None
    label: str
    tells: tuple[str, ...]
    why_not: str
    takes_person: bool = False


TOLD = {
    "attributes": "ratings of attributes",
    "per_token": "a reward a token",
    "per_step": "a reward a step",
    "heads": "several heads",
    "gaussian": "a spread",
    "router": "depends on a criterion",
    "person_pairs": "knows a person by pairs",
    "reference": "needs a reference answer",
}


def candidates(*, project: Project, extra: Collection[UUID] = ()) -> list[Candidate]:
    """Every reward model with its newest checkpoint, those that fit first; `extra` names older checkpoints to offer."""
    newest = Checkpoint.objects.filter(reward_model=OuterRef("pk")).order_by("-number").values("pk")[:1]
    models = RewardModel.objects.filter(project=project, deleted_at=None).annotate(newest=Subquery(newest))
    rows = list(models.order_by("-pk")[:MOST_MODELS])
    wanted = [row.newest for row in rows if row.newest]
    known = Checkpoint.objects.filter(reward_model__project=project, reward_model__deleted_at=None)
    checkpoints = {c.pk: c for c in known.filter(pk__in=wanted).select_related("reward_model")}
    found = [candidate(row, checkpoints.get(row.newest)) for row in rows]
    offered = {one.checkpoint for one in found}
    if older := [uid for uid in extra if uid not in offered]:
        for checkpoint in known.filter(uid__in=older).select_related("reward_model"):
            found.append(candidate(checkpoint.reward_model, checkpoint))
    return sorted(found, key=lambda one: bool(one.why_not))


def candidate(model: RewardModel, checkpoint: Checkpoint | None) -> Candidate:
    family: Any = FAMILIES.get(model.family) if model.family in FAMILIES else None
    words = family.capabilities if family is not None else frozenset()
    return Candidate(
        name=model.name,
        family=model.family,
        reward_model=model.uid,
        checkpoint=checkpoint.uid if checkpoint else None,
        label=str(checkpoint) if checkpoint else model.name,
        tells=tuple(text for word, text in TOLD.items() if word in words),
        why_not=why_not(family, checkpoint),
        takes_person=TAKES_PAIRS in words,
    )


def why_not(family: Any, checkpoint: Checkpoint | None) -> str:
    """Why a reward model cannot be asked; empty where it can."""
    if family is None:
        return "its family is not part of this installation"
    if checkpoint is None:
        return "it has no checkpoint yet: train it first"
    if "imported" in family.capabilities:
        return "its scores come from a file: none are computed"
    if "pointwise" not in family.capabilities:
        return "it compares responses and gives no reward to one alone"
    return ""


def example_texts(*, project: Project, uid: str) -> dict[str, str]:
    """The fields of the form as an example of the project fills them."""
    try:
        wanted = UUID(uid)
    except ValueError as error:
        raise NotFound("This project has no such example.") from error
    rows = Example.objects.filter(uid=wanted, dataset__project=project, dataset__deleted_at=None)
    example = rows.select_related("dataset").prefetch_related("responses").first()
    if example is None:
        raise NotFound("This project has no such example.")
    responses = sorted(example.responses.all(), key=lambda response: response.number)[:MOST_RESPONSES]
    reference = reference_of(example.meta)
    return {
        "dataset": str(example.dataset.uid),
        "position": str(example.position),
        "conversation": write_messages(example.prompt, role="user"),
        **{f"response_{n}": write_messages(r.messages, role="assistant") for n, r in enumerate(responses, start=1)},
        "reference": reference[0]["content"] if reference else "",
    }


def next_example(*, dataset: Dataset, position: int) -> Example | None:
    """The example at this place of a dataset, else the first one behind it; round again at the end."""
    rows = Example.objects.filter(dataset=dataset).order_by("pk")
    return rows.filter(position__gte=position).first() or rows.first()


def run_texts(run: Run) -> dict[str, Any]:
    """The fields of the form as an earlier run filled them."""
    spec = run.spec
    texts = spec.get("responses") or []
    return {
        "conversation": write_messages(spec["prompt"], role="user"),
        **{f"response_{n}": write_messages(t["messages"], role="assistant") for n, t in enumerate(texts, start=1)},
        "reference": spec.get("reference", ""),
        "context": spec.get("context", ""),
        "checkpoints": spec["checkpoints"],
    }


def text_runs(*, project: Project, limit: int = 8) -> list[Run]:
    return list(Run.objects.filter(project=project, kind=KIND).select_related("created_by").order_by("-pk")[:limit])


def datasets_to_pick(*, project: Project, limit: int = 100) -> list[Dataset]:
    rows = Dataset.objects.filter(project=project, deleted_at=None, state="ready", n_examples__gt=0)
    return list(rows.order_by("-pk")[:limit])
