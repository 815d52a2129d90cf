"""What a queued run waits for: runs before it, or a worker that is not there."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import Q

from rmeval.models import Run, WorkerHeartbeat
from rmeval.services.placement import has_gpu, run_queue
from workers.jobs import JOBS

SILENT_AFTER = timedelta(seconds=20)
"""Workers report every five seconds."""
MOST_AHEAD = 3


@dataclass(frozen=True)
class QueueState:
    """One Celery queue: runs in work, waiting runs in the order they were made, and its workers' last report."""

    name: str
    n_running: int
    waiting: list[int]
    seen_at: datetime | None
    shared_with: list[str] = field(default_factory=list)
    """Other queues with a run in work, which workers of this one serve too."""
    has_gpu: bool = True

    @property
    def title(self) -> str:
        """Without a GPU, what goes to the queue gpu is what takes long: trainings."""
        return f"queue {self.name}" if self.has_gpu or self.name != "gpu" else "training queue"

    def note(self, run: Run, now: datetime) -> str:
        """In words, for one queued run."""
        if self.seen_at is None:
            return (
                f"No worker of the queue {self.name} is running. `make up` starts one, or: "
                f"celery -A steelyard.celery worker -Q {self.name}"
            )
        silent = now - self.seen_at
        if silent > SILENT_AFTER:
            return f"No worker of the queue {self.name} has reported for {round(silent.total_seconds())} s."
        n_before = self.n_running + sum(pk < run.pk for pk in self.waiting)
        if n_before:
            return f"Behind {n_before} run{'' if n_before == 1 else 's'} on the {self.title}."
        if self.shared_with:
            others = " and ".join(self.shared_with)
            return f"Next on the {self.title}, whose worker serves {others} too, where a run is in work."
        return f"Next on the {self.title}; a worker takes it within seconds."


def waiting_notes(runs: Iterable[Run], *, now: datetime) -> dict[int, str]:
    """What each queued run among these waits for, by its key. Runs of all projects share a queue."""
    queued = [
        run for run in runs if run.state == Run.State.QUEUED and (run.environment.get("queue") or run.kind in JOBS)
    ]
    if not queued:
        return {}
    queues = {run.pk: run_queue(run) for run in queued}
    states = {name: queue_state(name) for name in sorted(set(queues.values()))}
    return {run.pk: states[queues[run.pk]].note(run, now) for run in queued}


def runs_ahead(run: Run) -> list[Run]:
    """What a queued run waits behind, of its own project: whoever sees the run may see these. At most MOST_AHEAD."""
    if run.state != Run.State.QUEUED or not run.environment.get("queue"):
        return []
    before = Q(state=Run.State.RUNNING) | Q(state=Run.State.QUEUED, pk__lt=run.pk)
    rows = Run.objects.filter(before, project=run.project_id, environment__queue=run.environment["queue"])
    return list(rows.select_related("reward_model").order_by("pk")[:MOST_AHEAD])


def queue_state(name: str) -> QueueState:
    live = Run.objects.filter(environment__queue=name)
    workers = list(WorkerHeartbeat.objects.filter(queues__contains=name).order_by("-seen_at")[:1000])
    others = {other for worker in workers for other in worker.queues} - {name}
    running = Run.objects.filter(state=Run.State.RUNNING, environment__queue__in=sorted(others))
    return QueueState(
        name=name,
        n_running=live.filter(state=Run.State.RUNNING).count(),
        waiting=list(live.filter(state=Run.State.QUEUED).order_by("pk").values_list("pk", flat=True)[:1000]),
        seen_at=workers[0].seen_at if workers else None,
        shared_with=sorted(set(running.values_list("environment__queue", flat=True))),
        has_gpu=name != "gpu" or has_gpu(),
    )
