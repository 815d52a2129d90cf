"""The Celery entry point, called as a function: every way a run ends, and a cancel that does not wait for the job."""

import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta
from threading import Thread
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.utils import timezone

from annotator.live import listen_dsn
from annotator.models import Project
from rmeval.cancel_watch import GRACE_S, CancelWatch
from rmeval.models import Run, RunEvent
from rmeval.report import RunReport
from rmeval.selectors.runs import run_curves, run_log
from rmeval.services.runs import run_cancel, run_start
from rmeval.supervisor import busy_mark
from tests.rmeval.conftest import submit
from workers.tasks import run_job

pytestmark = pytest.mark.django_db(transaction=True)
STALE = timedelta(seconds=20)


def execute(project: Project, **spec: Any) -> Run:
    run = submit(project, timezone.now(), **spec)
    try:
        run_job(str(run.uid))
    finally:
        run.refresh_from_db()
    return run


def test_a_run_ends_done_with_all_it_reported(project: Project) -> None:
    run = execute(project, n_steps=4)
    assert (run.state, run.fraction_done, run.attempt) == ("done", 1.0, 1)
    assert run.result == {"n_steps": 4, "attempt": 1}
    assert run.ended_at is not None
    assert run.environment["n_cpus"] >= 1
    curves = run_curves(run=run)
    assert curves["loss"].steps == [1, 2, 3, 4]
    assert curves["loss"].values == [1.0, 1 / 2, 1 / 3, 1 / 4]
    assert "broken" not in curves
    said = [line.message for line in run_log(run=run)]
    assert said[0] == "Run submitted"
    assert said[1] == "Attempt 1 of 3 started"
    assert "step 1: broken is not a finite number" in said
    assert said[-2:] == ["counted", "Run done"]


def test_a_second_delivery_does_nothing(project: Project) -> None:
    run = execute(project)
    run_job(str(run.uid))
    run_job("00000000-0000-4000-8000-000000000000")
    run.refresh_from_db()
    assert (run.state, run.attempt) == ("done", 1)


@pytest.mark.parametrize(
    ("fail", "message", "hint"),
    [
        ("job", "It cannot be done.", "Do something else."),
        ("memory", "The machine ran out of memory.", "token_budget"),
        ("bug", "KeyError: 'x'", "not foreseen"),
    ],
)
def test_a_failure_says_why_and_what_to_change(project: Project, fail: str, message: str, hint: str) -> None:
    run = submit(project, timezone.now(), fail=fail)
    with pytest.raises(Exception):  # noqa: B017 - it goes on to Celery's log
        run_job(str(run.uid))
    run.refresh_from_db()
    assert run.state == "failed"
    assert run.error is not None
    assert run.error["message"] == message
    assert hint in run.error["hint"]
    assert "run(" in run.error["trace"]
    assert run_log(run=run)[-1].level == "error"


def test_a_result_that_cannot_be_kept_fails_the_run(project: Project) -> None:
    run = submit(project, timezone.now(), fail="result")
    with pytest.raises(Exception, match="json"):
        run_job(str(run.uid))
    run.refresh_from_db()
    assert run.state == "failed"
    assert run.error is not None
    assert "json" in run.error["message"]


def test_a_transient_failure_goes_back_to_the_queue(project: Project) -> None:
    run = submit(project, timezone.now(), fail="transient")
    with pytest.raises(Exception, match="network was away"):
        run_job(str(run.uid))
    run.refresh_from_db()
    assert (run.state, run.attempt) == ("queued", 1)
    assert "attempt 2 of 3" in run.message


def test_a_job_that_asks_is_cancelled_within_a_second(project: Project) -> None:
    run = submit(project, timezone.now(), n_steps=1000, fail="slow")
    worker = Thread(target=in_thread, args=[str(run.uid)])
    worker.start()
    wait_for(run, "running")
    started = time.monotonic()
    run_cancel(run=run, now=timezone.now(), stale=STALE)
    wait_for(run, "cancelled")
    assert time.monotonic() - started < 2
    worker.join()
    assert RunEvent.objects.filter(run=run, message="Run cancelled").count() == 1


def test_a_process_that_does_not_stop_is_ended(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    stranger = submit(project, timezone.now())
    run = submit(project, timezone.now())
    for which, pid in ((run, child.pid), (stranger, 1)):
        worker = f"{socket.gethostname()}:{pid}"
        assert run_start(run=which, worker=worker, now=timezone.now(), stale=STALE, max_attempts=3)
        run_cancel(run=which, now=timezone.now(), stale=STALE)
    watch = CancelWatch()
    with psycopg.connect(listen_dsn(), autocommit=True) as own:
        watch.look(own)
        assert child.poll() is None  # the job is given time to stop by itself
        watch.first_seen = {asked: since - GRACE_S for asked, since in watch.first_seen.items()}
        busy_mark(run).parent.mkdir(parents=True)
        busy_mark(run).touch()
        watch.look(own)
    assert child.wait(5) == -signal.SIGKILL
    run.refresh_from_db()
    stranger.refresh_from_db()
    assert (run.state, stranger.state) == ("cancelled", "running")  # process 1 is no child of this worker


def test_what_a_job_said_survives_a_failed_write(project: Project) -> None:
    run = submit(project, timezone.now())
    report = RunReport(run)
    report.log("one", "info")
    report.progress(1, 2, "half")
    taken = report.take()
    assert taken is not None
    report.log("two", "info")
    report.put_back(taken)
    again = report.take()
    assert again is not None
    assert [event.message for event in again.events] == ["one", "two"]
    assert (again.fraction_done, again.message) == (0.5, "half")
    assert report.take() is None


def in_thread(uid: str) -> None:
    run_job(uid)
    connection.close()


def wait_for(run: Run, state: str, timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while run.state != state:
        assert time.monotonic() < deadline, f"still {run.state}"
        time.sleep(0.02)
        run.refresh_from_db()
