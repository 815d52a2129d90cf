"""Submitting and correcting answers. Nothing a rater did is ever overwritten: a correction is a new version."""

import math
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from django.db import connection, transaction

from annotator.errors import DomainError
from annotator.live import poke
from annotator.models import Assignment, Judgement, Queue
from annotator.services import slots
from annotator.services.answer_checks import answers_check, answers_on_screen
from annotator.services.assignments import ANSWERED, exclude, require_unended, shown_check
from annotator.task_types import CheckedAnswers
from annotator.validation import invalid, require_storable

UPSERT_COUNTS = """
INSERT INTO annotator_queuerater AS counts (queue_id, rater_id, n_submitted, n_skipped, n_surplus, active_s, last_at)
VALUES (%(queue)s, %(rater)s, %(submitted)s, 0, %(surplus)s, %(active_s)s, %(now)s)
ON CONFLICT (queue_id, rater_id) DO UPDATE SET
  n_submitted = counts.n_submitted + EXCLUDED.n_submitted, n_surplus = counts.n_surplus + EXCLUDED.n_surplus,
  active_s = counts.active_s + EXCLUDED.active_s, last_at = EXCLUDED.last_at
"""


@transaction.atomic
def judgement_submit(
    *,
    assignment: Assignment,
    answers: object,
    active_seconds: float,
    idempotency_key: str,
    now: datetime,
    shown: object = None,
    form_version: int | None = None,
) -> Judgement:
    """Record an answer. The same key again returns the first result and adds nothing.

    A late answer is never refused: it fills a slot of the item that is still free, else it is kept as surplus.
    """
    key_check(idempotency_key)
    slots.rater_lock(assignment.queue_id, assignment.rater_id)
    earlier = Judgement.objects.filter(rater_id=assignment.rater_id, idempotency_key=idempotency_key).first()
    if earlier is not None:
        return replay(earlier, assignment)
    form_version_check(assignment, form_version)
    checked = answers_check(assignment.form_version.questions, answers, a_is_left=assignment.a_is_left)
    presentation = shown_check(shown) if shown is not None else assignment.shown
    active_s = active_check(active_seconds, assignment=assignment, now=now)
    end_assignment(assignment, now=now, active_s=active_s, shown=presentation)
    slot_id = slots.slot_fill(
        slot_id=assignment.slot_id,
        item_id=assignment.item_id,
        rater_id=assignment.rater_id,
        lease_token=assignment.lease_token,
    )
    if slot_id is None:
        exclude(item_id=assignment.item_id, rater_id=assignment.rater_id, reason=ANSWERED)
    elif slot_id != assignment.slot_id:
        Assignment.objects.filter(pk=assignment.pk).update(slot=slot_id)
    judgement = insert_version(assignment, checked, key=idempotency_key, active_s=active_s, is_surplus=slot_id is None)
    poke(f"queue.{assignment.queue.uid}", "submit")
    return judgement


def insert_version(
    assignment: Assignment, checked: CheckedAnswers, *, key: str, active_s: float, is_surplus: bool
) -> Judgement:
    """The new current judgement; an earlier version of this rater stays, no longer current."""
    superseded = slots.run(
        "UPDATE annotator_judgement SET is_current = false"
        " WHERE item_id = %(item)s AND rater_id = %(rater)s AND is_current RETURNING version, active_s",
        item=assignment.item_id,
        rater=assignment.rater_id,
    )
    version, active_before = superseded or (0, 0.0)
    judgement = Judgement.objects.create(
        queue_id=assignment.queue_id,
        item_id=assignment.item_id,
        rater_id=assignment.rater_id,
        assignment_id=assignment.pk,
        version=version + 1,
        is_surplus=is_surplus,
        verdict=checked.verdict,
        preference_strength=checked.preference_strength,
        answers=checked.answers,
        active_s=active_s,
        idempotency_key=key,
        form_version_id=assignment.form_version_id,
        guidelines_version_id=assignment.guidelines_version_id,
    )
    is_first = version == 0
    count(
        assignment,
        submitted=int(is_first and not is_surplus),
        surplus=int(is_first and is_surplus),
        active_s=active_s - active_before,
        now=judgement.created_at,
    )
    return judgement


def count(assignment: Assignment, **values: Any) -> None:
    """Counters of the rater, in the same transaction; only this rater's own requests write them."""
    with connection.cursor() as cursor:
        cursor.execute(UPSERT_COUNTS, {"queue": assignment.queue_id, "rater": assignment.rater_id, **values})


def end_assignment(assignment: Assignment, *, now: datetime, active_s: float, shown: dict[str, Any]) -> None:
    """Compare-and-set to submitted. An expired lease may still submit; a skipped or submitted item may not."""
    unended = Assignment.objects.filter(pk=assignment.pk, state__in=(Assignment.State.ACTIVE, Assignment.State.EXPIRED))
    ended = unended.update(state=Assignment.State.SUBMITTED, ended_at=now, active_s=active_s, shown=shown)
    assignment.refresh_from_db(fields=["state", "slot", "lease_token"])
    if not ended:
        require_unended(assignment)


def replay(earlier: Judgement, assignment: Assignment) -> Judgement:
    if earlier.assignment_id != assignment.pk:
        raise DomainError(
            "This idempotency key was used for another item. Take a new one for each item.", code="key_reused"
        )
    return earlier


def key_check(key: str) -> None:
    require_storable(key, "/idempotency_key")
    if not 1 <= len(key) <= 64:
        raise invalid("/idempotency_key", "length", "A key has 1 to 64 characters, for example a UUID.")


def form_version_check(assignment: Assignment, given: int | None) -> None:
    shown = assignment.form_version.number
    if given is not None and given != shown:
        raise DomainError(
            f"This answer is for version {given} of the form, but you were shown version {shown}. Reload the item.",
            code="form_version",
            form_version=shown,
        )


def active_check(active_seconds: float, *, assignment: Assignment, now: datetime) -> float:
    """Seconds of attention as the client measured them, at most the time since the item was first shown."""
    if not math.isfinite(active_seconds) or active_seconds < 0:
        raise invalid("/active_seconds", "out_of_range", "Seconds are a number of at least 0.")
    return min(active_seconds, max(0.0, (now - assignment.created_at).total_seconds()))


@transaction.atomic
def judgement_reopen(*, assignment: Assignment, now: datetime, window: timedelta) -> Assignment:
    """Take back the last submitted answer to correct it. It counts as it is until a new version is submitted."""
    slots.rater_lock(assignment.queue_id, assignment.rater_id)
    assignment.refresh_from_db(fields=["state", "slot", "lease_token", "draft", "draft_version"])
    if assignment.state == Assignment.State.ACTIVE:
        return assignment
    judgement = assignment.judgements.filter(is_current=True).first()
    if judgement is None:
        raise DomainError("This item has no answer to reopen.", code="not_submitted")
    require_reopenable(judgement, assignment, now=now, window=window)
    token = uuid4()
    until = now + assignment.queue.lease
    held = slots.slot_reopen(slot_id=assignment.slot_id, rater_id=assignment.rater_id, lease_token=token, until=until)
    if not held:
        raise DomainError("This item can no longer be reopened.", code="not_reopenable")
    assignment.lease_token = token
    assignment.state = Assignment.State.ACTIVE
    assignment.ended_at = None
    assignment.draft = answers_on_screen(assignment.form_version.questions, judgement.answers)
    assignment.draft_version += 1
    assignment.draft_at = now
    assignment.save(update_fields=["lease_token", "state", "ended_at", "draft", "draft_version", "draft_at"])
    return assignment


def require_reopenable(judgement: Judgement, assignment: Assignment, *, now: datetime, window: timedelta) -> None:
    if assignment.queue.state == Queue.State.CLOSED:
        raise DomainError("This queue is closed; its answers are final.", code="queue_closed")
    if judgement.is_surplus:
        raise DomainError("This answer arrived late and was kept as surplus; it cannot be reopened.", code="surplus")
    if now - judgement.created_at > window:
        minutes = round(window.total_seconds() / 60)
        raise DomainError(f"An answer can be reopened for {minutes} minutes.", code="undo_window_over")
    last = last_submitted(queue_id=assignment.queue_id, rater_id=assignment.rater_id)
    if last is not None and last.pk != assignment.pk:
        raise DomainError("Only your last answer can be reopened.", code="not_last")


def last_submitted(*, queue_id: int, rater_id: int) -> Assignment | None:
    """The rater's most recent answer in this queue."""
    recent = Assignment.objects.filter(queue_id=queue_id, rater_id=rater_id).order_by("-id")[:50]
    submitted = [row for row in recent if row.state == Assignment.State.SUBMITTED and row.ended_at]
    return max(submitted, key=lambda row: row.ended_at or row.created_at, default=None)
