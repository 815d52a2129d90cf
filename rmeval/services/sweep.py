"""The periodic look at runs that got lost: the broker is only a wake-up call, so a lost message costs seconds."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import DurationField, ExpressionWrapper, F, Q, Value
from django.db.models.functions import Greatest

from rmeval.models import Run
from rmeval.selectors.waiting import queue_state
from rmeval.services.placement import run_queue
from rmeval.services.runs import run_finish, run_note, run_poke, run_requeue
from rmeval.services.submission import run_enqueue

PICKED_UP_WITHIN = timedelta(seconds=60)
BATCH = 500


@dataclass(frozen=True)
class SweepReport:
    n_enqueued: int = 0
    n_requeued: int = 0
    n_failed: int = 0
    n_cancelled: int = 0


def sweep_once(
    now: datetime,
    *,
    stale: timedelta | None = None,
    max_attempts: int | None = None,
    picked_up_within: timedelta = PICKED_UP_WITHIN,
) -> SweepReport:
    """Enqueue again what was never picked up or lost its worker; end what was lost too often or asked to stop.

    Any number of sweeps may run at once: every change is a compare-and-set.
    """
    from django.conf import settings

    stale = stale or settings.RUN_HEARTBEAT_STALE
    max_attempts = max_attempts or settings.RUN_MAX_ATTEMPTS
    n_requeued = n_failed = n_cancelled = 0
    lost = Run.objects.filter(state=Run.State.RUNNING, heartbeat_at__lt=now - stale).select_related("project")
    for run in lost[:BATCH]:
        outcome = lost_run_settle(run=run, now=now, stale=stale, max_attempts=max_attempts)
        n_requeued += outcome == Run.State.QUEUED
        n_failed += outcome == Run.State.FAILED
        n_cancelled += outcome == Run.State.CANCELLED
    n_cancelled += stopped_runs_settle(now=now)
    return SweepReport(
        n_enqueued=waiting_runs_wake(now=now, picked_up_within=picked_up_within),
        n_requeued=n_requeued,
        n_failed=n_failed,
        n_cancelled=n_cancelled,
    )


@transaction.atomic
def lost_run_settle(*, run: Run, now: datetime, stale: timedelta, max_attempts: int) -> str:
    """Decide about one run whose worker went silent. Its state afterwards; unchanged if the worker spoke meanwhile."""
    locked = Run.objects.select_for_update(skip_locked=True, of=("self",)).select_related("project").filter(pk=run.pk)
    found = locked.filter(state=Run.State.RUNNING, heartbeat_at__lt=now - stale).first()
    if found is None:
        return Run.State.RUNNING
    if found.cancel_requested_at is not None:
        run_finish(run=found, attempt=found.attempt, state=Run.State.CANCELLED, now=now)
        return Run.State.CANCELLED
    silent_s = round((now - (found.heartbeat_at or now)).total_seconds())
    reason = f"The worker {found.worker or ''} was lost: nothing heard of it for {silent_s} s.".replace("  ", " ")
    if run_requeue(run=found, attempt=found.attempt, reason=reason, max_attempts=max_attempts, now=now):
        run_enqueue(found)
        return Run.State.QUEUED
    return Run.State.FAILED


@transaction.atomic
def stopped_runs_settle(*, now: datetime) -> int:
    """Cancel runs that went back to the queue after they were asked to stop: no worker would take them."""
    stopped = Run.objects.filter(state=Run.State.QUEUED, cancel_requested_at__isnull=False).select_related("project")
    runs = list(stopped.select_for_update(skip_locked=True, of=("self",))[:BATCH])
    for run in runs:
        Run.objects.filter(pk=run.pk).update(state=Run.State.CANCELLED, ended_at=now, message="Cancelled")
        run_note(run, "Run cancelled before a worker had it", attempt=run.attempt)
        run_poke(run, "state")
    return len(runs)


@transaction.atomic
def waiting_runs_wake(*, now: datetime, picked_up_within: timedelta) -> int:
    """Enqueue again runs that wait too long; the longer one has waited, the rarer, so a backlog is not doubled."""
    half_waited = ExpressionWrapper((F("enqueued_at") - F("created_at")) / 2, output_field=DurationField())
    patience = Greatest(Value(picked_up_within, output_field=DurationField()), half_waited)
    waiting = (
        Run.objects.filter(state=Run.State.QUEUED)
        .annotate(wake_at=F("enqueued_at") + patience)
        .filter(wake_at__lt=now)
        .select_related("project")
        .select_for_update(skip_locked=True, of=("self",))
        .order_by("pk")[:BATCH]
    )
    runs = list(waiting)
    for run in runs:
        Run.objects.filter(pk=run.pk).update(enqueued_at=now)
        if not is_behind_others(run):
            run_note(run, "Not picked up yet; enqueued again", attempt=run.attempt)
        run_poke(run, "progress")
        run_enqueue(run)
    return len(runs)


def is_behind_others(run: Run) -> bool:
    """Whether the run waits its turn, which is no news: one before it is in work or waits on the same queue.

    So is one in work on another queue of the same workers.
    """
    name = run_queue(run)
    ahead = Q(state=Run.State.RUNNING) | Q(state=Run.State.QUEUED, pk__lt=run.pk)
    return Run.objects.filter(ahead, environment__queue=name).exists() or bool(queue_state(name).shared_with)
