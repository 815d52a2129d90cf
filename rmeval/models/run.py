"""Runs: everything that takes long is a row with a state, a heartbeat and events."""

from datetime import datetime, timedelta
from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from annotator.models import Project, User
from annotator.models.base import UidModel


class RunQuerySet(models.QuerySet["Run"]):
    def startable(self, now: datetime, *, stale: timedelta, max_attempts: int) -> "RunQuerySet":
        """Queued runs, and running ones whose worker went silent; both only while attempts are left."""
        lost = Q(state=Run.State.RUNNING, heartbeat_at__lt=now - stale)
        return self.filter(Q(state=Run.State.QUEUED) | lost, attempt__lt=max_attempts, cancel_requested_at__isnull=True)


class Run(UidModel):
    class State(models.TextChoices):
        QUEUED = "queued", "queued"
        RUNNING = "running", "running"
        DONE = "done", "done"
        FAILED = "failed", "failed"
        CANCELLED = "cancelled", "cancelled"

    ENDED = (State.DONE, State.FAILED, State.CANCELLED)

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="runs")
    kind = models.CharField(max_length=60, help_text="Name in the registry of jobs.")
    spec = models.JSONField()
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    attempt = models.PositiveSmallIntegerField(default=0)
    fraction_done = models.FloatField(default=0)
    message = models.CharField(max_length=300, blank=True)
    result = models.JSONField(null=True, blank=True)
    error = models.JSONField(null=True, blank=True, help_text="{message, hint, trace}")
    environment = models.JSONField(
        default=dict, help_text="Versions, hardware, data hash: what is needed to repeat the run."
    )
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    reward_model = models.ForeignKey(
        "rmeval.RewardModel", null=True, blank=True, on_delete=models.SET_NULL, related_name="runs"
    )
    parent = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, related_name="retries")
    idempotency_key = models.CharField(max_length=64, null=True, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    worker = models.CharField(max_length=120, blank=True)
    enqueued_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)

    objects = RunQuerySet.as_manager()

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["project", "-id"], name="run_of_project"),
            models.Index(F("state"), F("heartbeat_at"), condition=Q(state__in=["queued", "running"]), name="run_live"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["project", "idempotency_key"],
                condition=Q(idempotency_key__isnull=False),
                name="run_idempotency",
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.uid}"

    @property
    def has_ended(self) -> bool:
        return self.state in self.ENDED


class RunEvent(models.Model):
    """A line of a run's log, or one point of its curves."""

    class Kind(models.TextChoices):
        LOG = "log", "log"
        METRIC = "metric", "metric"
        STATE = "state", "state"

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="events", db_index=False)
    kind = models.CharField(max_length=8, choices=Kind.choices)
    attempt = models.PositiveSmallIntegerField(default=1)
    step = models.PositiveIntegerField(null=True, blank=True)
    level = models.CharField(max_length=8, default="info")
    message = models.TextField(blank=True)
    data = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes: ClassVar = [models.Index(fields=["run", "kind", "id"], name="event_of_run")]


class Artifact(UidModel):
    """A file or folder a run made, below the artifact store."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="artifacts")
    kind = models.CharField(max_length=40)
    name = models.CharField(max_length=200)
    path = models.CharField(max_length=500)
    sha256 = models.CharField(max_length=64)
    n_bytes = models.BigIntegerField(default=0)
    meta = models.JSONField(default=dict)


class WorkerHeartbeat(models.Model):
    """When a worker last reported; processes that look alive but are deaf show here."""

    name = models.CharField(max_length=200, unique=True)
    queues = models.JSONField(default=list)
    seen_at = models.DateTimeField()
