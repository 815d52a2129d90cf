"""The admin site: accounts can be edited; what people judged and what was frozen can only be read."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.db.models import Model
from django.http import HttpRequest

from annotator import models
from annotator.forms.accounts import StaffLoginForm
from annotator.live import poke, user_topic

admin.site.site_header = admin.site.site_title = "Steelyard"
admin.site.login_form = StaffLoginForm


@admin.register(models.User)
class AccountAdmin(UserAdmin):  # type: ignore[type-arg]
    """Whoever is changed here may have been deactivated: the sockets of their pages ask again what they may hear."""

    def save_model(self, request: HttpRequest, obj: models.User, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        poke(user_topic(obj), "membership")


class ReadOnlyAdmin(admin.ModelAdmin[Any]):
    """Rows are changed through services alone: they keep counters, versions and hashes true."""

    show_full_result_count = False
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(models.Project)
class ProjectAdmin(ReadOnlyAdmin):
    list_display = ("name", "uid", "is_demo", "archived_at", "created_at")
    search_fields = ("name",)


@admin.register(models.Membership)
class MembershipAdmin(ReadOnlyAdmin):
    list_display = ("user", "project", "role", "created_at")
    list_filter = ("role",)
    list_select_related = ("user", "project")


@admin.register(models.ApiToken)
class ApiTokenAdmin(ReadOnlyAdmin):
    list_display = ("user", "name", "prefix", "last_used_at", "revoked_at")
    exclude = ("digest",)
    list_select_related = ("user",)


@admin.register(models.Dataset)
class DatasetAdmin(ReadOnlyAdmin):
    list_display = ("name", "project", "state", "n_examples", "n_errors", "created_at")
    list_filter = ("state",)
    list_select_related = ("project",)


@admin.register(models.Queue)
class QueueAdmin(ReadOnlyAdmin):
    list_display = ("name", "project", "state", "overlap", "n_items", "created_at")
    list_filter = ("state",)
    list_select_related = ("project",)


@admin.register(models.Snapshot)
class SnapshotAdmin(ReadOnlyAdmin):
    list_display = ("queue", "number", "state", "n_rows", "sha256", "created_at")
    list_filter = ("state", "aggregation")
    list_select_related = ("queue",)


@admin.register(models.AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "project", "actor", "action", "detail")
    list_filter = ("action",)
    list_select_related = ("project", "actor")
