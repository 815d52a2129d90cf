"""REST: datasets, their import and their examples."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest
from django.urls import URLPattern, path
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.parsers import BaseParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from annotator.access import READERS, RESEARCHERS, access_dataset, access_example, access_project
from annotator.api.dataset_schemas import IMPORT_EXAMPLES, DatasetOutput, ExampleOutput, Imported, ProblemRow
from annotator.api.fields import unknown_fields_check
from annotator.errors import DomainError, InvalidInput
from annotator.models import Dataset
from annotator.pagination import PkCursorPagination
from annotator.requests import user_of
from annotator.selectors.datasets import (
    ExampleFilters,
    dataset_list,
    dataset_problems,
    examples_matching,
    with_responses,
)
from annotator.services.datasets import ImportRequest, dataset_delete, dataset_rename
from annotator.services.uploads import dataset_import_file
from annotator.tasks import enqueue_index, import_limits
from annotator.validation import invalid
from workers.data.formats import FORMATS
from workers.data.importing import AUTO

MAX_ERRORS_SHOWN = 100
TRUE = {"1", "true", "yes", "on"}


class RawBodyParser(BaseParser):
    """Any body that is no form: left unread, so that the view can stream it."""

    media_type = "*/*"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        return {}


class ByPosition(PkCursorPagination):
    ordering = "pk"


class ProjectDatasets(APIView):
    """The datasets of a project, and how new ones come in."""

    parser_classes = [MultiPartParser, RawBodyParser]

    @extend_schema(operation_id="dataset_list", tags=["datasets"], responses=DatasetOutput(many=True))
    def get(self, request: Request, uid: UUID) -> Response:
        project = access_project(user_of(request), uid, READERS)
        pager = PkCursorPagination()
        rows = pager.paginate_queryset(dataset_list(project=project), request, self) or []
        return pager.get_paginated_response(DatasetOutput(rows, many=True).data)

    @extend_schema(
        operation_id="dataset_import",
        tags=["datasets"],
        description=(
            "Import a file: the field `file` of a multipart form, or the body itself (JSON Lines, JSON array, CSV, TSV "
            "or Parquet, each also gzipped), which is streamed. Good rows are kept; each row refused is listed in "
            "`errors` with its line and reason. 422 when the file cannot be read or no row of it is good. When the "
            "connection breaks off, look at the dataset: a worker goes on with an import whose process died."
        ),
        parameters=[
            OpenApiParameter("name", str, description="Name of the dataset; by default the file's name."),
            OpenApiParameter("format", str, enum=[AUTO, *FORMATS.names()], default=AUTO),
            OpenApiParameter("licence", str, description="Licence of the data, kept with it."),
            OpenApiParameter(
                "allow_duplicate", bool, description="Import although the project has the very same file."
            ),
        ],
        request={
            "multipart/form-data": {
                "type": "object",
                "required": ["file"],
                "properties": {
                    "file": {"type": "string", "format": "binary"},
                    "name": {"type": "string"},
                    "format": {"type": "string"},
                    "licence": {"type": "string"},
                    "allow_duplicate": {"type": "boolean"},
                },
            },
            "application/x-ndjson": OpenApiTypes.STR,
            "application/octet-stream": OpenApiTypes.BINARY,
        },
        responses={201: Imported},
        examples=IMPORT_EXAMPLES,
    )
    def post(self, request: Request, uid: UUID) -> Response:
        user = user_of(request)
        project = access_project(user, uid, RESEARCHERS)
        stream, source_name = body_of(request)
        dataset = dataset_import_file(
            project=project,
            user=user,
            request=import_request(request, source_name),
            stream=stream,
            limits=import_limits(),
            clock=timezone.now,
            upload_dir=Path(settings.UPLOAD_DIR),
        )
        enqueue_index(dataset)
        refuse_failed(dataset)
        return Response(imported(dataset), status=201)


class DatasetDetail(APIView):
    """One dataset."""

    class Input(serializers.Serializer[Any]):
        name = serializers.CharField(max_length=200, required=False)
        licence = serializers.CharField(max_length=200, required=False, allow_blank=True)

    @extend_schema(operation_id="dataset_detail", tags=["datasets"], responses=DatasetOutput)
    def get(self, request: Request, uid: UUID) -> Response:
        return Response(DatasetOutput(access_dataset(user_of(request), uid)).data)

    @extend_schema(operation_id="dataset_change", tags=["datasets"], request=Input, responses=DatasetOutput)
    def patch(self, request: Request, uid: UUID) -> Response:
        dataset = access_dataset(user_of(request), uid, RESEARCHERS)
        unknown_fields_check(request.data, self.Input)
        given = self.Input(data=request.data)
        given.is_valid(raise_exception=True)
        dataset_rename(dataset=dataset, **{"name": dataset.name, "licence": dataset.licence, **given.validated_data})
        return Response(DatasetOutput(dataset).data)

    @extend_schema(operation_id="dataset_delete", tags=["datasets"], responses={204: None})
    def delete(self, request: Request, uid: UUID) -> Response:
        user = user_of(request)
        dataset = access_dataset(user, uid, RESEARCHERS)
        dataset_delete(dataset=dataset, user=user, now=timezone.now())
        return Response(status=204)


class DatasetProblems(APIView):
    """Rows of the source that were not imported, in the order of the file (the first 10,000 are kept)."""

    @extend_schema(operation_id="dataset_problems", tags=["datasets"], responses=ProblemRow(many=True))
    def get(self, request: Request, uid: UUID) -> Response:
        dataset = access_dataset(user_of(request), uid)
        pager = ByPosition()
        rows = pager.paginate_queryset(dataset.problems.all(), request, self) or []
        return pager.get_paginated_response(ProblemRow(rows, many=True).data)


class DatasetExamples(APIView):
    """The examples of a dataset with their responses and known preferences."""

    @extend_schema(
        operation_id="example_list",
        tags=["datasets"],
        parameters=[
            OpenApiParameter("search", str, description='Full-text search: words, "a phrase", or, -not.'),
            OpenApiParameter("meta", str, many=True, description="`key:value`, may be repeated; all must hold."),
        ],
        responses=ExampleOutput(many=True),
    )
    def get(self, request: Request, uid: UUID) -> Response:
        dataset = access_dataset(user_of(request), uid)
        filters = filters_of(request, dataset)
        pager = ByPosition()
        rows = pager.paginate_queryset(examples_matching(dataset=dataset, filters=filters), request, self) or []
        return pager.get_paginated_response(ExampleOutput(with_responses(rows), many=True).data)


class ExampleDetail(APIView):
    """One example."""

    @extend_schema(operation_id="example_detail", tags=["datasets"], responses=ExampleOutput)
    def get(self, request: Request, uid: UUID) -> Response:
        example = access_example(user_of(request), uid)
        return Response(ExampleOutput(with_responses([example])[0]).data)


def body_of(request: Request) -> tuple[Any, str]:
    """(stream, file name) of an import: the uploaded file, or the raw body as it comes."""
    http: HttpRequest = request._request
    if http.content_type == "multipart/form-data":
        file = request.FILES.get("file")
        if file is None:
            raise invalid("/file", "required", "Send the file as the form field `file`, or as the body itself.")
        return file.file, PurePath(file.name or "").name
    return http, ""


def import_request(request: Request, source_name: str) -> ImportRequest:
    """What the query string asks for; fields of a multipart form count where the query says nothing."""
    given = {
        **{key: value for key, value in request.data.items() if isinstance(value, str)},
        **request.query_params.dict(),
    }
    unknown = sorted(set(given) - {"name", "format", "licence", "allow_duplicate"})
    if unknown:
        raise invalid(f"/{unknown[0]}", "unknown_field", "Known: name, format, licence, allow_duplicate, and the file.")
    return ImportRequest(
        name=given.get("name") or source_name or f"Import of {timezone.now():%Y-%m-%d %H:%M}",
        source_name=source_name,
        format=given.get("format") or AUTO,
        licence=given.get("licence", ""),
        allow_duplicate=given.get("allow_duplicate", "").lower() in TRUE,
    )


def imported(dataset: Dataset) -> dict[str, Any]:
    shown = dataset_problems(dataset=dataset, limit=MAX_ERRORS_SHOWN)
    return {**DatasetOutput(dataset).data, "errors": ProblemRow(shown, many=True).data}


def refuse_failed(dataset: Dataset) -> None:
    """A file of which nothing, or not everything, could be read is an error with the dataset's uid and what it has."""
    body = imported(dataset)
    facts = {"dataset": str(dataset.uid), **{key: body[key] for key in body if key.startswith("n_")}}
    if dataset.state == Dataset.State.FAILED:
        raise InvalidInput(dataset.failure, code="import_failed", rows=body["errors"], **facts)
    if dataset.state == Dataset.State.CANCELLED:
        raise DomainError("The import was cancelled.", code="import_cancelled", **facts)


def filters_of(request: Request, dataset: Dataset) -> ExampleFilters:
    """Search and metadata filters from the query string; unknown keys are named."""
    pairs = [tuple(text.partition(":")[::2]) for text in request.query_params.getlist("meta")]
    for key, _ in pairs:
        if key not in dataset.metadata_keys:
            known = ", ".join(dataset.metadata_keys) or "none"
            raise invalid("/meta", "unknown_key", f"This dataset has no metadata key {key!r}. It has: {known}.")
    return ExampleFilters(search=request.query_params.get("search", ""), meta=tuple((k, v) for k, v in pairs))


dataset_api_urls: list[URLPattern] = [
    path("projects/<uuid:uid>/datasets/", ProjectDatasets.as_view(), name="project-datasets"),
    path("datasets/<uuid:uid>/", DatasetDetail.as_view(), name="dataset"),
    path("datasets/<uuid:uid>/problems/", DatasetProblems.as_view(), name="dataset-problems"),
    path("datasets/<uuid:uid>/examples/", DatasetExamples.as_view(), name="dataset-examples"),
    path("examples/<uuid:uid>/", ExampleDetail.as_view(), name="example"),
]
