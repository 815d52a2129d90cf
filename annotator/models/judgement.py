"""Judgements (versioned, never overwritten) and snapshots (frozen)."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from annotator.models.base import UidModel
from annotator.models.dataset import Dataset, Example, Response, Verdict
from annotator.models.queue import Assignment, FormVersion, GuidelinesVersion, Item, Queue
from annotator.models.user import Rater, User


class Judgement(UidModel):
    """One answer of one rater to one item. A correction is a new version; the newest is current."""

    queue = models.ForeignKey(Queue, on_delete=models.CASCADE, related_name="judgements", db_index=False)
    item = models.ForeignKey(Item, on_delete=models.CASCADE, related_name="judgements", db_index=False)
    rater = models.ForeignKey(Rater, on_delete=models.PROTECT, related_name="judgements", db_index=False)
    assignment = models.ForeignKey(Assignment, on_delete=models.PROTECT, related_name="judgements", db_index=False)
    version = models.PositiveSmallIntegerField(default=1)
    is_current = models.BooleanField(default=True)
    is_surplus = models.BooleanField(
        default=False, help_text="Arrived late, after its slot was filled; not in default exports."
    )
    verdict = models.CharField(
        max_length=8,
        choices=Verdict.choices,
        null=True,
        help_text="Of the first pairwise question; null: cannot judge.",
    )
    preference_strength = models.PositiveSmallIntegerField(null=True)
    answers = models.JSONField(help_text="Every answer by question name.")
    active_s = models.FloatField()
    idempotency_key = models.CharField(max_length=64)
    form_version = models.ForeignKey(FormVersion, on_delete=models.PROTECT, related_name="+", db_index=False)
    guidelines_version = models.ForeignKey(
        GuidelinesVersion, null=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["rater", "idempotency_key"], name="one_judgement_per_key"),
            models.UniqueConstraint(fields=["assignment", "version"], name="judgement_version"),
            models.UniqueConstraint(
                fields=["item", "rater"], condition=Q(is_current=True), name="one_current_judgement"
            ),
            models.CheckConstraint(
                name="judgement_strength_with_side",
                condition=Q(preference_strength__isnull=True)
                | Q(verdict__in=["a", "b"], preference_strength__range=(1, 3)),
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["queue", "item", "rater"], name="judgement_of_queue")]


class Snapshot(UidModel):
    """Rows frozen from a queue: filter, aggregation, and a hash that a second cut of the same state repeats."""

    class State(models.TextChoices):
        CUTTING = "cutting", "cutting"
        READY = "ready", "ready"
        FAILED = "failed", "failed"

    queue = models.ForeignKey(Queue, on_delete=models.PROTECT, related_name="snapshots")
    number = models.PositiveIntegerField()
    filter = models.JSONField(default=dict)
    aggregation = models.CharField(max_length=40, default="majority")
    state = models.CharField(max_length=10, choices=State.choices, default=State.CUTTING)
    sha256 = models.CharField(max_length=64, blank=True)
    n_rows = models.PositiveIntegerField(default=0)
    counts = models.JSONField(default=dict, help_text="Rows by verdict, judgements used and left out, with reasons.")
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    failure = models.TextField(blank=True)
    enqueued_at = models.DateTimeField(null=True, blank=True, help_text="Last time a worker was asked to cut it.")
    idempotency_key = models.CharField(max_length=64, null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["queue", "number"], name="snapshot_number"),
            models.UniqueConstraint(fields=["queue", "idempotency_key"], name="snapshot_idempotency"),
        ]


class SnapshotRow(models.Model):
    """One frozen row. Texts are referenced: a dataset is immutable once a queue used it."""

    snapshot = models.ForeignKey(Snapshot, on_delete=models.CASCADE, related_name="rows", db_index=False)
    position = models.PositiveIntegerField()
    item = models.ForeignKey(Item, on_delete=models.PROTECT, related_name="+", db_index=False)
    example = models.ForeignKey(Example, on_delete=models.PROTECT, related_name="+", db_index=False)
    response_a = models.ForeignKey(Response, on_delete=models.PROTECT, related_name="+", db_index=False)
    response_b = models.ForeignKey(Response, on_delete=models.PROTECT, related_name="+", db_index=False)
    verdict = models.CharField(max_length=8, choices=Verdict.choices, null=True)
    preference_strength = models.PositiveSmallIntegerField(null=True)
    shares = models.JSONField(default=dict, help_text="Share of judgements by verdict, in [0, 1].")
    judgements = models.JSONField(default=list, help_text="Frozen judgements behind the row.")

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["snapshot", "position"], name="snapshot_row_position")]


class AuditEvent(models.Model):
    """What was done by whom: append-only."""

    project = models.ForeignKey("annotator.Project", on_delete=models.CASCADE, related_name="audit_events")
    actor = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    action = models.CharField(max_length=60)
    detail = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)


__all__ = ["AuditEvent", "Dataset", "Judgement", "Snapshot", "SnapshotRow"]
