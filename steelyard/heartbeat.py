"""A worker says in the database that it is there, ends itself when useless, and hands its runs back when it stops."""

import json
import logging
import os
import signal
import socket
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
import psycopg
from celery import bootsteps
from celery.worker import state
from django.apps import apps
from django.db import connection
from django.utils import timezone

from steelyard.broker import conninfo, drained_ago_s
from steelyard.env import env_int
from steelyard.processes import is_alive

logger = logging.getLogger(__name__)
EVERY_S = env_int("STEELYARD_WORKER_BEAT_S", 5)
DEAF_AFTER_S = 120.0
STUCK_AFTER_S = 3 * EVERY_S
EXIT_USELESS = 75
QUIT_WITHIN_S = 4.0


class Heartbeat(threading.Thread):
    """A daemon thread of the worker's main process, on connections of its own."""

    def __init__(self, *, name: str, queues: list[str], is_pgmq: bool, n_processes: int = 1) -> None:
        super().__init__(name="steelyard-heartbeat", daemon=True)
        self.worker, self.queues, self.is_pgmq, self.n_processes = name, queues, is_pgmq, n_processes
        self.table = apps.get_model("rmeval", "WorkerHeartbeat")._meta.db_table
        self.stopped = threading.Event()
        self.waiting_since: dict[str, float] = {}

    def run(self) -> None:
        while not self.stopped.is_set():
            try:
                self.beat()
                self.end_if_useless()
                self.touch()
            except psycopg.Error as error:
                logger.warning("heartbeat not written, trying again: %s", error)
            except Exception:
                logger.exception("heartbeat failed, trying again")
            self.stopped.wait(EVERY_S)

    def beat(self) -> None:
        with psycopg.connect(conninfo(), connect_timeout=5, autocommit=True) as own:
            own.execute(
                f"INSERT INTO {self.table} (name, queues, seen_at) VALUES (%s, %s, now()) "  # noqa: S608 - our own table
                "ON CONFLICT (name) DO UPDATE SET queues = excluded.queues, seen_at = excluded.seen_at",
                [self.worker, json.dumps(self.queues)],
            )

    def touch(self) -> None:
        """A file for container health checks, which are too frequent to ask the database."""
        if path := os.environ.get("STEELYARD_HEARTBEAT_FILE"):
            Path(path).touch()

    def end_if_useless(self) -> None:
        """The database answers but this worker would never work again: only a new process helps."""
        if reason := self.complaint(time.monotonic()):
            logger.critical("%s; ending so that I am started anew", reason)
            os._exit(EXIT_USELESS)

    def complaint(self, now: float) -> str:
        """Deaf: the loop does not look into its queues. Stuck: a message was taken, but no task process takes it over;
        so it is after an idle task process was killed, which then still holds the lock of the pipe to all of them."""
        if self.is_pgmq and drained_ago_s() > DEAF_AFTER_S:
            return f"no look into the queues for {drained_ago_s():.0f} s"
        active = set(state.active_requests)
        # After a reconnect a worker takes one message more than it has room for; while it works, waiting is no fault.
        is_busy = len(active) >= self.n_processes
        waiting = set() if is_busy else {request.id for request in set(state.reserved_requests) - active}
        self.waiting_since = {task_id: self.waiting_since.get(task_id, now) for task_id in waiting}
        if any(now - since > STUCK_AFTER_S for since in self.waiting_since.values()):
            return f"a task has waited {STUCK_AFTER_S} s for a free task process"
        return ""

    def leave(self) -> None:
        """Out of the table, so that /readyz does not count a worker that said goodbye."""
        self.stopped.set()
        with psycopg.connect(conninfo(), connect_timeout=2, autocommit=True) as own:
            own.execute(f"DELETE FROM {self.table} WHERE name = %s", [self.worker])  # noqa: S608 - our own table


class Presence(bootsteps.StartStopStep):
    """Celery calls `start` at every (re)connection and `shutdown` once, after the task processes are gone.

    SIGTERM stays Celery's warm shutdown, which waits for the job to end. SIGQUIT leaves within a second: the job's
    process is killed (jobs resume from their last checkpoint) and its run goes back to the queue.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)
    heartbeat: Heartbeat | None = None

    def start(self, parent: Any) -> None:
        if self.heartbeat is None:
            queues = sorted(queue.name for queue in parent.task_consumer.queues)
            is_pgmq = parent.app.conf.broker_url.startswith("pgmq")
            n_processes = parent.pool.num_processes
            self.heartbeat = Heartbeat(name=parent.hostname, queues=queues, is_pgmq=is_pgmq, n_processes=n_processes)
            self.heartbeat.start()
            signal.signal(signal.SIGQUIT, self.quit)

    def stop(self, parent: Any) -> None:
        """Between two connections the heartbeat goes on: the worker is there, its broker is not."""

    def shutdown(self, parent: Any) -> None:
        self.sign_off()

    def quit(self, number: int, frame: FrameType | None) -> None:
        """In a thread, because the interrupted main thread may hold locks; in any case over after a few seconds."""
        logger.info("leaving at once")
        limit = threading.Timer(QUIT_WITHIN_S, os._exit, [0])
        limit.daemon = True
        limit.start()
        threading.Thread(target=self.leave_at_once, name="steelyard-quit", daemon=True).start()

    def leave_at_once(self) -> None:
        tasks = psutil.Process().children()
        for process in tasks:
            process.kill()
        psutil.wait_procs(tasks, timeout=1)
        self.sign_off()
        os._exit(0)

    def sign_off(self) -> None:
        try:
            if self.heartbeat is not None:
                self.heartbeat.leave()
            release_runs()
        except Exception:
            logger.exception("could not sign off; the sweep will find the runs")


def release_runs() -> None:
    from rmeval.services.release import runs_release

    n_released = runs_release(host=socket.gethostname(), is_alive=is_alive, now=timezone.now())
    if n_released:
        logger.info("handed back %d run(s)", n_released)
    connection.close()
