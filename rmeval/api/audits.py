"""REST: edits of labels that a label audit has led to."""

from random import SystemRandom
from typing import Any
from uuid import UUID

from django.urls import URLPattern, path
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from annotator.access import RESEARCHERS
from annotator.api.fields import ChoiceInput, unknown_fields_check
from annotator.errors import NotFound
from annotator.models import Snapshot
from annotator.pagination import PkCursorPagination
from annotator.requests import user_of
from rmeval.access import access_run
from rmeval.models import PairEdit, Run
from rmeval.selectors.audits import chosen_pairs, edits_of_run
from rmeval.services.edits import edits_from_snapshot, edits_make, edits_queue, edits_undo


class PairChoice(serializers.Serializer[Any]):
    """Which pairs: exactly one of the three."""

    pairs = serializers.ListField(
        child=serializers.CharField(max_length=60), required=False, max_length=100_000, help_text="Ids as in the table."
    )
    lowest_share = serializers.FloatField(required=False, help_text="The lowest share by strength, in (0, 1].")
    negative = serializers.BooleanField(required=False, default=False, help_text="All pairs of negative strength.")


def pairs_of(run: Run, values: dict[str, Any]) -> list[str]:
    """Take the choice out of the values; the pairs that it means."""
    return chosen_pairs(
        run=run,
        pairs=values.pop("pairs", ()),
        lowest_share=values.pop("lowest_share", None),
        negative=values.pop("negative", False),
    )


class EditsMadeOutput(serializers.Serializer[Any]):
    n_made = serializers.IntegerField(help_text="New edits.")
    n_replaced = serializers.IntegerField(help_text="Of these, how many ended another edit.")
    n_same = serializers.IntegerField(help_text="Pairs that were edited so already.")
    n_people = serializers.IntegerField(help_text="Pairs left as people said on second sight.")


class RunEdits(APIView):
    """Edits of labels made from a label audit."""

    class Input(PairChoice):
        kind = ChoiceInput(choices=PairEdit.Kind.choices)
        value = serializers.FloatField(required=False, allow_null=True, help_text="Of soften and weight.")
        reason = serializers.CharField(required=False, allow_blank=True, max_length=300)

    class Row(serializers.ModelSerializer[PairEdit]):
        pair = serializers.SerializerMethodField()
        told_by = serializers.UUIDField(source="told_by.uid", allow_null=True, default=None)

        class Meta:
            model = PairEdit
            fields = ("uid", "pair", "kind", "value", "reason", "told_by", "created_at", "reverted_at")

        def get_pair(self, edit: PairEdit) -> str:
            return f"{'dataset' if edit.dataset_id else 'snapshot'}-{edit.row_id}"

    @extend_schema(
        operation_id="run_edit_list",
        tags=["runs"],
        parameters=[OpenApiParameter("standing", bool, description="true: only edits that were not taken back.")],
        responses=Row(many=True),
    )
    def get(self, request: Request, uid: UUID) -> Response:
        rows = edits_of_run(access_run(request.user, uid))
        if request.query_params.get("standing") == "true":
            rows = rows.filter(reverted_at=None)
        pager = PkCursorPagination()
        page = pager.paginate_queryset(rows, request, self) or []
        return pager.get_paginated_response(self.Row(page, many=True).data)

    @extend_schema(operation_id="run_edit_make", tags=["runs"], request=Input, responses={201: EditsMadeOutput})
    def post(self, request: Request, uid: UUID) -> Response:
        run = access_run(request.user, uid, RESEARCHERS)
        unknown_fields_check(request.data, self.Input)
        given = self.Input(data=request.data)
        given.is_valid(raise_exception=True)
        values = dict(given.validated_data)
        pairs = pairs_of(run, values)
        made = edits_make(run=run, pairs=pairs, user=user_of(request), now=timezone.now(), **values)
        return Response(EditsMadeOutput(made).data, status=201)


class RunEditsUndo(APIView):
    """Take edits back."""

    class Input(serializers.Serializer[Any]):
        edits = serializers.ListField(
            child=serializers.UUIDField(), required=False, max_length=100_000, help_text="Left out: all that stand."
        )

    class Output(serializers.Serializer[Any]):
        n_undone = serializers.IntegerField()

    @extend_schema(operation_id="run_edit_undo", tags=["runs"], request=Input, responses=Output)
    def post(self, request: Request, uid: UUID) -> Response:
        run = access_run(request.user, uid, RESEARCHERS)
        unknown_fields_check(request.data, self.Input)
        given = self.Input(data=request.data)
        given.is_valid(raise_exception=True)
        named = given.validated_data.get("edits")
        n = edits_undo(run=run, edits=named, user=user_of(request), now=timezone.now())
        return Response(self.Output({"n_undone": n}).data)


class RunEditsQueue(APIView):
    """Ask people about pairs once more, in a queue that hides the old label."""

    class Input(PairChoice):
        name = serializers.CharField(max_length=200, help_text="Raters see it.")
        overlap = serializers.IntegerField(min_value=1, max_value=50, required=False, default=1)

    class Output(serializers.Serializer[Any]):
        queue = serializers.UUIDField(source="uid")

    @extend_schema(operation_id="run_edit_queue", tags=["runs"], request=Input, responses={201: Output})
    def post(self, request: Request, uid: UUID) -> Response:
        run = access_run(request.user, uid, RESEARCHERS)
        unknown_fields_check(request.data, self.Input)
        given = self.Input(data=request.data)
        given.is_valid(raise_exception=True)
        values = dict(given.validated_data)
        pairs = pairs_of(run, values)
        queue = edits_queue(
            run=run, pairs=pairs, user=user_of(request), now=timezone.now(), rng=SystemRandom(), **values
        )
        return Response(self.Output(queue).data, status=201)


class RunEditsVerdicts(APIView):
    """Take what people said on second sight as the labels."""

    class Input(serializers.Serializer[Any]):
        snapshot = serializers.UUIDField(help_text="Snapshot of the queue that was made from the audit.")

    @extend_schema(operation_id="run_edit_verdicts", tags=["runs"], request=Input, responses={201: EditsMadeOutput})
    def post(self, request: Request, uid: UUID) -> Response:
        run = access_run(request.user, uid, RESEARCHERS)
        unknown_fields_check(request.data, self.Input)
        given = self.Input(data=request.data)
        given.is_valid(raise_exception=True)
        rows = Snapshot.objects.filter(queue__project=run.project, queue__deleted_at=None).select_related("queue")
        snapshot = rows.filter(uid=given.validated_data["snapshot"]).first()
        if snapshot is None:
            raise NotFound("This project has no such snapshot.", code="unknown_snapshot")
        made = edits_from_snapshot(run=run, snapshot=snapshot, user=user_of(request), now=timezone.now())
        return Response(EditsMadeOutput(made).data, status=201)


audit_api_urls: list[URLPattern] = [
    path("runs/<uuid:uid>/edits/", RunEdits.as_view(), name="run-edits"),
    path("runs/<uuid:uid>/edits/undo/", RunEditsUndo.as_view(), name="run-edits-undo"),
    path("runs/<uuid:uid>/edits/queue/", RunEditsQueue.as_view(), name="run-edits-queue"),
    path("runs/<uuid:uid>/edits/verdicts/", RunEditsVerdicts.as_view(), name="run-edits-verdicts"),
]
