"""The admin site of runs and reward models: read only, they are changed through services."""

from django.contrib import admin

from annotator.admin import ReadOnlyAdmin
from rmeval import models


@admin.register(models.RewardModel)
class RewardModelAdmin(ReadOnlyAdmin):
    list_display = ("name", "project", "family", "created_at", "deleted_at")
    list_filter = ("family",)
    list_select_related = ("project",)


@admin.register(models.Checkpoint)
class CheckpointAdmin(ReadOnlyAdmin):
    list_display = ("reward_model", "number", "step", "sha256", "created_at")
    list_select_related = ("reward_model",)


@admin.register(models.Run)
class RunAdmin(ReadOnlyAdmin):
    list_display = ("uid", "project", "kind", "state", "attempt", "worker", "created_at", "ended_at")
    list_filter = ("state", "kind")
    list_select_related = ("project",)


@admin.register(models.WorkerHeartbeat)
class WorkerHeartbeatAdmin(ReadOnlyAdmin):
    list_display = ("name", "queues", "seen_at")
