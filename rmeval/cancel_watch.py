"""The worker's main process sees to it that a cancel takes effect: a task process that does not stop is ended.

A thread beside the job could not do this: importing torch holds the interpreter's lock for seconds. The main process
never imports torch.
"""

import logging
import os
import signal
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any

import psutil
import psycopg
from celery import signals
from django.apps import apps
from django.db import connection
from django.utils import timezone

from annotator.live import listen_dsn

logger = logging.getLogger(__name__)
LOOK_EVERY_S = 0.25
GRACE_S = 0.9
LAST_WORDS_S = 0.1
RECONNECT_AFTER_S = 1.0


@dataclass(frozen=True)
class Asked:
    """A running run of this worker that somebody wants stopped."""

    run_id: int
    attempt: int
    pid: int


class CancelWatch(threading.Thread):
    """A daemon thread of the worker's main process, on a connection of its own."""

    def __init__(self) -> None:
        super().__init__(name="cancel-watch", daemon=True)
        self.host = socket.gethostname()
        self.first_seen: dict[Asked, float] = {}

    def run(self) -> None:
        while True:
            try:
                with psycopg.connect(listen_dsn(), autocommit=True, connect_timeout=5) as own:
                    while True:
                        self.look(own)
                        time.sleep(LOOK_EVERY_S)
            except psycopg.Error as error:
                logger.warning("cannot look for cancelled runs, trying again: %s", error)
                time.sleep(RECONNECT_AFTER_S)

    def look(self, own: "psycopg.Connection[Any]") -> None:
        asked = self.asked(own)
        now = time.monotonic()
        self.first_seen = {run: self.first_seen.get(run, now) for run in asked}
        for run, since in self.first_seen.items():
            if now - since >= GRACE_S and is_own_child(run.pid):
                end(run)

    def asked(self, own: "psycopg.Connection[Any]") -> list[Asked]:
        table = apps.get_model("rmeval", "Run")._meta.db_table
        rows = own.execute(
            f"SELECT id, attempt, worker FROM {table} "  # noqa: S608 - our own table
            "WHERE state = 'running' AND cancel_requested_at IS NOT NULL AND starts_with(worker, %s)",
            [f"{self.host}:"],
        ).fetchall()
        pids = [(run_id, attempt, worker.rpartition(":")[2]) for run_id, attempt, worker in rows]
        return [Asked(run_id, attempt, int(pid)) for run_id, attempt, pid in pids if pid.isdigit()]


def is_own_child(pid: int) -> bool:
    """Another worker of this host looks after its own task processes."""
    try:
        return psutil.Process(pid).ppid() == os.getpid()
    except psutil.NoSuchProcess:
        return False


def end(asked: Asked) -> None:
    """First the state, then the process: were it killed first, the run would look lost for a moment."""
    from rmeval.models import Run
    from rmeval.services.runs import run_finish
    from rmeval.supervisor import busy_mark

    try:
        run = Run.objects.select_related("project").get(pk=asked.run_id)
        if run_finish(run=run, attempt=asked.attempt, state=Run.State.CANCELLED, now=timezone.now()):
            time.sleep(LAST_WORDS_S)
            # A job that stopped just now has left an idle task process, whose death Celery would not notice.
            if busy_mark(run).exists():
                logger.warning("run %s did not stop by itself, ending its process %s", run.uid, asked.pid)
                os.kill(asked.pid, signal.SIGKILL)
    except ProcessLookupError:
        logger.info("the process %s of a cancelled run was gone already", asked.pid)
    finally:
        # Task processes are forked from this one and must not inherit its database connections.
        connection.close()
        connection.close_pool()  # type: ignore[attr-defined]


@signals.worker_ready.connect
def start_watch(**_: object) -> None:
    """Celery is ready anew after every reconnection; one watch is enough."""
    if not any(isinstance(thread, CancelWatch) for thread in threading.enumerate()):
        CancelWatch().start()
