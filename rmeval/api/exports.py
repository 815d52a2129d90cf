"""REST: checkpoints as archives."""

from typing import Any
from uuid import UUID

from django.http.response import HttpResponseBase
from django.urls import URLPattern, path
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from rmeval.access import access_checkpoint
from rmeval.views.exports import export_response

FORM = OpenApiParameter(
    "form",
    str,
    enum=["transformers", "plain"],
    description="transformers: the folder that the last run of kind export_checkpoint made. plain: the files as kept.",
)


class CheckpointExport(APIView):
    @extend_schema(
        operation_id="checkpoint_export",
        tags=["reward models"],
        parameters=[FORM],
        responses={(200, "application/x-tar"): OpenApiTypes.BINARY},
    )
    def get(self, request: Request, uid: UUID, **_: Any) -> HttpResponseBase:
        """The whole checkpoint with its model card, as a tar that is made while it is sent."""
        return export_response(request._request, access_checkpoint(request.user, uid))


export_api_urls: list[URLPattern] = [
    path("checkpoints/<uuid:uid>/export/", CheckpointExport.as_view(), name="checkpoint-export")
]
