"""REST: claim an item, keep it, answer it. These are the requests that the annotate page makes too."""

import random
from types import NoneType
from typing import Any
from uuid import UUID

from django.conf import settings
from django.urls import URLPattern, path
from django.utils import timezone
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from annotator.access import access_assignment, access_labelling
from annotator.api.dataset_schemas import MessageOutput
from annotator.api.fields import ChoiceInput, unknown_fields_check
from annotator.models import Judgement
from annotator.requests import user_of
from annotator.selectors.tasks import assignment_task
from annotator.services.assignments import (
    SKIP_REASONS,
    assignment_claim,
    assignment_flag,
    assignment_renew,
    assignment_skip,
    draft_save,
)
from annotator.services.judgements import judgement_reopen, judgement_submit

TAGS = ["annotation"]
RNG = random.SystemRandom()


class TaskOutput(serializers.Serializer[Any]):
    """One item as its rater sees it."""

    class Assigned(serializers.Serializer[Any]):
        uid = serializers.UUIDField()
        number = serializers.IntegerField(help_text="Place in your own work, from 1.")
        lease_until = serializers.DateTimeField(allow_null=True)
        draft = serializers.DictField()
        draft_version = serializers.IntegerField()
        is_reopened = serializers.BooleanField()

    class Shown(serializers.Serializer[Any]):
        class OneResponse(serializers.Serializer[Any]):
            id = serializers.UUIDField(help_text="Means nothing outside this assignment.")
            messages = MessageOutput(many=True)

        prompt = MessageOutput(many=True)
        responses = OneResponse(many=True, help_text="Left, then right.")

    class FormShown(serializers.Serializer[Any]):
        version = serializers.IntegerField()
        questions = serializers.ListField(child=serializers.DictField())
        guidelines_version = serializers.IntegerField(allow_null=True)

    class Order(serializers.Serializer[Any]):
        left = serializers.UUIDField()
        right = serializers.UUIDField()

    assignment = Assigned()
    item = Shown()
    form = FormShown()
    order = Order()


class Claim(APIView):
    """The item you hold in this queue, else the next one for you; 204 when nothing is left."""

    @extend_schema(
        operation_id="queue_claim",
        tags=TAGS,
        request=None,
        responses={200: TaskOutput, 204: OpenApiResponse(description="Nothing is left for you.")},
    )
    def post(self, request: Request, uid: UUID) -> Response:
        queue, rater = access_labelling(user_of(request), uid)
        assignment = assignment_claim(queue=queue, rater=rater, now=timezone.now(), rng=RNG)
        return Response(status=204) if assignment is None else Response(assignment_task(assignment).payload())


class Draft(APIView):
    """Keep an unfinished answer."""

    class Input(serializers.Serializer[Any]):
        answers = serializers.DictField()
        version = serializers.IntegerField(
            required=False, allow_null=True, help_text="The version yours is based on; a newer one answers 409 with it."
        )

    class Output(serializers.Serializer[Any]):
        version = serializers.IntegerField()

    @extend_schema(operation_id="assignment_draft", tags=TAGS, request=Input, responses=Output)
    def put(self, request: Request, uid: UUID) -> Response:
        assignment = access_assignment(user_of(request), uid)
        unknown_fields_check(request.data, self.Input)
        given = self.Input(data=request.data)
        given.is_valid(raise_exception=True)
        version = draft_save(
            assignment=assignment,
            answers=request.data["answers"],
            now=timezone.now(),
            version=given.validated_data.get("version"),
        )
        return Response({"version": version})


class Heartbeat(APIView):
    """Keep the item while you work on it."""

    class Output(serializers.Serializer[Any]):
        lease_until = serializers.DateTimeField(allow_null=True, help_text="Null: the lease is gone.")

    @extend_schema(operation_id="assignment_heartbeat", tags=TAGS, request=None, responses=Output)
    def post(self, request: Request, uid: UUID) -> Response:
        assignment = access_assignment(user_of(request), uid)
        return Response({"lease_until": assignment_renew(assignment=assignment, now=timezone.now())})


class Submit(APIView):
    """Submit an answer. The same one again under its idempotency_key returns the same body and adds nothing."""

    class Input(serializers.Serializer[Any]):
        answers = serializers.DictField(
            help_text="Question name to answer, e.g. {'preference': {'choice': 'left', 'strength': 2}}."
        )
        active_seconds = serializers.FloatField(default=0)
        idempotency_key = serializers.CharField(max_length=64)
        form_version = serializers.IntegerField(required=False, allow_null=True)
        shown = serializers.DictField(required=False, allow_null=True)

    class Output(serializers.Serializer[Any]):
        class JudgementOutput(serializers.Serializer[Any]):
            uid = serializers.UUIDField()
            version = serializers.IntegerField()
            is_surplus = serializers.BooleanField(help_text="Late: every slot of the item was filled by then.")

        judgement = JudgementOutput()

    @extend_schema(operation_id="assignment_submit", tags=TAGS, request=Input, responses={201: Output})
    def post(self, request: Request, uid: UUID) -> Response:
        assignment = access_assignment(user_of(request), uid)
        values = request.data
        if not is_well_formed(values):
            unknown_fields_check(values, self.Input)
            given = self.Input(data=values)
            given.is_valid(raise_exception=True)
            values = given.validated_data
        judgement = judgement_submit(
            assignment=assignment,
            answers=request.data["answers"],
            active_seconds=values.get("active_seconds", 0),
            idempotency_key=values["idempotency_key"],
            form_version=values.get("form_version"),
            shown=request.data.get("shown"),
            now=timezone.now(),
        )
        return Response(judgement_body(judgement), status=201)


FIELDS = frozenset({"answers", "active_seconds", "idempotency_key", "form_version", "shown"})


def is_well_formed(body: Any) -> bool:
    """Whether a submit is of the very types its serializer would make of it; most are, and it costs more than the rest.

    Whatever is not goes through the serializer, which converts it or says what is wrong.
    """
    if not isinstance(body, dict) or not isinstance(body.get("answers"), dict) or not body.keys() <= FIELDS:
        return False
    key = body.get("idempotency_key")
    return (
        isinstance(key, str)
        and 0 < len(key) <= 64
        and key.isascii()
        and key.isprintable()
        and key == key.strip()
        and type(body.get("active_seconds", 0)) in (int, float)
        and type(body.get("form_version")) in (int, NoneType)
        and type(body.get("shown")) in (dict, NoneType)
    )


def judgement_body(judgement: Judgement) -> dict[str, Any]:
    """No verdict: in stored order it would tell the rater which side was A."""
    return {"judgement": {"uid": judgement.uid, "version": judgement.version, "is_surplus": judgement.is_surplus}}


class Skip(APIView):
    """Give an item back for good, with a reason."""

    class Input(serializers.Serializer[Any]):
        reason = ChoiceInput(choices=list(SKIP_REASONS.items()))
        detail = serializers.CharField(default="", allow_blank=True)

    @extend_schema(operation_id="assignment_skip", tags=TAGS, request=Input, responses={204: None})
    def post(self, request: Request, uid: UUID) -> Response:
        assignment = access_assignment(user_of(request), uid)
        unknown_fields_check(request.data, self.Input)
        given = self.Input(data=request.data)
        given.is_valid(raise_exception=True)
        assignment_skip(assignment=assignment, now=timezone.now(), **given.validated_data)
        return Response(status=204)


class FlagItem(APIView):
    """Tell the lead that something is wrong with an item. You keep it."""

    class Input(serializers.Serializer[Any]):
        detail = serializers.CharField()

    class Output(serializers.Serializer[Any]):
        uid = serializers.UUIDField()

    @extend_schema(operation_id="assignment_flag", tags=TAGS, request=Input, responses={201: Output})
    def post(self, request: Request, uid: UUID) -> Response:
        assignment = access_assignment(user_of(request), uid)
        unknown_fields_check(request.data, self.Input)
        given = self.Input(data=request.data)
        given.is_valid(raise_exception=True)
        flag = assignment_flag(assignment=assignment, detail=given.validated_data["detail"])
        return Response({"uid": flag.uid}, status=201)


class Reopen(APIView):
    """Take your last answer back, within the undo window. It counts as it is until you submit again."""

    @extend_schema(operation_id="assignment_reopen", tags=TAGS, request=None, responses=TaskOutput)
    def post(self, request: Request, uid: UUID) -> Response:
        assignment = access_assignment(user_of(request), uid)
        judgement_reopen(assignment=assignment, now=timezone.now(), window=settings.UNDO_WINDOW)
        return Response(assignment_task(assignment).payload())


assignment_api_urls: list[URLPattern] = [
    path("queues/<uuid:uid>/claim/", Claim.as_view(), name="queue-claim"),
    path("assignments/<uuid:uid>/draft/", Draft.as_view(), name="assignment-draft"),
    path("assignments/<uuid:uid>/heartbeat/", Heartbeat.as_view(), name="assignment-heartbeat"),
    path("assignments/<uuid:uid>/submit/", Submit.as_view(), name="assignment-submit"),
    path("assignments/<uuid:uid>/skip/", Skip.as_view(), name="assignment-skip"),
    path("assignments/<uuid:uid>/flag/", FlagItem.as_view(), name="assignment-flag"),
    path("assignments/<uuid:uid>/reopen/", Reopen.as_view(), name="assignment-reopen"),
]
