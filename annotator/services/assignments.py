"""One rater, one item: claim, keep, save a draft, give back. Submitting is in judgements.py."""

from datetime import datetime
from functools import partial
from random import Random
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F

from annotator.errors import DomainError, FieldError, InvalidInput
from annotator.live import poke
from annotator.models import Assignment, Exclusion, Flag, Judgement, Queue, QueueRater, Rater
from annotator.services import slots
from annotator.services.queue_items import slots_trim
from annotator.validation import invalid, require_storable

SKIP_REASONS = {
    "unclear": "The prompt is unclear",
    "expertise": "I lack the knowledge to judge",
    "language": "Not in a language I read",
    "too_long": "Too long",
    "offensive": "I do not want to read this",
    "broken": "Broken or empty",
    "other": "Another reason",
}
#: Why a rater is kept from an item they answered too late: not a skip.
ANSWERED = "answered"
MAX_DRAFT_BYTES = 100_000
CLOSED_MESSAGES = {
    Queue.State.BUILDING: ("queue_building", "This queue is still being built. It opens by itself in a moment."),
    Queue.State.PAUSED: ("queue_paused", "The lead has paused this queue. What you have open can still be submitted."),
    Queue.State.CLOSED: ("queue_closed", "This queue is closed. Thank you for your work on it."),
}


def assignment_claim(*, queue: Queue, rater: Rater, now: datetime, rng: Random) -> Assignment | None:
    """Give the rater one item: the one they hold, else a fresh one. None when nothing is left for them.

    Two callers never take the same slot and nobody meets an item twice. A queue that gives nothing out raises
    DomainError (queue_building, queue_paused, queue_closed).
    """
    try:
        claimed = claim_once(queue=queue, rater=rater, now=now, rng=rng)
    except IntegrityError:
        # The unique constraint stopped what the statement could not see; the second try sees it.
        claimed = claim_once(queue=queue, rater=rater, now=now, rng=rng)
    if claimed is None:
        queue_require_open(queue)
    return claimed


def claim_once(*, queue: Queue, rater: Rater, now: datetime, rng: Random) -> Assignment | None:
    seed = rng.getrandbits(31)
    return slots.slot_claim(
        queue=queue, rater_id=rater.pk, now=now, until=now + queue.lease, seed=seed, a_is_left=draw_a_is_left(seed)
    )


def draw_a_is_left(seed: int) -> bool:
    """The side of response A: a fair coin that the stored seed repeats."""
    return Random(seed).random() < 0.5


def queue_require_open(queue: Queue) -> None:
    if queue.state != Queue.State.OPEN:
        code, detail = CLOSED_MESSAGES[Queue.State(queue.state)]
        raise DomainError(detail, code=code)


def assignment_renew(*, assignment: Assignment, now: datetime) -> datetime | None:
    """Heartbeat: extend the lease. A lease that ran out is taken up again where the item still has an open slot.

    None when it is gone, or when the queue has closed since: a closed queue gives nothing out. The answer can still be
    submitted and is kept as surplus if no slot is free by then.
    """
    until = now + assignment.queue.lease
    if slots.slot_renew(slot_id=assignment.slot_id, lease_token=assignment.lease_token, until=until):
        return until
    with transaction.atomic():
        slots.rater_lock(assignment.queue_id, assignment.rater_id)
        assignment.refresh_from_db(fields=["state", "slot", "lease_token", "ended_at"])
        if slots.slot_live(queue_id=assignment.queue_id, rater_id=assignment.rater_id):
            return None
        if correction_resume(assignment, until=until):
            return until
        if assignment.state != Assignment.State.EXPIRED or assignment.queue.state == Queue.State.CLOSED:
            return None
        slot_id = slots.slot_retake(
            item_id=assignment.item_id,
            rater_id=assignment.rater_id,
            lease_token=assignment.lease_token,
            until=until,
        )
        if slot_id is None:
            return None
        assignment.slot_id = slot_id
        assignment.state = Assignment.State.ACTIVE
        assignment.ended_at = None
        assignment.save(update_fields=["slot", "state", "ended_at"])
        return until


def is_correcting(assignment: Assignment, judgement: Judgement | None) -> bool:
    """Whether a submitted item was reopened and its lease ran out: a submit ends it at the time of its judgement."""
    ended_at = assignment.ended_at if assignment.state == Assignment.State.SUBMITTED else None
    return judgement is not None and ended_at is not None and ended_at > judgement.created_at


def correction_resume(assignment: Assignment, *, until: datetime) -> bool:
    """Lease a reopened item again whose lease ran out while its answer was being corrected. False: it is none."""
    judgement = assignment.judgements.filter(is_current=True).first()
    if not is_correcting(assignment, judgement) or assignment.queue.state == Queue.State.CLOSED:
        return False
    token = assignment.lease_token
    if not slots.slot_reopen(slot_id=assignment.slot_id, rater_id=assignment.rater_id, lease_token=token, until=until):
        return False
    assignment.state, assignment.ended_at = Assignment.State.ACTIVE, None
    assignment.save(update_fields=["state", "ended_at"])
    return True


def draft_save(*, assignment: Assignment, answers: object, now: datetime, version: int | None = None) -> int:
    """Keep an unfinished answer. Returns its version. With `version`, the one it was based on, a newer one wins."""
    if not isinstance(answers, dict):
        raise invalid("/answers", "type", "Answers are an object: question name to answer.")
    require_storable(answers, "/answers", max_bytes=MAX_DRAFT_BYTES)
    kept = Assignment.objects.filter(pk=assignment.pk, state__in=(Assignment.State.ACTIVE, Assignment.State.EXPIRED))
    if version is not None:
        kept = kept.filter(draft_version=version)
    if kept.update(draft=answers, draft_version=F("draft_version") + 1, draft_at=now):
        assignment.refresh_from_db(fields=["draft_version"])
        return assignment.draft_version
    assignment.refresh_from_db(fields=["state", "draft", "draft_version"])
    require_unended(assignment)
    raise DomainError(
        "Another tab has saved a newer draft of this item.",
        code="draft_conflict",
        draft=assignment.draft,
        version=assignment.draft_version,
    )


def require_unended(assignment: Assignment) -> None:
    if assignment.state == Assignment.State.SUBMITTED:
        raise DomainError("This item is submitted. Reopen it to change the answer.", code="already_submitted")
    if assignment.state == Assignment.State.SKIPPED:
        raise DomainError("You skipped this item, so it takes no answer.", code="skipped")


@transaction.atomic
def assignment_skip(*, assignment: Assignment, reason: str, now: datetime, detail: str = "") -> None:
    """Give the item back for good, with a reason: this rater never meets it again and its slot is open again."""
    if reason not in SKIP_REASONS:
        raise invalid("/reason", "invalid_choice", f"One of: {', '.join(SKIP_REASONS)}.")
    require_storable(detail, "/detail", max_bytes=5000)
    slots.rater_lock(assignment.queue_id, assignment.rater_id)
    assignment.refresh_from_db(fields=["state", "slot", "lease_token"])
    if assignment.state == Assignment.State.SKIPPED:
        return
    require_unended(assignment)
    if assignment.judgements.filter(is_current=True).exists():
        raise DomainError("You have already answered this item; submit it again as it is.", code="already_answered")
    slots.slot_release(slot_id=assignment.slot_id, lease_token=assignment.lease_token)
    exclude(item_id=assignment.item_id, rater_id=assignment.rater_id, reason=reason, detail=detail)
    Assignment.objects.filter(pk=assignment.pk).update(state=Assignment.State.SKIPPED, ended_at=now)
    counts, _ = QueueRater.objects.get_or_create(queue_id=assignment.queue_id, rater_id=assignment.rater_id)
    QueueRater.objects.filter(pk=counts.pk).update(n_skipped=F("n_skipped") + 1, last_at=now)
    if assignment.queue.exceeds_overlap:
        transaction.on_commit(partial(slots_trim, assignment.queue_id, [assignment.item_id]))
    poke(f"queue.{assignment.queue.uid}", "skip")


def exclude(*, item_id: int, rater_id: int, reason: str, detail: str = "") -> None:
    """Keep a rater from an item from now on."""
    Exclusion.objects.bulk_create(
        [Exclusion(item_id=item_id, rater_id=rater_id, reason=reason, detail=detail)], ignore_conflicts=True
    )


@transaction.atomic
def assignment_flag(*, assignment: Assignment, detail: str) -> Flag:
    """Tell the lead that something is wrong with the item; the work goes on."""
    require_storable(detail, "/detail", max_bytes=10_000)
    if not detail.strip():
        errors = [FieldError("/detail", "required", "Say what is wrong with this item.")]
        raise InvalidInput("Say what is wrong with this item.", errors=errors)
    flag = Flag.objects.create(item_id=assignment.item_id, rater_id=assignment.rater_id, detail=detail.strip())
    poke(f"queue.{assignment.queue.uid}", "flag")
    return flag


@transaction.atomic
def flag_resolve(*, flag: Flag, now: datetime) -> None:
    Flag.objects.filter(pk=flag.pk, resolved_at=None).update(resolved_at=now)
    poke(f"queue.{flag.item.queue.uid}", "flag")


def shown_check(shown: object) -> dict[str, Any]:
    """The presentation record of the client: a small object, kept as it is."""
    if not isinstance(shown, dict):
        raise invalid("/shown", "type", "What was shown is an object.")
    require_storable(shown, "/shown", max_bytes=8_000)
    viewed = shown.get("viewed")
    has_both = isinstance(viewed, list) and "left" in viewed and "right" in viewed
    if shown.get("layout") == "tabs" and not has_both:
        raise invalid("/shown/viewed", "look_at_both", "Look at both responses before you submit.")
    return shown
