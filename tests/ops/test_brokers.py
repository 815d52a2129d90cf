"""A real Celery worker on a real broker: PGMQ in the test database, and Redis where the machine has it."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import psycopg
import pytest
from django.db import connection

from rmeval.models import Run, WorkerHeartbeat
from steelyard.broker import SCHEMA, broker_install
from steelyard.heartbeat import EXIT_USELESS
from steelyard.launcher import ROOT
from tests.factories import ProjectFactory
from tests.ops.site import free_port, wait_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(90)]

STUCK_AFTER_TEST_S = 3


@pytest.fixture
def pgmq() -> Iterator[str]:
    broker_install()
    yield "pgmq://"
    with connection.cursor() as cursor:
        cursor.execute(f"DROP SCHEMA {SCHEMA} CASCADE")


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server on this machine")
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        time.sleep(0.3)
        yield f"redis://127.0.0.1:{port}/0"
        server.terminate()


class Worker:
    def __init__(self, broker_url: str, tmp_path: Path) -> None:
        values = connection.settings_dict
        self.environment = {
            **os.environ,
            "STEELYARD_DATABASE_URL": f"postgresql://{values['USER']}@/{values['NAME']}?host={values['HOST']}",
            "STEELYARD_BROKER_URL": broker_url,
            "STEELYARD_HOME": str(tmp_path),
            "STEELYARD_WORKER_BEAT_S": "1",
            "DJANGO_SETTINGS_MODULE": "steelyard.settings",
        }
        self.log_path = tmp_path / "worker.log"
        command = [sys.executable, "-m", "celery", "-A", "steelyard.celery", "worker", "--concurrency", "1"]
        self.process = subprocess.Popen(
            [*command, "-n", "test@%h", "-Q", "default", "--without-gossip", "--without-mingle", "--without-heartbeat"],
            cwd=ROOT,
            env=self.environment,
            stdout=self.log_path.open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        wait_for("the worker listens", lambda: "ready." in self.log_path.read_text())

    def send(self, uid: object) -> None:
        code = f"import django; django.setup(); from workers.tasks import run_job; run_job.apply_async(args=['{uid}'])"
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=self.environment, check=True)

    @property
    def n_taken(self) -> int:
        return self.log_path.read_text().count(" received")

    @property
    def n_done(self) -> int:
        return self.log_path.read_text().count("succeeded in")

    def end(self, how: signal.Signals) -> float:
        family = psutil.Process(self.process.pid).children(recursive=True)
        began = time.monotonic()
        self.process.send_signal(how)
        self.process.wait(20)
        seconds = time.monotonic() - began
        _, alive = psutil.wait_procs(family, timeout=3)
        assert alive == []
        return seconds


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Worker]]:
    workers: list[Worker] = []

    def start_worker(url: str) -> Worker:
        workers.append(Worker(url, tmp_path))
        return workers[-1]

    yield start_worker
    for worker in workers:
        if worker.process.poll() is None:
            os.killpg(worker.process.pid, signal.SIGKILL)
            worker.process.wait()


@pytest.mark.parametrize("broker", ["pgmq", "redis_url"])
def test_worker_takes_work_reports_and_signs_off(broker: str, start: Any, request: pytest.FixtureRequest) -> None:
    worker = start(request.getfixturevalue(broker))
    worker.send(uuid4())
    wait_for("the job is taken", lambda: worker.n_done == 1, 15)
    assert WorkerHeartbeat.objects.get().queues == ["default"]
    # As if a run of a process of this host had been cut off.
    run = Run.objects.create(
        project=ProjectFactory(), kind="evaluate", spec={}, state=Run.State.RUNNING, attempt=1,
        worker=f"{os.uname().nodename}:{2**22 + 1}",
    )  # fmt: skip
    assert worker.end(signal.SIGQUIT) < 4
    assert not WorkerHeartbeat.objects.exists()
    run.refresh_from_db()
    assert (run.state, run.attempt) == (Run.State.QUEUED, 0)


def test_worker_reconnects_after_its_connections_are_cut(pgmq: str, start: Any) -> None:
    worker = start(pgmq)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert cursor.fetchone()[0] >= 1
    worker.send(uuid4())
    wait_for("the job is taken", lambda: worker.n_done == 1, 20)
    assert worker.process.poll() is None


def test_worker_whose_idle_task_process_was_killed_ends_to_be_started_anew(pgmq: str, start: Any) -> None:
    """The killed process holds the lock of the pipe, so the pool never works again; the worker has to notice."""
    worker = start(pgmq)
    psutil.Process(worker.process.pid).children()[0].kill()
    worker.send(uuid4())
    wait_for("the worker ends", lambda: worker.process.poll() is not None, 40)
    assert worker.process.returncode == EXIT_USELESS
    assert "waited 3 s for a free task process" in worker.log_path.read_text()


@contextlib.contextmanager
def locked_out(url: str) -> Iterator[None]:
    """As if the server were restarting: the database takes no new connections and the broker's are cut."""
    name = connection.settings_dict["NAME"]
    with psycopg.connect(url.replace(f"/{name}?", "/postgres?"), autocommit=True) as server:
        server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = %s AND (application_name = 'steelyard-broker' OR query LIKE 'LISTEN%%')",
            [name],
        )
        try:
            yield
        finally:
            server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def test_busy_worker_that_reconnected_is_left_alone(pgmq: str, start: Any) -> None:
    """It holds one message more than it has processes for until the job ends; that is not being stuck."""
    worker = start(pgmq)
    run = Run.objects.create(project=ProjectFactory(), kind="evaluate", spec={}, state=Run.State.CANCELLED)
    url = worker.environment["STEELYARD_DATABASE_URL"]
    with psycopg.connect(url) as blocker:
        # The job waits for this lock: a long task that needs no time of the processor.
        blocker.execute("LOCK TABLE rmeval_run IN ACCESS EXCLUSIVE MODE")
        worker.send(run.uid)
        wait_for("the job is taken", lambda: worker.n_taken == 1, 15)
        with locked_out(url):
            wait_for("the broker is lost", lambda: "Cannot connect" in worker.log_path.read_text(), 20)
        worker.send(uuid4())
        wait_for("one message more is taken", lambda: worker.n_taken == 2, 20)
        time.sleep(2 * STUCK_AFTER_TEST_S)
        assert worker.process.poll() is None
    wait_for("both are done", lambda: worker.n_done == 2, 15)
