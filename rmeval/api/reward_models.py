"""REST: reward models."""

from typing import Any
from uuid import UUID

from django.urls import URLPattern, path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from annotator.access import READERS, RESEARCHERS, access_project
from annotator.api.fields import unknown_fields_check
from annotator.errors import FieldError, InvalidInput
from annotator.pagination import PkCursorPagination
from annotator.requests import user_of
from rmeval.access import access_reward_model
from rmeval.models import Checkpoint, RewardModel
from rmeval.services.reward_models import family_of, reward_model_register


class CheckpointOutput(serializers.ModelSerializer[Checkpoint]):
    run = serializers.SerializerMethodField()

    class Meta:
        model = Checkpoint
        fields = ("uid", "number", "step", "sha256", "metrics", "run", "created_at")

    def get_run(self, checkpoint: Checkpoint) -> str | None:
        return str(checkpoint.run.uid) if checkpoint.run else None


class RewardModelRow(serializers.ModelSerializer[RewardModel]):
    class Meta:
        model = RewardModel
        fields = ("uid", "name", "family", "config", "description", "created_at")


class RewardModelOutput(RewardModelRow):
    checkpoints = CheckpointOutput(many=True)

    class Meta(RewardModelRow.Meta):
        fields = (*RewardModelRow.Meta.fields, "checkpoints")  # type: ignore[assignment]


class ProjectRewardModels(APIView):
    """Reward models of a project."""

    class Input(serializers.Serializer[Any]):
        name = serializers.CharField(max_length=200)
        family = serializers.CharField(
            max_length=60, help_text="scalar_head, length and so on: GET /api/v1/settings/ lists them."
        )
        config = serializers.DictField(required=False, help_text="Settings of the family; the rest takes its default.")
        source = serializers.CharField(  # type: ignore[assignment]
            required=False, help_text="Short for config.backbone: a Hugging Face id or a local folder."
        )
        description = serializers.CharField(required=False, allow_blank=True, max_length=20_000)

    class Created(serializers.ModelSerializer[RewardModel]):
        checkpoint = serializers.SerializerMethodField(help_text="Of a baseline, which needs no training.")

        class Meta:
            model = RewardModel
            fields = ("uid", "checkpoint")

        def get_checkpoint(self, reward_model: RewardModel) -> str | None:
            found = reward_model.checkpoints.first()
            return str(found.uid) if found else None

    @extend_schema(operation_id="reward_model_list", tags=["reward models"], responses=RewardModelRow(many=True))
    def get(self, request: Request, uid: UUID) -> Response:
        project = access_project(request.user, uid, READERS)
        pager = PkCursorPagination()
        rows = RewardModel.objects.filter(project=project, deleted_at=None)
        page = pager.paginate_queryset(rows, request, self) or []
        return pager.get_paginated_response(RewardModelRow(page, many=True).data)

    @extend_schema(
        operation_id="reward_model_register", tags=["reward models"], request=Input, responses={201: Created}
    )
    def post(self, request: Request, uid: UUID) -> Response:
        project = access_project(request.user, uid, RESEARCHERS)
        unknown_fields_check(request.data, self.Input)
        given = self.Input(data=request.data)
        given.is_valid(raise_exception=True)
        values = dict(given.validated_data)
        config = with_source(values["family"], values.pop("config", {}), values.pop("source", ""))
        made = reward_model_register(project=project, user=user_of(request), config=config, **values)
        return Response(self.Created(made).data, status=201)


def with_source(family: str, config: dict[str, Any], source: str) -> dict[str, Any]:
    """`source` fills config.backbone, for families that have one and a config that does not say otherwise."""
    if not source:
        return config
    if "backbone" not in family_of(family).Config.model_fields:
        detail = f"The family {family} reads no weights from outside."
        raise InvalidInput(detail, errors=[FieldError("/source", "not_used", detail)])
    if config.get("backbone", source) != source:
        detail = "source and config.backbone differ; give one of them."
        raise InvalidInput(detail, errors=[FieldError("/source", "contradiction", detail)])
    return {**config, "backbone": source}


class RewardModelDetail(APIView):
    @extend_schema(operation_id="reward_model_detail", tags=["reward models"], responses=RewardModelOutput)
    def get(self, request: Request, uid: UUID) -> Response:
        """One reward model with its checkpoints."""
        found = access_reward_model(request.user, uid)
        prefetched = RewardModel.objects.prefetch_related("checkpoints__run").get(pk=found.pk)
        return Response(RewardModelOutput(prefetched).data)


reward_model_api_urls: list[URLPattern] = [
    path("projects/<uuid:uid>/reward-models/", ProjectRewardModels.as_view(), name="project-reward-models"),
    path("reward-models/<uuid:uid>/", RewardModelDetail.as_view(), name="reward-model-detail"),
]
