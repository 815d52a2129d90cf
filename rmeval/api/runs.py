"""REST: runs."""

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from django.conf import settings
from django.urls import URLPattern, path
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from annotator.access import READERS, RESEARCHERS, access_project
from annotator.api.fields import unknown_fields_check
from annotator.errors import FieldError, InvalidInput
from annotator.pagination import PkCursorPagination
from annotator.requests import user_of
from rmeval.access import access_run
from rmeval.models import Checkpoint, Run, RunEvent
from rmeval.selectors.runs import run_list
from rmeval.services.runs import run_cancel
from rmeval.services.submission import run_retry, run_submit
from workers.jobs import JOBS

LIST_FILTERS = [
    OpenApiParameter("state", str, enum=Run.State.values, description="Only runs in this state."),
    OpenApiParameter("kind", str, description="Only runs of this kind."),
]


def chosen(query: Mapping[str, str], name: str, known: Iterable[str]) -> str:
    """One of the known values; empty where none is asked for. InvalidInput names them otherwise."""
    value, names = query.get(name, ""), list(known)
    if value and value not in names:
        detail = f"There is no {name} called {value[:60]}. Known are: {', '.join(names)}."
        raise InvalidInput(detail, errors=[FieldError(f"/{name}", "unknown", detail)])
    return value


class RunOutput(serializers.ModelSerializer[Run]):
    """A run as it is now. `result` is there once it is done, `error` once it has failed."""

    project = serializers.UUIDField(source="project.uid")
    reward_model = serializers.SerializerMethodField()
    parent = serializers.SerializerMethodField()  # type: ignore[assignment]
    checkpoints = serializers.SerializerMethodField()
    error = serializers.SerializerMethodField()

    class Meta:
        model = Run
        fields = (
            "uid",
            "project",
            "kind",
            "spec",
            "state",
            "attempt",
            "fraction_done",
            "message",
            "result",
            "error",
            "environment",
            "reward_model",
            "parent",
            "checkpoints",
            "created_at",
            "started_at",
            "ended_at",
            "cancel_requested_at",
        )

    def get_reward_model(self, run: Run) -> str | None:
        return str(run.reward_model.uid) if run.reward_model else None

    def get_parent(self, run: Run) -> str | None:
        return str(run.parent.uid) if run.parent else None

    def get_checkpoints(self, run: Run) -> list[str]:
        return [str(uid) for uid in Checkpoint.objects.filter(run=run).order_by("number").values_list("uid", flat=True)]

    def get_error(self, run: Run) -> dict[str, str] | None:
        """Message and hint; the trace stays on the server's pages."""
        return {key: run.error.get(key, "") for key in ("message", "hint")} if run.error else None


class RunRow(serializers.ModelSerializer[Run]):
    class Meta:
        model = Run
        fields = ("uid", "kind", "state", "fraction_done", "message", "created_at", "started_at", "ended_at")


class ProjectRuns(APIView):
    """Runs of a project."""

    class Input(serializers.Serializer[Any]):
        kind = serializers.CharField(
            max_length=60, help_text="train_rm, evaluate, score and so on: GET /api/v1/settings/ lists them."
        )
        spec = serializers.DictField(
            help_text="Settings of that kind, as GET /api/v1/settings/ tells them; the rest takes its default."
        )
        idempotency_key = serializers.CharField(
            max_length=64, required=False, allow_null=True, help_text="The same key again gives the same run."
        )

    class Created(serializers.ModelSerializer[Run]):
        class Meta:
            model = Run
            fields = ("uid", "state")

    @extend_schema(operation_id="run_list", tags=["runs"], parameters=LIST_FILTERS, responses=RunRow(many=True))
    def get(self, request: Request, uid: UUID) -> Response:
        project = access_project(request.user, uid, READERS)
        query = request.query_params
        pager = PkCursorPagination()
        state = chosen(query, "state", Run.State.values)
        rows = run_list(project=project, state=state, kind=chosen(query, "kind", JOBS.names()))
        page = pager.paginate_queryset(rows, request, self) or []
        return pager.get_paginated_response(RunRow(page, many=True).data)

    @extend_schema(operation_id="run_submit", tags=["runs"], request=Input, responses={202: Created})
    def post(self, request: Request, uid: UUID) -> Response:
        project = access_project(request.user, uid, RESEARCHERS)
        unknown_fields_check(request.data, self.Input)
        given = self.Input(data=request.data)
        given.is_valid(raise_exception=True)
        run = run_submit(project=project, user=user_of(request), now=timezone.now(), **given.validated_data)
        return Response(self.Created(run).data, status=202)


class RunDetail(APIView):
    @extend_schema(operation_id="run_detail", tags=["runs"], responses=RunOutput)
    def get(self, request: Request, uid: UUID) -> Response:
        """One run: its spec, state, progress and result."""
        return Response(RunOutput(access_run(request.user, uid)).data)


class RunCancel(APIView):
    @extend_schema(operation_id="run_cancel", tags=["runs"], request=None, responses={202: RunOutput})
    def post(self, request: Request, uid: UUID) -> Response:
        """Stops within two seconds; 409 when the run has ended already."""
        run = access_run(request.user, uid, RESEARCHERS)
        run_cancel(run=run, now=timezone.now(), stale=settings.RUN_HEARTBEAT_STALE)
        return Response(RunOutput(access_run(request.user, uid)).data, status=202)


class RunRetry(APIView):
    @extend_schema(operation_id="run_retry", tags=["runs"], request=None, responses={202: ProjectRuns.Created})
    def post(self, request: Request, uid: UUID) -> Response:
        """A new run with the same settings; 409 while the old one goes on."""
        run = access_run(request.user, uid, RESEARCHERS)
        again = run_retry(run=run, user=user_of(request), now=timezone.now())
        return Response(ProjectRuns.Created(again).data, status=202)


class RunEvents(APIView):
    """Log lines and metric points, newest first."""

    class Row(serializers.ModelSerializer[RunEvent]):
        class Meta:
            model = RunEvent
            fields = ("kind", "attempt", "step", "level", "message", "data", "created_at")

    @extend_schema(
        operation_id="run_events",
        tags=["runs"],
        parameters=[OpenApiParameter("kind", str, enum=RunEvent.Kind.values, description="Only events of this kind.")],
        responses=Row(many=True),
    )
    def get(self, request: Request, uid: UUID) -> Response:
        events = RunEvent.objects.filter(run=access_run(request.user, uid))
        if kind := chosen(request.query_params, "kind", RunEvent.Kind.values):
            events = events.filter(kind=kind)
        pager = PkCursorPagination()
        page = pager.paginate_queryset(events, request, self) or []
        return pager.get_paginated_response(self.Row(page, many=True).data)


run_api_urls: list[URLPattern] = [
    path("projects/<uuid:uid>/runs/", ProjectRuns.as_view(), name="project-runs"),
    path("runs/<uuid:uid>/", RunDetail.as_view(), name="run-detail"),
    path("runs/<uuid:uid>/cancel/", RunCancel.as_view(), name="run-cancel"),
    path("runs/<uuid:uid>/retry/", RunRetry.as_view(), name="run-retry"),
    path("runs/<uuid:uid>/events/", RunEvents.as_view(), name="run-events"),
]
