"""Edits of labels: made beside the rows they are about, applied when pairs are read for training, and reversible."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from annotator.models import Dataset, Snapshot, User
from annotator.models.base import UidModel
from rmeval.models.run import Run


class PairEdit(UidModel):
    """One decision about one pair. A row is never changed by it; a later decision ends this one."""

    class Kind(models.TextChoices):
        FLIP = "flip", "turn the label"
        SOFTEN = "soften", "soften the label"
        DROP = "drop", "leave the pair out"
        WEIGHT = "weight", "weight the pair"
        KEEP = "keep", "keep the label"

    dataset = models.ForeignKey(Dataset, null=True, blank=True, on_delete=models.CASCADE, related_name="pair_edits")
    snapshot = models.ForeignKey(Snapshot, null=True, blank=True, on_delete=models.CASCADE, related_name="pair_edits")
    row_id = models.BigIntegerField(help_text="Key of the preference of the dataset, or of the row of the snapshot.")
    kind = models.CharField(max_length=8, choices=Kind.choices)
    value = models.FloatField(
        null=True, blank=True, help_text="soften: chance that the label is the wrong way round; weight: the weight."
    )
    reason = models.CharField(max_length=300, blank=True)
    run = models.ForeignKey(
        Run, null=True, blank=True, on_delete=models.SET_NULL, related_name="pair_edits", help_text="Audit behind it."
    )
    told_by = models.ForeignKey(
        Snapshot,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        help_text="Judgements of people behind it; models do not overrule them.",
    )
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    reverted_at = models.DateTimeField(null=True, blank=True)
    reverted_by = models.ForeignKey(User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                name="pair_edit_one_source",
                condition=Q(dataset__isnull=False, snapshot__isnull=True)
                | Q(dataset__isnull=True, snapshot__isnull=False),
            ),
            models.CheckConstraint(
                name="pair_edit_value",
                condition=Q(kind="soften", value__gt=0, value__lt=0.5)
                | Q(kind="weight", value__gte=0, value__lte=1000)
                | Q(kind__in=["flip", "drop", "keep"], value__isnull=True),
            ),
            models.UniqueConstraint(
                fields=["dataset", "row_id"],
                condition=Q(dataset__isnull=False, reverted_at__isnull=True),
                name="one_standing_edit_of_preference",
            ),
            models.UniqueConstraint(
                fields=["snapshot", "row_id"],
                condition=Q(snapshot__isnull=False, reverted_at__isnull=True),
                name="one_standing_edit_of_row",
            ),
        ]
