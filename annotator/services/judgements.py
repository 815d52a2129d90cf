"""Submitting and correcting answers. Nothing a rater did is ever overwritten: a correction is a new version."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from django.db import transaction
from psycopg.types.json import Jsonb

from annotator.access import partial
from annotator.errors import DomainError
from annotator.live import message, poke
from annotator.models import Assignment, Judgement, Queue
from annotator.services import slots
from annotator.services.answer_checks import answers_check, answers_on_screen
from annotator.services.assignments import (
    ANSWERED,
    correction_resume,
    exclude,
    is_correcting,
    require_unended,
    shown_check,
)
from annotator.task_types import CheckedAnswers
from annotator.validation import invalid, require_storable

COUNT = """
INSERT INTO annotator_queuerater AS counts (queue_id, rater_id, n_submitted, n_skipped, n_surplus, active_s, last_at)
{counted}
ON CONFLICT (queue_id, rater_id) DO UPDATE SET
  n_submitted = counts.n_submitted + EXCLUDED.n_submitted, n_surplus = counts.n_surplus + EXCLUDED.n_surplus,
  active_s = counts.active_s + EXCLUDED.active_s, last_at = EXCLUDED.last_at
"""

#: Of a judgement just made; the others are read when somebody asks for them.
MAX_ACTIVE_S = 1000 * 366 * 86_400
SUBMITTED = ("id", "uid", "assignment_id", "version", "is_surplus")
INSERT_JUDGEMENT = f"""
INSERT INTO annotator_judgement
  (uid, created_at, queue_id, item_id, rater_id, assignment_id, is_current, verdict, preference_strength, answers,
   active_s, idempotency_key, form_version_id, guidelines_version_id, is_surplus, version)
SELECT gen_random_uuid(), %(now)s, %(queue)s, %(item)s, %(rater)s, %(assignment)s, true, %(verdict)s,
  %(preference_strength)s, %(answers)s, %(active_s)s, %(key)s, %(form_version)s, %(guidelines_version)s, {{found}}
RETURNING {", ".join(SUBMITTED)}
"""

# Slot before assignment, as the sweep locks them: each part waits for the one that it asks.
FILL = """
filled AS (
  UPDATE annotator_slot AS slot SET state = 2, lease_token = NULL, lease_until = NULL
  FROM annotator_assignment AS assignment
  WHERE assignment.id = %(assignment)s AND assignment.state IN ('active', 'expired') AND slot.id = assignment.slot_id
    AND slot.lease_token = assignment.lease_token AND slot.state = 1 {unless}
  RETURNING slot.id
), ended AS (
  UPDATE annotator_assignment
  SET state = 'submitted', ended_at = %(now)s, active_s = %(active_s)s, shown = coalesce(%(shown)s::jsonb, shown)
  WHERE id = %(assignment)s AND state IN ('active', 'expired') AND (SELECT count(*) FROM filled) >= {at_least}
  RETURNING id
), superseded AS (
  UPDATE annotator_judgement SET is_current = false
  WHERE item_id = %(item)s AND rater_id = %(rater)s AND is_current AND EXISTS (SELECT 1 FROM ended)
  RETURNING version, active_s
)
"""

# A submit as nearly all are: the lease is still held. Does nothing when it is not, or when the key was used before.
SUBMIT = f"""
WITH earlier AS (
  SELECT {
    ", ".join(SUBMITTED)
}, answers = %(answers)s FROM annotator_judgement WHERE rater_id = %(rater)s AND idempotency_key = %(key)s
), {FILL.format(unless="AND NOT EXISTS (SELECT 1 FROM earlier)", at_least=1)}, counted AS (
  {
    COUNT.format(
        counted='''
  SELECT %(queue)s, %(rater)s, CASE WHEN superseded.version IS NULL THEN 1 ELSE 0 END, 0, 0,
    %(active_s)s - coalesce(superseded.active_s, 0), %(now)s
  FROM ended LEFT JOIN superseded ON true'''
    )
}
), inserted AS (
  {INSERT_JUDGEMENT.format(found="false, coalesce(superseded.version, 0) + 1 FROM ended LEFT JOIN superseded ON true")}
)
SELECT * FROM earlier UNION ALL SELECT *, pg_notify('live', %(poke)s)::text IS NOT NULL FROM inserted
"""  # noqa: S608 - constants

# The same in two steps, with a decision about the slot between them.
END = f"""
WITH {FILL.format(unless="", at_least=0)}
SELECT (SELECT id FROM ended), (SELECT id FROM filled), (SELECT version FROM superseded),
       (SELECT active_s FROM superseded)
"""  # noqa: S608 - constants
INSERT = f"""
WITH counted AS ({
    COUNT.format(counted="VALUES (%(queue)s, %(rater)s, %(n_submitted)s, 0, %(n_surplus)s, %(more_active_s)s, %(now)s)")
}) {INSERT_JUDGEMENT.format(found="%(is_surplus)s, %(version)s")}
"""

# Without answers to compare with, those of the earlier judgement count as the same.
BY_KEY = f"""
SELECT {", ".join(SUBMITTED)}, coalesce(answers = %(answers)s::jsonb, true)
FROM annotator_judgement WHERE rater_id = %(rater)s AND idempotency_key = %(key)s
"""  # noqa: S608 - constants


@dataclass(frozen=True, slots=True)
class Submission:
    """An answer that passed every check, for one assignment."""

    assignment: Assignment
    checked: CheckedAnswers
    key: str
    active_s: float
    shown: dict[str, Any] | None
    now: datetime

    def values(self) -> dict[str, Any]:
        """Parameters of the statements."""
        return {
            "now": self.now,
            "queue": self.assignment.queue_id,
            "item": self.assignment.item_id,
            "rater": self.assignment.rater_id,
            "assignment": self.assignment.pk,
            "verdict": self.checked.verdict,
            "preference_strength": self.checked.preference_strength,
            "answers": Jsonb(self.checked.answers),
            "active_s": self.active_s,
            "shown": None if self.shown is None else Jsonb(self.shown),
            "key": self.key,
            "form_version": self.assignment.form_version_id,
            "guidelines_version": self.assignment.guidelines_version_id,
        }


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
    try:
        form_version_check(assignment, form_version)
        submission = Submission(
            assignment=assignment,
            checked=answers_check(assignment.form_version.questions, answers, a_is_left=assignment.a_is_left),
            key=idempotency_key,
            active_s=active_check(active_seconds, assignment=assignment, now=now),
            shown=shown_check(shown) if shown is not None else None,
            now=now,
        )
    except DomainError:  # what was accepted once is not judged again
        if row := slots.run(BY_KEY, rater=assignment.rater_id, key=idempotency_key, answers=None):
            return replay(row, assignment)
        raise
    return submit_quickly(submission) or submit_carefully(submission)


def submit_quickly(submission: Submission) -> Judgement | None:
    """Lock and submit in one round trip. None, and nothing changed, when the assignment does not hold its slot."""
    row = slots.run_locked(
        slots.RATER_LOCK + slots.KEY_LOCK, SUBMIT, poke=poke_text(submission.assignment), **submission.values()
    )
    return replay(row, submission.assignment) if row else None


@transaction.atomic
def submit_carefully(submission: Submission) -> Judgement:
    """A lease that ran out, a correction that did, or an item that has ended: a decision between two statements."""
    assignment = submission.assignment
    slots.rater_lock(assignment.queue_id, assignment.rater_id, key=submission.key)
    if row := slots.run(BY_KEY, **submission.values()):
        return replay(row, assignment)
    ended = assignment_end(submission)
    is_first = ended.version == 0
    row = slots.run(
        INSERT,
        **submission.values(),
        version=ended.version + 1,
        is_surplus=ended.is_surplus,
        n_submitted=int(is_first and not ended.is_surplus),
        n_surplus=int(is_first and ended.is_surplus),
        more_active_s=submission.active_s - ended.active_s,
    )
    poke(f"queue.{assignment.queue.uid}", "submit")
    return made(row or ())


def poke_text(assignment: Assignment) -> str:
    return message(f"queue.{assignment.queue.uid}", "submit")


def made(row: tuple[Any, ...]) -> Judgement:
    return partial(Judgement, **dict(zip(SUBMITTED, row, strict=True)))


@dataclass(frozen=True, slots=True)
class Ended:
    """How a submit ended its assignment, and the version it supersedes (0: none)."""

    is_surplus: bool
    version: int
    active_s: float


def assignment_end(submission: Submission) -> Ended:
    """Compare-and-set to submitted and fill the slot. An expired lease may still submit; a skipped item may not."""
    assignment = submission.assignment
    ended, slot_id, version, active_before = slots.run(END, **submission.values()) or (None, None, None, None)
    if ended is None:
        assignment.refresh_from_db(fields=["state", "slot", "lease_token", "ended_at"])
        if correction_resume(assignment, until=submission.now + assignment.queue.lease):
            return assignment_end(submission)
        require_unended(assignment)
    if slot_id is None:
        slot_id = slots.slot_fill_free(item_id=assignment.item_id, rater_id=assignment.rater_id)
        Assignment.objects.filter(pk=assignment.pk).update(slot=slot_id)
    if slot_id is None:
        exclude(item_id=assignment.item_id, rater_id=assignment.rater_id, reason=ANSWERED)
    return Ended(is_surplus=slot_id is None, version=version or 0, active_s=active_before or 0.0)


def replay(row: tuple[Any, ...], assignment: Assignment) -> Judgement:
    """What is stored under the key, if it is what was sent: a correction must not be taken for a repeat and lost."""
    *columns, is_same = row
    stored = made(tuple(columns))
    if stored.assignment_id != assignment.pk:
        raise DomainError(
            "This idempotency key was used for another item. Take a new one for each item.", code="key_reused"
        )
    if not is_same:
        raise DomainError(
            "This idempotency key was used for another answer to this item, which is kept. To change it, reopen the "
            "item and submit with a new key.",
            code="key_reused",
        )
    return stored


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
    if not 0 <= active_seconds <= MAX_ACTIVE_S:  # false for nan too; a whole number may be too large for a float
        raise invalid("/active_seconds", "out_of_range", "Seconds are a number from 0 to those of a thousand years.")
    return min(active_seconds, max(0.0, (now - assignment.created_at).total_seconds()))


@transaction.atomic
def judgement_reopen(*, assignment: Assignment, now: datetime, window: timedelta) -> Assignment:
    """Take back the last submitted answer to correct it. It counts as it is until a new version is submitted."""
    slots.rater_lock(assignment.queue_id, assignment.rater_id)
    assignment.refresh_from_db(fields=["state", "slot", "lease_token", "draft", "draft_version", "ended_at"])
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
    if not is_correcting(assignment, judgement):  # else the draft holds the correction
        assignment.draft = answers_on_screen(assignment.form_version.questions, judgement.answers)
    assignment.lease_token = token
    assignment.state = Assignment.State.ACTIVE
    assignment.ended_at = None
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
