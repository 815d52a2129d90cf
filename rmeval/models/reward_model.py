"""Reward models, their checkpoints, and the scores they gave."""

from typing import ClassVar

from django.db import models

from annotator.models import Project, Response, User
from annotator.models.base import UidModel


class RewardModel(UidModel):
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="reward_models")
    name = models.CharField(max_length=200)
    family = models.CharField(max_length=60, help_text="Name in the registry of families.")
    config = models.JSONField(default=dict)
    description = models.TextField(blank=True)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    deleted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["project", "name"], name="reward_model_name_in_project")
        ]

    def __str__(self) -> str:
        return self.name


class Checkpoint(UidModel):
    """Weights (or a rule) that give rewards. Never changed once scored with."""

    reward_model = models.ForeignKey(RewardModel, on_delete=models.CASCADE, related_name="checkpoints")
    number = models.PositiveIntegerField()
    run = models.ForeignKey("rmeval.Run", null=True, blank=True, on_delete=models.SET_NULL, related_name="checkpoints")
    path = models.CharField(max_length=500, blank=True, help_text="Folder below the artifact store; empty for rules.")
    sha256 = models.CharField(max_length=64, blank=True)
    step = models.PositiveIntegerField(null=True, blank=True)
    metrics = models.JSONField(default=dict)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["reward_model", "number"], name="checkpoint_number")]

    def __str__(self) -> str:
        return f"{self.reward_model.name} #{self.number}"


class Score(models.Model):
    """The reward one checkpoint gave one response: computed once, never twice."""

    checkpoint = models.ForeignKey(Checkpoint, on_delete=models.CASCADE, related_name="scores", db_index=False)
    response = models.ForeignKey(Response, on_delete=models.CASCADE, related_name="scores", db_index=False)
    extra = models.CharField(
        max_length=64,
        default="",
        blank=True,
        help_text="Key of reference, principle or rubric; empty for none.",
    )
    value = models.FloatField()
    parts = models.JSONField(
        null=True, help_text="What the family tells besides the reward: attributes, spread, tokens, steps."
    )

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["checkpoint", "response", "extra"], name="score_once"),
        ]
