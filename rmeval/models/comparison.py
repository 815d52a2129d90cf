"""Evaluations: a checkpoint on a set with known preferences. The per-item results are the scores themselves."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from annotator.models import Dataset, Project, Snapshot
from annotator.models.base import UidModel
from rmeval.models.reward_model import Checkpoint
from rmeval.models.run import Run


class Evaluation(UidModel):
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="evaluations")
    checkpoint = models.ForeignKey(Checkpoint, on_delete=models.CASCADE, related_name="evaluations")
    dataset = models.ForeignKey(Dataset, null=True, blank=True, on_delete=models.PROTECT, related_name="evaluations")
    snapshot = models.ForeignKey(Snapshot, null=True, blank=True, on_delete=models.PROTECT, related_name="evaluations")
    run = models.ForeignKey(Run, null=True, blank=True, on_delete=models.SET_NULL, related_name="evaluations")
    metrics = models.JSONField(default=dict)
    accuracy = models.FloatField(null=True)
    n_pairs = models.PositiveIntegerField(default=0)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["checkpoint", "dataset"],
                condition=Q(dataset__isnull=False),
                name="evaluation_of_dataset",
            ),
            models.UniqueConstraint(
                fields=["checkpoint", "snapshot"],
                condition=Q(snapshot__isnull=False),
                name="evaluation_of_snapshot",
            ),
            models.CheckConstraint(
                name="evaluation_one_source",
                condition=Q(dataset__isnull=False, snapshot__isnull=True)
                | Q(dataset__isnull=True, snapshot__isnull=False),
            ),
        ]
