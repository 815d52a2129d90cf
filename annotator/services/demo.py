"""The demo project: people, our own data through the ordinary import, a queue half labelled, a snapshot."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import uuid5

from django.db import transaction

from annotator.errors import DomainError
from annotator.models import Assignment, Dataset, Example, Item, Membership, Project, Queue, Rater, Role, User
from annotator.services.assignments import assignment_claim
from annotator.services.datasets import ImportRequest
from annotator.services.judgements import judgement_submit
from annotator.services.projects import project_create
from annotator.services.queues import queue_create
from annotator.services.snapshots import snapshot_cut
from annotator.services.uploads import dataset_import_file
from workers.data.demo import REASONS, demo_examples, demo_guidelines, judge
from workers.data.demo.rows import Row
from workers.data.rows import Limits

NAME = "Demo: which response is better?"
DESCRIPTION = (
    "A worked example of the whole loop with texts written for it: import, label, train, compare, export. "
    "`ann1` and `ann2` have labelled a part of the queue; log in as one of them and go on."
)
PEOPLE = {
    "lead": Role.LEAD,
    "ann1": Role.ANNOTATOR,
    "ann2": Role.ANNOTATOR,
    "researcher": Role.RESEARCHER,
    "viewer": Role.VIEWER,
}
RATERS = ("ann1", "ann2")
N_JUDGED = 60
STARTED_BEFORE = timedelta(hours=3)
PAUSE = timedelta(seconds=2)
LICENCE = "Apache-2.0 (written for Steelyard)"

Part = Callable[[Row], bool]
DATASETS: dict[str, tuple[str, Part]] = {
    "everyday": ("Everyday prompts", lambda row: row["kind"] == "everyday" and row["split"] == "train"),
    "verifiable": ("Verifiable tasks", lambda row: row["kind"] == "verifiable" and row["split"] == "train"),
    "test": ("Held-out test prompts", lambda row: row["split"] == "test"),
}


class DemoNamesTaken(DomainError):
    code = "demo_names_taken"
    title = "The demo cannot be loaded"


@dataclass(frozen=True, slots=True)
class Demo:
    """What the demo consists of; `is_new` says whether this call made the project."""

    project: Project
    people: dict[str, User]
    datasets: dict[str, Dataset]
    is_new: bool


def demo_load(*, password: str, now: datetime, clock: Callable[[], datetime], limits: Limits) -> Demo:
    """Make what is missing of the demo; a second call changes nothing."""
    existing = Project.objects.filter(is_demo=True, archived_at=None).order_by("pk").first()
    people = demo_people(project=existing, password=password)
    project = existing or demo_project(people)
    datasets = {
        key: demo_dataset(project, people["researcher"], name, part, clock=clock, limits=limits)
        for key, (name, part) in DATASETS.items()
    }
    demo_queues(project, people, datasets, now=now)
    return Demo(project, people, datasets, is_new=existing is None)


@transaction.atomic
def demo_people(*, project: Project | None, password: str) -> dict[str, User]:
    """The demo's users. Somebody real who happens to have one of the names is never touched."""
    known = {user.username: user for user in User.objects.filter(username__in=PEOPLE)}
    ours = set(Membership.objects.filter(project__is_demo=True).values_list("user__username", flat=True))
    taken = sorted(set(known) - ours)
    if taken:
        names = ", ".join(taken)
        raise DemoNamesTaken(f"There are users {names} who do not belong to the demo; it was not loaded.")
    for name in PEOPLE:
        if name not in known:
            known[name] = User.objects.create_user(username=name, password=password)
        elif project is None:  # a new demo for the people of an old one
            known[name].set_password(password)
            known[name].save(update_fields=["password"])
    return known


@transaction.atomic
def demo_project(people: dict[str, User]) -> Project:
    project = project_create(name=NAME, creator=people["lead"], description=DESCRIPTION, is_demo=True)
    others = [name for name in PEOPLE if name != "lead"]
    Membership.objects.bulk_create(
        [Membership(project=project, user=people[name], role=PEOPLE[name]) for name in others]
    )
    return project


@transaction.atomic
def demo_reset(*, now: datetime) -> int:
    """Put demo projects away so that a new one can be loaded. Nothing is deleted. How many there were."""
    return Project.objects.filter(is_demo=True, archived_at=None).update(
        archived_at=now, name=f"{NAME} ({now:%Y-%m-%d})"
    )


def demo_dataset(
    project: Project, user: User, name: str, part: Part, *, clock: Callable[[], datetime], limits: Limits
) -> Dataset:
    """One dataset of the demo, imported as a file would be."""
    found = Dataset.objects.filter(project=project, name=name, state=Dataset.State.READY, deleted_at=None).first()
    if found is not None:
        return found
    with tempfile.TemporaryFile() as file:
        for row in demo_examples():
            if part(row):
                file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        file.seek(0)
        return dataset_import_file(
            project=project,
            user=user,
            request=ImportRequest(
                name=name, source_name="demo.jsonl", format="responses", licence=LICENCE, allow_duplicate=True
            ),
            stream=file,
            limits=limits,
            clock=clock,
        )


def demo_queues(project: Project, people: dict[str, User], datasets: dict[str, Dataset], *, now: datetime) -> None:
    """A queue that two people have begun, with a snapshot of it, and one that nobody has."""
    if project.queues.filter(deleted_at=None).exists():
        return
    with transaction.atomic():
        begun = demo_queue(project, people["lead"], "everyday", datasets["everyday"], overlap=2, now=now)
        demo_judge(begun, people, now=now - STARTED_BEFORE)
        snapshot_cut(queue=begun, created_by=people["lead"], now=now)
        demo_queue(project, people["lead"], "verifiable", datasets["verifiable"], overlap=1, now=now)


def demo_queue(project: Project, lead: User, key: str, dataset: Dataset, *, overlap: int, now: datetime) -> Queue:
    question = {
        "type": "pairwise",
        "name": "preference",
        "points": 7,
        "allow_tie": True,
        "allow_both_bad": True,
        "justification": "optional",
        "reasons": list(REASONS),
    }
    return queue_create(
        project=project,
        dataset=dataset,
        name=f"{dataset.name}: which is better?",
        form=[question],
        created_by=lead,
        now=now,
        rng=Random(0),
        overlap=overlap,
        guidelines=demo_guidelines(key),
        order_policy=Queue.OrderPolicy.DEPTH,
        pairs=first_pairs(dataset),
    )


def first_pairs(dataset: Dataset) -> list[tuple[int, int]]:
    """(response 0, response 1) of every example: what the simulated raters have an opinion on."""
    rows = Example.objects.filter(dataset=dataset, responses__number__lte=1).order_by("pk", "responses__number")
    ids = list(rows.values_list("responses__pk", flat=True))
    return list(zip(ids[0::2], ids[1::2], strict=True))


def demo_judge(queue: Queue, people: dict[str, User], *, now: datetime) -> None:
    """Let both annotators label `N_JUDGED` items through the same services as in the browser."""
    rows = {row["id"]: row for row in demo_examples() if row["kind"] == "everyday"}
    raters = {name: Rater.objects.get_or_create(user=people[name], defaults={"name": name})[0] for name in RATERS}
    rng, clocks = Random(1), dict.fromkeys(RATERS, now)
    for _ in range(N_JUDGED):
        for name, rater in raters.items():
            assignment = assignment_claim(queue=queue, rater=rater, now=clocks[name], rng=rng)
            if assignment is not None:
                clocks[name] += answer(assignment, name, rows, now=clocks[name]) + PAUSE


def answer(assignment: Assignment, name: str, rows: dict[str, Row], *, now: datetime) -> timedelta:
    """Submit what this rater says of the item. Returns the time it took."""
    item = Item.objects.select_related("example", "response_a", "response_b").get(pk=assignment.item_id)
    row = rows[item.example.meta["source_id"]]
    said = judge(row, response_a=item.response_a.number, response_b=item.response_b.number, rater=name)
    took = timedelta(seconds=said["active_s"])
    judgement_submit(
        assignment=assignment,
        answers={"preference": in_screen_terms(said, assignment)},
        active_seconds=said["active_s"],
        idempotency_key=uuid5(item.uid, name).hex,
        now=now + took,
    )
    return took


def in_screen_terms(said: dict[str, Any], assignment: Assignment) -> dict[str, Any]:
    """Raters say left and right; which response that was, the assignment knows."""
    sides = {"a": "left", "b": "right"} if assignment.a_is_left else {"a": "right", "b": "left"}
    return {
        "choice": sides.get(said["verdict"], said["verdict"]),
        "strength": said["preference_strength"],
        "reasons": said["reasons"],
        "justification": said["justification"],
    }
