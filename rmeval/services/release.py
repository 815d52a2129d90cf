"""Runs given back by a worker that stops on purpose: nothing was wrong with them, so the attempt is not counted."""

from collections.abc import Callable
from datetime import datetime

from django.db import transaction
from django.db.models import F

from rmeval.models import Run
from rmeval.services.runs import run_note, run_poke
from rmeval.services.submission import run_enqueue


@transaction.atomic
def runs_release(*, host: str, is_alive: Callable[[int], bool], now: datetime) -> int:
    """Queue again the runs of this host's worker processes that are gone. How many."""
    ours = Run.objects.filter(state=Run.State.RUNNING, worker__startswith=f"{host}:").select_related("project")
    n_released = 0
    for run in ours.select_for_update(skip_locked=True, of=("self",)):
        pid = run.worker.rpartition(":")[2]
        if not pid.isdigit() or is_alive(int(pid)):
            continue
        message = "The worker was stopped; the run goes on when it is back."
        Run.objects.filter(pk=run.pk).update(
            state=Run.State.QUEUED, attempt=F("attempt") - 1, enqueued_at=now, worker="", message=message
        )
        run_note(run, message, attempt=run.attempt)
        run_poke(run, "state")
        run_enqueue(run)
        n_released += 1
    return n_released
