"""Queues: made, built, edited, paused. Claims and answers are in assignments.py and judgements.py."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any

from django.db import transaction

from annotator.errors import DomainError, InvalidInput
from annotator.live import poke
from annotator.models import AuditEvent, Dataset, FormVersion, GuidelinesVersion, Item, Project, Queue, Slot, User
from annotator.services.answer_checks import form_check, questions_dump
from annotator.services.planner import tables_analyze
from annotator.services.queue_items import (
    INLINE_EXAMPLES,
    MAX_OVERLAP,
    items_from_examples,
    items_from_pairs,
    slots_fit,
)
from annotator.validation import invalid, require_storable

MAX_LISTED_PAIRS = 100_000
MAX_GUIDELINES_BYTES = 200_000
LONGEST_LEASE = timedelta(days=7)


@transaction.atomic
def queue_create(
    *,
    project: Project,
    dataset: Dataset,
    name: str,
    form: object,
    created_by: User | None,
    now: datetime,
    rng: Random,
    overlap: int = 1,
    guidelines: str = "",
    lease: timedelta = timedelta(minutes=10),
    order_policy: str = "",
    pair_policy: str = Queue.PairPolicy.ALL,
    max_pairs: int = 10,
    pairs: Sequence[tuple[int, int]] | None = None,
    seed: int | None = None,
) -> Queue:
    """Make a queue over a dataset and freeze the dataset.

    Small queues come back open; a large one comes back BUILDING and whoever called asks a worker to run
    `queue_build` (see `queue_needs_worker`). `pairs` names (response_a id, response_b id) instead of a policy.
    Without an `order_policy` the overlap decides: see `order_by_overlap`.
    """
    questions = form_check(form)
    settings_check(name=name, overlap=overlap, lease=lease, max_pairs=max_pairs, guidelines=guidelines)
    order_policy = order_policy or order_by_overlap(overlap)
    choices_check(order_policy=order_policy, pair_policy=pair_policy)
    dataset_check(project, dataset)
    queue = Queue.objects.create(
        project=project,
        dataset=dataset,
        name=name.strip(),
        state=Queue.State.BUILDING,
        overlap=overlap,
        lease=lease,
        order_policy=order_policy,
        pair_policy=Queue.PairPolicy.LISTED if pairs is not None else pair_policy,
        max_pairs=max_pairs,
        seed=rng.getrandbits(31) if seed is None else seed,
        enqueued_at=now,
    )
    FormVersion.objects.create(queue=queue, number=1, questions=questions_dump(questions), created_by=created_by)
    GuidelinesVersion.objects.create(queue=queue, number=1, markdown=guidelines, created_by=created_by)
    Dataset.objects.filter(pk=dataset.pk, frozen_at=None).update(frozen_at=now)  # locked by dataset_check
    audit(queue, created_by, "queue.create", dataset=str(dataset.uid), overlap=overlap)
    if pairs is not None:
        items_from_pairs(queue, pairs_check(pairs))
        queue_open(queue)
    elif dataset.n_examples <= INLINE_EXAMPLES:
        items_from_examples(queue)
        queue_open(queue)
    return queue


def queue_needs_worker(queue: Queue) -> bool:
    """Whether the items are still to be made, by a worker that calls `queue_build`."""
    return queue.state == Queue.State.BUILDING


def queue_build(*, queue: Queue) -> int:
    """Make the items of a BUILDING queue part by part; a second call goes on where the first was cut off."""
    while True:
        with transaction.atomic():
            locked = Queue.objects.select_for_update(no_key=True).get(pk=queue.pk)
            if locked.state != Queue.State.BUILDING:
                break
            if items_from_examples(locked):
                locked.state = Queue.State.OPEN if locked.n_items else Queue.State.CLOSED
                locked.save(update_fields=["state"])
            poke(f"queue.{queue.uid}", "built")
            poke_project(locked)
    tables_analyze(Item, Slot)
    return locked.n_items


def queue_open(queue: Queue) -> None:
    """The last step of building. A queue without a single item is refused: there would be nothing to do in it."""
    if queue.n_items == 0:
        raise invalid(
            "/dataset",
            "no_pairs",
            f"No example of {queue.dataset.name} has two responses, so there is nothing to compare.",
        )
    queue.state = Queue.State.OPEN
    queue.save(update_fields=["state"])


def queue_state_set(*, queue: Queue, state: str, actor: User | None) -> None:
    """Pause, close or reopen. What raters hold open can still be submitted; nothing new is given out."""
    if state not in {Queue.State.OPEN, Queue.State.PAUSED, Queue.State.CLOSED}:
        raise invalid("/state", "invalid_choice", "A queue can be set to open, paused or closed.")
    with transaction.atomic():
        changed = Queue.objects.filter(pk=queue.pk).exclude(state=Queue.State.BUILDING).update(state=state)
        if not changed:
            raise DomainError("The queue is still being built; wait until it is open.", code="queue_building")
        audit(queue, actor, "queue.state", state=state)
        poke(f"queue.{queue.uid}", "state")
        poke_project(queue)
    queue.state = state


@transaction.atomic
def queue_overlap_set(*, queue: Queue, overlap: int, actor: User | None) -> None:
    """Plan more or fewer judgements an item. More is an insert; fewer takes open slots only, never work begun."""
    overlap_check(overlap)
    # no_key: a claim that holds a slot shares this row's key, and must not wait for us while we wait for its slot.
    locked = Queue.objects.select_for_update(no_key=True).get(pk=queue.pk)
    if locked.state == Queue.State.BUILDING:
        raise DomainError("The queue is still being built; wait until it is open.", code="queue_building")
    before, locked.overlap = locked.overlap, overlap
    slots_fit(locked)
    locked.save(update_fields=["overlap", "n_slots"])
    audit(queue, actor, "queue.overlap", before=before, after=overlap)
    poke(f"queue.{queue.uid}", "overlap")
    queue.overlap, queue.n_slots = locked.overlap, locked.n_slots


@transaction.atomic
def queue_rename(*, queue: Queue, name: str, actor: User | None) -> None:
    name_check(name)
    Queue.objects.filter(pk=queue.pk).update(name=name.strip())
    audit(queue, actor, "queue.rename", name=name.strip())
    queue.name = name.strip()


@transaction.atomic
def queue_form_edit(*, queue: Queue, form: object, actor: User | None) -> FormVersion:
    """A new version of the form. Answers and items being worked on keep the version they were shown."""
    questions = questions_dump(form_check(form))
    Queue.objects.select_for_update(no_key=True).get(pk=queue.pk)
    newest = queue.form_versions.latest("number")
    if newest.questions == questions:
        return newest
    audit(queue, actor, "queue.form", number=newest.number + 1)
    poke(f"queue.{queue.uid}", "form")
    return FormVersion.objects.create(queue=queue, number=newest.number + 1, questions=questions, created_by=actor)


@transaction.atomic
def queue_guidelines_edit(*, queue: Queue, markdown: str, actor: User | None) -> GuidelinesVersion:
    """A new version of the guidelines; items shown before keep the number they were shown under."""
    require_storable(markdown, "/markdown", max_bytes=MAX_GUIDELINES_BYTES)
    Queue.objects.select_for_update(no_key=True).get(pk=queue.pk)
    newest = queue.guidelines_versions.order_by("-number").first()
    if newest is not None and newest.markdown == markdown:
        return newest
    number = newest.number + 1 if newest else 1
    audit(queue, actor, "queue.guidelines", number=number)
    poke(f"queue.{queue.uid}", "guidelines")
    return GuidelinesVersion.objects.create(queue=queue, number=number, markdown=markdown, created_by=actor)


def settings_check(*, name: str, overlap: int, lease: timedelta, max_pairs: int, guidelines: str) -> None:
    name_check(name)
    overlap_check(overlap)
    require_storable(guidelines, "/guidelines", max_bytes=MAX_GUIDELINES_BYTES)
    if not timedelta(seconds=10) <= lease <= LONGEST_LEASE:
        raise invalid("/lease_s", "out_of_range", "A lease lasts from 10 seconds to 7 days.")
    if not 1 <= max_pairs <= 1000:
        raise invalid("/max_pairs", "out_of_range", "From 1 to 1000 pairs of one example.")


def order_by_overlap(overlap: int) -> str:
    """With several raters an item, finish what is started: agreement can be computed from the first items on."""
    return Queue.OrderPolicy.DEPTH if overlap > 1 else Queue.OrderPolicy.BREADTH


def choices_check(*, order_policy: str, pair_policy: str) -> None:
    if order_policy not in Queue.OrderPolicy.values:
        raise invalid("/order_policy", "invalid_choice", f"One of: {', '.join(Queue.OrderPolicy.values)}.")
    policies = [policy for policy in Queue.PairPolicy.values if policy != Queue.PairPolicy.LISTED]
    if pair_policy not in policies:
        raise invalid("/pair_policy", "invalid_choice", f"One of: {', '.join(policies)}.")


def name_check(name: str) -> None:
    require_storable(name, "/name")
    if not 1 <= len(name.strip()) <= 200:
        raise invalid("/name", "required", "A name has 1 to 200 characters.")


def overlap_check(overlap: int) -> None:
    if not 1 <= overlap <= MAX_OVERLAP:
        raise invalid("/overlap", "out_of_range", f"Overlap is from 1 to {MAX_OVERLAP} raters an item.")


def dataset_check(project: Project, given: Dataset) -> None:
    """Of the dataset as it is now; it stays so until the transaction ends, so that nobody deletes it meanwhile."""
    dataset = Dataset.objects.select_for_update(no_key=True).filter(pk=given.pk).first()
    if dataset is None or dataset.project_id != project.pk or dataset.deleted_at is not None:
        raise invalid("/dataset", "not_found", "There is no such dataset in this project.")
    if dataset.state != Dataset.State.READY:
        raise DomainError(
            f"{dataset.name} is {dataset.get_state_display()}; a queue needs a dataset that is ready.",
            code="dataset_not_ready",
        )


def pairs_check(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    distinct = list(dict.fromkeys(pairs))
    if not distinct:
        raise InvalidInput("No pairs were chosen.", code="no_pairs")
    if len(distinct) > MAX_LISTED_PAIRS:
        raise InvalidInput(
            f"At most {MAX_LISTED_PAIRS} pairs can be listed; narrow the selection.", code="too_many_pairs"
        )
    return distinct


def audit(queue: Queue, actor: User | None, action: str, **detail: Any) -> None:
    AuditEvent.objects.create(
        project_id=queue.project_id, actor=actor, action=action, detail={"queue": str(queue.uid), **detail}
    )


def poke_project(queue: Queue) -> None:
    poke(f"project.{queue.project.uid}", "queues")
