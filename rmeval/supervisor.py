"""The thread beside a running job: it beats, writes what the job reported, and tells it to stop.

A job asks `checkpoint()` between batches and stops by itself. Where it cannot (importing torch, one long batch)
rmeval/cancel_watch.py ends its process.
"""

import logging
import os
import threading
import time
from pathlib import Path
from types import TracebackType

from django.conf import settings
from django.db import DatabaseError, connection
from django.utils import timezone

from rmeval.models import Run
from rmeval.report import RunReport
from rmeval.services.runs import run_beat, run_pulse, run_record

logger = logging.getLogger(__name__)
LOOK_EVERY_S = 0.25
WRITE_EVERY_S = 0.5  # pages are poked at most twice a second
BEAT_EVERY_S = 2.0


def busy_mark(run: Run) -> Path:
    """A file that is there while a process of this machine works on the run."""
    return Path(settings.VAR_DIR) / "runs" / str(run.uid) / "busy"


class RunSupervisor:
    """Context manager around a job. Sets `report.stop` when the job is to stop at its next checkpoint()."""

    def __init__(self, run: Run, report: RunReport) -> None:
        self.run = run
        self.attempt = run.attempt
        self.report = report
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"run-{run.uid}", daemon=True)
        self._last_beat = self._last_write = 0.0

    def __enter__(self) -> "RunSupervisor":
        busy_mark(self.run).parent.mkdir(parents=True, exist_ok=True)
        busy_mark(self.run).write_text(str(os.getpid()))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        busy_mark(self.run).unlink(missing_ok=True)
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
            while not self._done.wait(LOOK_EVERY_S):
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
            self.report.stop.set()
            return
        now = time.monotonic()
        if now - self._last_write >= WRITE_EVERY_S:
            self.flush()
            self._last_write = now
        if now - self._last_beat >= BEAT_EVERY_S:
            run_beat(run=self.run, attempt=self.attempt, now=timezone.now())
            self._last_beat = now
