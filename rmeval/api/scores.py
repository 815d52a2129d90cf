"""REST: scores read back, and scores that were computed elsewhere."""

from typing import Any
from uuid import UUID

from django.http import StreamingHttpResponse
from django.urls import URLPattern, path
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from annotator.access import RESEARCHERS
from annotator.api.datasets import RawBodyParser, body_of
from annotator.models import Dataset
from annotator.services.exports import CONTENT_TYPES
from annotator.streaming import streaming_response
from annotator.tasks import import_limits
from annotator.validation import invalid
from rmeval.access import access_checkpoint
from rmeval.models import Checkpoint
from rmeval.services.score_exports import COLUMNS, scores_export
from rmeval.services.score_imports import scores_import

MAX_ERRORS_SHOWN = 100


class CheckpointScores(APIView):
    """Scores of a checkpoint, as a file."""

    parser_classes = [MultiPartParser, RawBodyParser]

    class Output(serializers.Serializer[Any]):
        class Problem(serializers.Serializer[Any]):
            line = serializers.IntegerField()
            code = serializers.CharField()
            detail = serializers.CharField()

        n_rows = serializers.IntegerField(help_text="Rows read, good or bad.")
        n_scored = serializers.IntegerField(help_text="Responses that got a score.")
        n_known = serializers.IntegerField(help_text="Responses that had this very score already.")
        n_errors = serializers.IntegerField()
        errors = Problem(many=True, help_text="The first 100 rows refused.")  # type: ignore[assignment]

    @extend_schema(
        operation_id="scores_export",
        tags=["reward models"],
        description=(
            "Every score the checkpoint has given, streamed in the order of import; what POST takes. Each row has "
            + "; ".join(f"`{name}` ({told})" for name, told in COLUMNS.items())
            + ". 409 where nothing has been scored."
        ),
        parameters=[
            OpenApiParameter("dataset", OpenApiTypes.UUID, description="Only responses of this dataset."),
            OpenApiParameter("file", str, enum=list(CONTENT_TYPES), default="jsonl", description="Type of the file."),
            OpenApiParameter("texts", bool, default=False, description="Prompt and response beside each score."),
            OpenApiParameter("extra", str, description="Rewards of one person, by the key of the run's result."),
        ],
        responses={(200, kind): OpenApiTypes.BINARY for kind in CONTENT_TYPES.values()},
    )
    def get(self, request: Request, uid: UUID) -> StreamingHttpResponse:
        return scores_response(request, access_checkpoint(request.user, uid))

    @extend_schema(
        operation_id="scores_import",
        tags=["reward models"],
        description=(
            "Import scores into the checkpoint of a `score_file` reward model: the field `file` of a multipart form, "
            "or the body itself (JSON Lines, JSON array, CSV, TSV or Parquet, each also gzipped). A row has `score` "
            "and names its response by `response` (uid), by `example` (uid) and `number`, or by `response_sha256` "
            "(of its text) with `prompt_sha256` where texts repeat. Good rows are kept, the others listed by line; "
            "a score that is there is never changed. What GET writes is taken as it is; of it, the response's uid and "
            "the score are read. 422 when no row is good."
        ),
        parameters=[OpenApiParameter("dataset", OpenApiTypes.UUID, description="Look for responses in it alone.")],
        request={
            "multipart/form-data": {
                "type": "object",
                "required": ["file"],
                "properties": {"file": {"type": "string", "format": "binary"}},
            },
            "application/x-ndjson": OpenApiTypes.STR,
            "application/octet-stream": OpenApiTypes.BINARY,
        },
        responses={201: Output},
    )
    def post(self, request: Request, uid: UUID) -> Response:
        checkpoint = access_checkpoint(request.user, uid, RESEARCHERS)
        dataset = dataset_named(checkpoint, request.query_params.get("dataset", ""))
        stream, name = body_of(request)
        told = scores_import(checkpoint=checkpoint, stream=stream, name=name, limits=import_limits(), dataset=dataset)
        told.errors = told.errors[:MAX_ERRORS_SHOWN]
        return Response(self.Output(told).data, status=201)


def scores_response(request: Request, checkpoint: Checkpoint) -> StreamingHttpResponse:
    """The file that the query asks for."""
    query = request.query_params
    made = scores_export(
        checkpoint=checkpoint,
        dataset=dataset_named(checkpoint, query.get("dataset", "")),
        extra=query.get("extra", ""),
        file=query.get("file", "jsonl"),
        texts=query.get("texts", "").lower() in ("1", "true", "yes", "on"),
    )
    return streaming_response(request, made.chunks(), content_type=made.content_type, filename=made.filename)


def dataset_named(checkpoint: Checkpoint, uid: str) -> Dataset | None:
    if not uid:
        return None
    try:
        wanted = UUID(uid)
    except ValueError:
        raise invalid("/dataset", "not_a_uid", f"{uid[:40]!r} is no uid of a dataset.") from None
    found = Dataset.objects.filter(uid=wanted, project=checkpoint.reward_model.project_id, deleted_at=None).first()
    if found is None:
        raise invalid("/dataset", "unknown_dataset", "The project of this checkpoint has no such dataset.")
    return found


score_api_urls: list[URLPattern] = [
    path("checkpoints/<uuid:uid>/scores/", CheckpointScores.as_view(), name="checkpoint-scores"),
]
