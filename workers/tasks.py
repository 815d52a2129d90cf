"""Celery entry points: the one module here that imports Django apps."""

import shutil
import socket
from os import getpid
from pathlib import Path
from typing import Any

from celery import shared_task
from django.conf import settings
from django.db import OperationalError, transaction
from django.utils import timezone

import rmeval.cancel_watch  # noqa: F401 - a worker starts it when it is ready
from workers.errors import JobCancelled, TransientError


@shared_task(
    name="workers.tasks.run_job",
    acks_late=True,
    reject_on_worker_lost=True,
    ignore_result=True,
    autoretry_for=(TransientError,),
    retry_backoff=30,
    max_retries=3,
)
def run_job(run_uid: str) -> None:
    """Execute one run. Safe to deliver twice: only the caller that wins run_start() works."""
    from rmeval.models import Run

    run = Run.objects.select_related("project", "reward_model").filter(uid=run_uid).first()
    if run is not None and run_claim(run):
        execute(run)


def run_claim(run: Any) -> bool:
    """Make the run this process's. False when another has it, or nobody wants it any more."""
    from rmeval.services.runs import run_start

    return run_start(
        run=run,
        worker=f"{socket.gethostname()}:{getpid()}",
        now=timezone.now(),
        stale=settings.RUN_HEARTBEAT_STALE,
        max_attempts=settings.RUN_MAX_ATTEMPTS,
    )


def execute(run: Any) -> None:
    """Work on a run that this process has won, and end it whatever happens."""
    from rmeval.failures import describe
    from rmeval.models import Run
    from rmeval.services.runs import run_finish, run_requeue

    attempt = run.attempt
    try:
        result = supervised(run)
    except JobCancelled:
        run_finish(run=run, attempt=attempt, state=Run.State.CANCELLED, now=timezone.now())
    except TransientError as error:
        most = settings.RUN_MAX_ATTEMPTS
        if run_requeue(run=run, attempt=attempt, reason=str(error), max_attempts=most, now=timezone.now()):
            raise
    except Exception as error:
        run_finish(run=run, attempt=attempt, state=Run.State.FAILED, error=describe(error), now=timezone.now())
        raise
    else:
        complete(run, attempt, result)


def complete(run: Any, attempt: int, result: dict[str, Any]) -> None:
    """End a run as done. A result that cannot be kept fails it; a database that is away leaves it to the sweep."""
    from rmeval.failures import describe
    from rmeval.models import Run
    from rmeval.services.completion import run_complete
    from rmeval.services.runs import run_finish

    try:
        with transaction.atomic():
            followers = run_complete(run=run, attempt=attempt, result=result, now=timezone.now())
            for follower in followers:
                enqueue(follower)
        clear_work_folder(run)
    except OperationalError:
        raise
    except Exception as error:
        run_finish(run=run, attempt=attempt, state=Run.State.FAILED, error=describe(error), now=timezone.now())
        raise


def clear_work_folder(run: Any) -> None:
    """States to resume from are of no more use; what is kept lies in the artifact store."""
    shutil.rmtree(Path(settings.VAR_DIR) / "runs" / str(run.uid), ignore_errors=True)


def supervised(run: Any) -> dict[str, Any]:
    """Run the job beside the thread that beats, writes and watches for a cancel."""
    from rmeval.environment import environment
    from rmeval.job_context import DatabaseJobContext
    from rmeval.report import RunReport
    from rmeval.services.runs import run_environment
    from rmeval.supervisor import RunSupervisor
    from workers.jobs import JOBS
    from workers.specs import parse_spec

    run_environment(run=run, **environment())
    report = RunReport(run)
    job = JOBS.get(run.kind)()
    with RunSupervisor(run, report):
        return job.run(DatabaseJobContext(run, report), parse_spec(job.Spec, run.spec))


def enqueue(run: Any) -> None:
    """Wake a worker at commit. A broker that cannot be reached is logged, not raised: the sweep enqueues again."""
    from rmeval.services.placement import run_place

    queue = run_place(run)
    transaction.on_commit(lambda: run_job.apply_async(args=[str(run.uid)], queue=queue), robust=True)
