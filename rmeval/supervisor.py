"""The thread beside a running job: it beats, writes what the job reported, and makes a cancel take effect.

A job asks `checkpoint()` between batches and stops by itself. Where it cannot (importing torch, one long batch) the
thread ends the run in the database and then the process: a cancel always takes less than two seconds.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from types import TracebackType

from django.db import DatabaseError, connection
from django.utils import timezone

from rmeval.models import Run
from rmeval.report import RunReport
from rmeval.services.runs import run_beat, run_finish, run_pulse, run_record

logger = logging.getLogger(__name__)
TICK_S = 0.5
BEAT_EVERY_S = 2.0
CANCEL_GRACE_S = 1.0


class RunSupervisor:
    """Context manager around a job. `stop` is set when the job should raise JobCancelled at its next checkpoint()."""

    def __init__(self, run: Run, report: RunReport, *, exit_process: Callable[[int], None] | None = os._exit) -> None:
        self.run = run
        self.attempt = run.attempt
        self.report = report
        self.exit_process = exit_process
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"run-{run.uid}", daemon=True)
        self._last_beat = 0.0
        self._stop_since: float | None = None

    def __enter__(self) -> "RunSupervisor":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self.flush()

    def flush(self) -> None:
        """Write what was reported since the last time; the last words of a job are never lost."""
        record = self.report.take()
        if record is None:
            return
        try:
            run_record(run=self.run, attempt=self.attempt, record=record, now=timezone.now())
        except DatabaseError:
            self.report.put_back(record)
            raise

    def _watch(self) -> None:
        try:
            while not self._done.wait(TICK_S if self._stop_since is None else 0.1):
                try:
                    self._tick()
                except DatabaseError as error:
                    # The database may restart under us: the run goes on and the next tick tries again.
                    logger.warning("run %s: cannot reach the database, trying again: %s", self.run.uid, error)
                    connection.close()
        finally:
            connection.close()

    def _tick(self) -> None:
        pulse = run_pulse(run=self.run, attempt=self.attempt)
        if not pulse.is_ours or pulse.cancel_requested:
            self._stop(is_ours=pulse.is_ours)
            return
        self.flush()
        if time.monotonic() - self._last_beat >= BEAT_EVERY_S:
            run_beat(run=self.run, attempt=self.attempt, now=timezone.now())
            self._last_beat = time.monotonic()

    def _stop(self, *, is_ours: bool) -> None:
        self.report.stop.set()
        if self._stop_since is None:
            self._stop_since = time.monotonic()
        if time.monotonic() - self._stop_since < CANCEL_GRACE_S or self.exit_process is None or self._done.is_set():
            return
        if is_ours:
            run_finish(run=self.run, attempt=self.attempt, state=Run.State.CANCELLED, now=timezone.now())
        logger.warning("run %s: the job did not stop by itself, ending its process", self.run.uid)
        self.exit_process(1)
