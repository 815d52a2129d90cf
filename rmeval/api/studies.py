"""REST: studies."""

from dataclasses import asdict
from typing import Any
from uuid import UUID

from django.urls import URLPattern, path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from rmeval.access import access_study
from rmeval.models import Run
from rmeval.studies import study_outcome


class MeanOutput(serializers.Serializer[Any]):
    """A mean over seeds with its 95% interval; null ends where there is one seed alone."""

    value = serializers.FloatField()
    low = serializers.FloatField(allow_null=True)
    high = serializers.FloatField(allow_null=True)
    sd = serializers.FloatField(allow_null=True)
    n = serializers.IntegerField()


class DifferenceOutput(MeanOutput):
    answer = serializers.CharField(help_text="better, worse, no difference shown, or one seed shows no difference.")


class ArmOutput(serializers.Serializer[Any]):
    """One way of training."""

    name = serializers.CharField()
    settings = serializers.DictField(help_text="What it changes; config.NAME is a setting of the reward model.")
    mean = MeanOutput()
    difference = DifferenceOutput(allow_null=True, help_text="From the first arm, pair by pair of seeds.")
    n_train = serializers.FloatField(help_text="Mean number of units trained on.")
    is_baseline = serializers.BooleanField()
    is_best = serializers.BooleanField()


class MarginalOutput(serializers.Serializer[Any]):
    setting = serializers.CharField()
    value = serializers.JSONField()
    mean = MeanOutput()


class TrainingOutput(serializers.Serializer[Any]):
    """One training of the study."""

    arm = serializers.CharField()
    seed = serializers.IntegerField()
    value = serializers.FloatField()
    loss = serializers.FloatField()
    n_train = serializers.IntegerField()
    n_validation = serializers.IntegerField()
    seconds = serializers.FloatField()
    checkpoint = serializers.CharField(allow_null=True)


class StudyOutput(serializers.Serializer[Any]):
    """A study as it is now; answer and figures are there once it is done."""

    uid = serializers.UUIDField()
    project = serializers.UUIDField()
    reward_model = serializers.UUIDField(allow_null=True)
    state = serializers.ChoiceField(choices=Run.State.choices)
    fraction_done = serializers.FloatField()
    message = serializers.CharField()
    question = serializers.CharField()
    answer = serializers.CharField(allow_null=True)
    metric = serializers.CharField(allow_null=True)
    arms = ArmOutput(many=True)
    marginals = MarginalOutput(many=True)
    runs = TrainingOutput(many=True)


class StudyDetail(APIView):
    @extend_schema(operation_id="study_detail", tags=["runs"], responses=StudyOutput)
    def get(self, request: Request, uid: UUID) -> Response:
        """A run of kind train_study: its answer, arms and trainings."""
        run = access_study(request.user, uid)
        found = study_outcome(run)
        told: dict[str, Any] = {"answer": None, "metric": None, "arms": [], "marginals": [], "runs": []}
        if found is not None:
            arms = [{**vars(arm), "settings": dict(arm.changes)} for arm in found.arms]
            marginals = [asdict(one) for one in found.marginals]
            told = {"answer": found.answer, "metric": found.metric, "arms": arms, "marginals": marginals}
            told["runs"] = found.runs
        row = {name: getattr(run, name) for name in ("uid", "state", "fraction_done", "message")}
        row |= {"project": run.project.uid, "reward_model": run.reward_model.uid if run.reward_model else None}
        return Response(StudyOutput({**row, "question": run.spec.get("question", ""), **told}).data)


study_api_urls: list[URLPattern] = [path("studies/<uuid:uid>/", StudyDetail.as_view(), name="study-detail")]
