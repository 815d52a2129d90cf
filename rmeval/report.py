"""What a job says, kept in memory until the supervisor writes it: the hot loop never waits for the database."""

import math
import threading

from rmeval.models import Run, RunEvent
from rmeval.services.runs import RunRecord


class RunReport:
    """Progress, metric points and log lines since the last write. Used by the job's thread and the supervisor's."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.attempt = run.attempt
        self.stop = threading.Event()
        self._lock = threading.Lock()
        self._events: list[RunEvent] = []
        self._fraction: float | None = None
        self._message: str | None = None

    def progress(self, done: float, total: float, message: str) -> None:
        with self._lock:
            self._fraction = done / total if total > 0 else 0.0
            if message:
                self._message = message

    def metric(self, step: int, values: dict[str, float]) -> None:
        """JSON has no nan or infinity; such a value is left out of the point and named in the log."""
        good = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        bad = sorted(set(values) - set(good))
        if good:
            self._add(RunEvent(kind=RunEvent.Kind.METRIC, step=step, data=good))
        if bad:
            self.log(f"step {step}: {', '.join(bad)} is not a finite number", "warning")

    def log(self, message: str, level: str) -> None:
        self._add(RunEvent(kind=RunEvent.Kind.LOG, level=level[:8], message=message.replace("\0", "\ufffd")))

    def take(self) -> RunRecord | None:
        """What there is to write, once; None when nothing is."""
        with self._lock:
            if not self._events and self._fraction is None and self._message is None:
                return None
            record = RunRecord(events=self._events, fraction_done=self._fraction, message=self._message)
            self._events, self._fraction, self._message = [], None, None
            return record

    def put_back(self, record: RunRecord) -> None:
        """After a failed write: the same again next time, before anything newer."""
        with self._lock:
            self._events = [*record.events, *self._events]
            self._fraction = record.fraction_done if self._fraction is None else self._fraction
            self._message = record.message if self._message is None else self._message

    def _add(self, event: RunEvent) -> None:
        event.run, event.attempt = self.run, self.attempt
        with self._lock:
            self._events.append(event)
