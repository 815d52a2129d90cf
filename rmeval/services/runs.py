"""State changes of runs, each by compare-and-set: two workers, a sweep and a person never undo one another.

Nothing here enqueues: `workers.tasks` calls these functions, and `submission` and `sweep` call the tasks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Coalesce

from annotator.errors import DomainError
from annotator.live import poke
from rmeval.models import Run, RunEvent

MESSAGE_CHARS = 300


@dataclass(frozen=True)
class RunPulse:
    """What a worker learns when it looks at its run."""

    is_ours: bool
    cancel_requested: bool


@dataclass(frozen=True)
class RunRecord:
    """What a job reported since the last time: written at once, poked once."""

    events: Sequence[RunEvent] = field(default_factory=tuple)
    fraction_done: float | None = None
    message: str | None = None


def run_topic(run: Run) -> str:
    return f"run.{run.uid}"


def run_poke(run: Run, event: str) -> None:
    """Tell the run's page, and for a change of state also the lists of its project."""
    poke(run_topic(run), event)
    if event == "state":
        poke(f"project.{run.project.uid}", "run")


def run_note(run: Run, message: str, *, attempt: int, level: str = "info", **data: Any) -> None:
    """A line in the run's log that says what became of it."""
    RunEvent.objects.create(run=run, kind=RunEvent.Kind.STATE, attempt=attempt, level=level, message=message, data=data)


@transaction.atomic
def run_start(*, run: Run, worker: str, now: datetime, stale: timedelta, max_attempts: int) -> bool:
    """Move a queued (or lost) run to running. False when another worker has it or its attempts are used up."""
    startable = Run.objects.startable(now, stale=stale, max_attempts=max_attempts).filter(pk=run.pk)
    won = startable.update(
        state=Run.State.RUNNING,
        attempt=F("attempt") + 1,
        heartbeat_at=now,
        worker=worker[:120],
        started_at=Coalesce(F("started_at"), now),
        message="Starting",
    )
    if won != 1:
        return False
    run.refresh_from_db()
    text = f"Attempt {run.attempt} of {max_attempts} started"
    run_note(run, text, attempt=run.attempt, worker=worker, fraction_done=run.fraction_done)
    run_poke(run, "state")
    return True


def run_pulse(*, run: Run, attempt: int) -> RunPulse:
    """Is this attempt still the one that owns the run, and has somebody asked to stop it?"""
    mine = Run.objects.filter(pk=run.pk, attempt=attempt, state=Run.State.RUNNING)
    found = list(mine.values_list("cancel_requested_at", flat=True))
    return RunPulse(is_ours=bool(found), cancel_requested=bool(found) and found[0] is not None)


def run_beat(*, run: Run, attempt: int, now: datetime) -> bool:
    """Say that the worker is alive. False when the run is no longer this attempt's."""
    return Run.objects.filter(pk=run.pk, attempt=attempt, state=Run.State.RUNNING).update(heartbeat_at=now) == 1


def run_environment(*, run: Run, **facts: Any) -> None:
    """Add to what is kept about where and on what the run ran."""
    run.environment = {**run.environment, **facts}
    Run.objects.filter(pk=run.pk).update(environment=run.environment)


@transaction.atomic
def run_record(*, run: Run, attempt: int, record: RunRecord, now: datetime) -> bool:
    """Append what a job reported and poke once. False (nothing written) when the run is no longer this attempt's."""
    changes: dict[str, Any] = {"heartbeat_at": now}
    if record.fraction_done is not None:
        changes["fraction_done"] = min(max(record.fraction_done, 0.0), 1.0)
    if record.message is not None:
        changes["message"] = record.message[:MESSAGE_CHARS]
    if Run.objects.filter(pk=run.pk, attempt=attempt, state=Run.State.RUNNING).update(**changes) != 1:
        return False
    RunEvent.objects.bulk_create(record.events)
    run_poke(run, "progress")
    return True


@transaction.atomic
def run_finish(
    *,
    run: Run,
    attempt: int,
    state: str,
    now: datetime,
    result: dict[str, Any] | None = None,
    error: dict[str, Any] | None = None,
) -> bool:
    """End a run that this attempt owns. False when it ended or was taken over meanwhile: its outcome stands."""
    changes: dict[str, Any] = {"state": state, "ended_at": now, "result": result, "error": error}
    if state == Run.State.DONE:
        changes |= {"fraction_done": 1.0, "message": "Done"}
    elif state == Run.State.CANCELLED:
        changes["message"] = "Cancelled"
    if Run.objects.filter(pk=run.pk, attempt=attempt, state=Run.State.RUNNING).update(**changes) != 1:
        return False
    run.refresh_from_db()
    level = "error" if state == Run.State.FAILED else "info"
    reason = f": {error['message']}" if error else ""
    run_note(run, f"Run {state}{reason}", attempt=attempt, level=level)
    run_poke(run, "state")
    return True


@transaction.atomic
def run_requeue(*, run: Run, attempt: int, reason: str, max_attempts: int, now: datetime) -> bool:
    """Give a running run back to the queue, or fail it when its attempts are used up. False: it was not ours."""
    if attempt >= max_attempts:
        error = {
            "message": f"{reason} This was attempt {attempt} of {max_attempts}, so the run was given up.",
            "hint": "If the machine ran out of memory, make token_budget or max_length smaller, or use a smaller "
            "backbone; then press Retry. The log of the worker says more.",
        }
        run_finish(run=run, attempt=attempt, state=Run.State.FAILED, error=error, now=now)
        return False
    mine = Run.objects.filter(pk=run.pk, attempt=attempt, state=Run.State.RUNNING)
    message = f"{reason} Queued again, attempt {attempt + 1} of {max_attempts}."[:MESSAGE_CHARS]
    if mine.update(state=Run.State.QUEUED, enqueued_at=now, worker="", message=message) != 1:
        return False
    run.refresh_from_db()
    run_note(run, message, attempt=attempt, level="warning")
    run_poke(run, "state")
    return True


@transaction.atomic
def run_cancel(*, run: Run, now: datetime, stale: timedelta) -> Run:
    """Cancel a run: at once when no worker has it, else ask its worker, who stops within two seconds."""
    locked = Run.objects.select_for_update(of=("self",)).select_related("project").get(pk=run.pk)
    if locked.has_ended:
        raise DomainError(
            f"This run is already {locked.state}; there is nothing to cancel.", code="run_ended", run_state=locked.state
        )
    lost = locked.heartbeat_at is None or locked.heartbeat_at < now - stale
    if locked.state == Run.State.QUEUED or lost:
        locked.state, locked.ended_at, locked.message = Run.State.CANCELLED, now, "Cancelled"
        run_note(locked, "Run cancelled before a worker had it", attempt=locked.attempt)
    else:
        locked.message = "Cancelling"
    locked.cancel_requested_at = locked.cancel_requested_at or now
    locked.save(update_fields=["state", "ended_at", "message", "cancel_requested_at"])
    run_poke(locked, "state")
    return locked
