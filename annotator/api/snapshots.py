"""REST: snapshots, their exports, and agreement."""

from typing import Any
from uuid import UUID

from django.http import HttpResponse, StreamingHttpResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from annotator.access import RESEARCHERS, access_dataset, access_queue, access_snapshot
from annotator.api.fields import ChoiceInput, unknown_fields_check
from annotator.models import Snapshot
from annotator.requests import user_of
from annotator.selectors.agreement import queue_agreement
from annotator.selectors.snapshots import queue_snapshots
from annotator.services.exports import CONTENT_TYPES, ExportFile, dataset_export, snapshot_card, snapshot_export
from annotator.services.snapshot_rows import AGGREGATIONS
from annotator.services.snapshots import is_small, snapshot_create, snapshot_cut
from annotator.streaming import streaming_response
from annotator.tasks import enqueue_snapshot
from workers.data.exporters import export_labels

FORMAT = OpenApiParameter(
    "format", str, enum=[*export_labels(), "parquet"], default="trl-preference", description="Layout of the rows."
)
FILE = OpenApiParameter("file", str, enum=list(CONTENT_TYPES), default="jsonl", description="Type of the file.")
EXPORT_RESPONSES = {
    (200, CONTENT_TYPES["jsonl"]): OpenApiTypes.BINARY,
    (200, CONTENT_TYPES["parquet"]): OpenApiTypes.BINARY,
}


class SnapshotList(GenericAPIView[Snapshot]):
    class Input(serializers.Serializer[Any]):
        aggregation = ChoiceInput(choices=AGGREGATIONS, default="majority")
        filter = serializers.JSONField(
            required=False,
            help_text="{verdicts, min_judgements, raters, since, exclude_flagged}; all optional.",
        )
        idempotency_key = serializers.CharField(max_length=64, required=False)

    class Output(serializers.Serializer[Any]):
        uid = serializers.UUIDField()
        number = serializers.IntegerField()
        state = serializers.ChoiceField(choices=Snapshot.State.choices)
        aggregation = serializers.CharField()
        filter = serializers.JSONField()
        sha256 = serializers.CharField(help_text="The same when cut again from the same state; empty while cutting.")
        n_rows = serializers.IntegerField()
        counts = serializers.JSONField(help_text="Rows by verdict; items and judgements used and left out, and why.")
        failure = serializers.CharField()
        created_at = serializers.DateTimeField()

    serializer_class = Output
    queryset = Snapshot.objects.none()

    @extend_schema(operation_id="snapshot_list", tags=["snapshots"], responses=Output(many=True))
    def get(self, request: Request, uid: UUID) -> Response:
        """Snapshots of a queue, newest first."""
        page = self.paginate_queryset(queue_snapshots(queue=access_queue(request.user, uid)))
        return self.get_paginated_response(self.Output(page, many=True).data)

    @extend_schema(operation_id="snapshot_cut", tags=["snapshots"], request=Input, responses={201: Output, 202: Output})
    def post(self, request: Request, uid: UUID) -> Response:
        """Freeze the current judgements. A big queue is cut in the background: 202, then poll the snapshot."""
        queue = access_queue(request.user, uid, RESEARCHERS)
        unknown_fields_check(request.data, self.Input)
        data = self.Input(data=request.data)
        data.is_valid(raise_exception=True)
        values = {"queue": queue, "created_by": user_of(request), "now": timezone.now(), **data.validated_data}
        if is_small(queue):
            snapshot = snapshot_cut(**values)
        else:
            snapshot, _ = snapshot_create(**values)
            enqueue_snapshot(snapshot)
        cutting = snapshot.state == Snapshot.State.CUTTING
        return Response(
            self.Output(snapshot).data,
            status=status.HTTP_202_ACCEPTED if cutting else status.HTTP_201_CREATED,
            headers={"Location": reverse("annotator-api:snapshot-detail", args=[snapshot.uid])},
        )


class SnapshotDetail(APIView):
    @extend_schema(operation_id="snapshot_detail", tags=["snapshots"], responses=SnapshotList.Output)
    def get(self, request: Request, uid: UUID) -> Response:
        """One snapshot."""
        return Response(SnapshotList.Output(access_snapshot(request.user, uid)).data)


class SnapshotExport(APIView):
    @extend_schema(
        operation_id="snapshot_export", tags=["snapshots"], parameters=[FORMAT, FILE], responses=EXPORT_RESPONSES
    )
    def get(self, request: Request, uid: UUID) -> StreamingHttpResponse:
        """The rows, streamed. The header X-Steelyard-Sha256 carries the snapshot's hash."""
        snapshot = access_snapshot(request.user, uid)
        return streamed(request, snapshot_export(snapshot=snapshot, **wanted(request)))


class SnapshotCard(APIView):
    @extend_schema(
        operation_id="snapshot_card",
        tags=["snapshots"],
        parameters=[FORMAT, FILE],
        responses={(200, "text/markdown"): OpenApiTypes.STR},
    )
    def get(self, request: Request, uid: UUID) -> HttpResponse:
        """README.md for the folder that holds the exported file."""
        snapshot = access_snapshot(request.user, uid)
        card = snapshot_card(snapshot=snapshot, **wanted(request))
        return HttpResponse(card, content_type="text/markdown; charset=utf-8")


class DatasetExport(APIView):
    @extend_schema(
        operation_id="dataset_export", tags=["datasets"], parameters=[FORMAT, FILE], responses=EXPORT_RESPONSES
    )
    def get(self, request: Request, uid: UUID) -> StreamingHttpResponse:
        """The preferences a dataset came with, in the layouts of snapshots."""
        dataset = access_dataset(request.user, uid)
        return streamed(request, dataset_export(dataset=dataset, **wanted(request)))


class FigureOutput(serializers.Serializer[Any]):
    value = serializers.FloatField(allow_null=True, help_text="Null where undefined; `reason` says why.")
    low = serializers.FloatField(allow_null=True, help_text="95% bootstrap interval over items.")
    high = serializers.FloatField(allow_null=True)
    n = serializers.IntegerField(help_text="Items with two or more ratings.")
    n_ratings = serializers.IntegerField()
    reason = serializers.CharField()


class QueueAgreementView(APIView):
    class Output(serializers.Serializer[Any]):
        alpha = FigureOutput(help_text="Krippendorff's alpha of verdicts.")
        percent_agreement = FigureOutput()
        ordinal_alpha = FigureOutput(allow_null=True, help_text="On signed strength; null without a strength scale.")
        n_items = serializers.IntegerField(help_text="Items with two or more ratings.")
        n_raters = serializers.IntegerField()
        n_judgements = serializers.IntegerField()
        n_single = serializers.IntegerField(help_text="Items with one rating, which say nothing of agreement.")
        n_cannot_judge = serializers.IntegerField()
        reason = serializers.CharField(help_text="In words why there is no figure; empty where there is.")

    @extend_schema(operation_id="queue_agreement", tags=["queues"], responses=Output)
    def get(self, request: Request, uid: UUID) -> Response:
        """Agreement of the raters, on current judgements that are not surplus."""
        return Response(self.Output(queue_agreement(queue=access_queue(request.user, uid))).data)


def wanted(request: Request) -> dict[str, str]:
    query = request.query_params
    return {"label": query.get("format", "trl-preference"), "file": query.get("file", "jsonl")}


def streamed(request: Request, exported: ExportFile) -> StreamingHttpResponse:
    return streaming_response(
        request,
        exported.chunks(),
        content_type=exported.content_type,
        filename=exported.filename,
        X_Steelyard_Sha256=exported.sha256,
    )


snapshot_api_urls: list[URLPattern] = [
    path("queues/<uuid:uid>/snapshots/", SnapshotList.as_view(), name="snapshot-list"),
    path("queues/<uuid:uid>/agreement/", QueueAgreementView.as_view(), name="queue-agreement"),
    path("snapshots/<uuid:uid>/", SnapshotDetail.as_view(), name="snapshot-detail"),
    path("snapshots/<uuid:uid>/export/", SnapshotExport.as_view(), name="snapshot-export"),
    path("snapshots/<uuid:uid>/card/", SnapshotCard.as_view(), name="snapshot-card"),
    path("datasets/<uuid:uid>/export/", DatasetExport.as_view(), name="dataset-export"),
]
