"""REST: queues and their versions. Claims and answers are in assignments.py."""

import random
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.urls import URLPattern, path
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from annotator.access import ANYONE, LEADS, READERS, access_project, access_queue, role_in
from annotator.api.assignments import assignment_api_urls
from annotator.api.fields import ChoiceInput, unknown_fields_check
from annotator.models import Dataset, Queue
from annotator.pagination import PkCursorPagination
from annotator.requests import user_of
from annotator.selectors.queues import queue_progress
from annotator.services.queues import (
    queue_create,
    queue_form_edit,
    queue_guidelines_edit,
    queue_overlap_set,
    queue_rename,
    queue_state_set,
)
from annotator.tasks import queue_enqueue_build
from annotator.validation import invalid


class Progress(serializers.Serializer[Any]):
    n_planned = serializers.IntegerField(help_text="Judgements wanted: items x overlap.")
    n_done = serializers.IntegerField()
    n_in_progress = serializers.IntegerField()
    n_left = serializers.IntegerField()


class QueueOutput(serializers.Serializer[Any]):
    uid = serializers.UUIDField()
    name = serializers.CharField()
    state = serializers.ChoiceField(choices=Queue.State.choices)
    overlap = serializers.IntegerField()
    order_policy = serializers.ChoiceField(choices=Queue.OrderPolicy.choices)
    pair_policy = serializers.ChoiceField(choices=Queue.PairPolicy.choices)
    lease_s = serializers.FloatField()
    n_items = serializers.IntegerField()
    dataset = serializers.UUIDField(allow_null=True, help_text="Only for members who may see datasets.")
    form = serializers.ListField(child=serializers.DictField())
    form_version = serializers.IntegerField()
    guidelines_version = serializers.IntegerField()
    progress = Progress()


def queue_body(queue: Queue, *, is_reader: bool) -> dict[str, Any]:
    form = queue.form_versions.latest("number")
    guidelines = queue.guidelines_versions.order_by("-number").first()
    progress = queue_progress(queue=queue)
    return {
        "uid": queue.uid,
        "name": queue.name,
        "state": queue.state,
        "overlap": queue.overlap,
        "order_policy": queue.order_policy,
        "pair_policy": queue.pair_policy,
        "lease_s": queue.lease.total_seconds(),
        "n_items": queue.n_items,
        "dataset": queue.dataset.uid if is_reader else None,
        "form": form.questions,
        "form_version": form.number,
        "guidelines_version": guidelines.number if guidelines else 0,
        "progress": {
            "n_planned": progress.n_planned,
            "n_done": progress.n_done,
            "n_in_progress": progress.n_in_progress,
            "n_left": progress.n_left,
        },
    }


class ProjectQueues(APIView):
    """The queues of a project."""

    class Input(serializers.Serializer[Any]):
        name = serializers.CharField(max_length=200)
        dataset = serializers.UUIDField(help_text="uid of a dataset of this project.")
        form = serializers.ListField(
            child=serializers.DictField(),
            help_text="Questions, e.g. [{'type': 'pairwise', 'name': 'preference', 'points': 7}].",
        )
        overlap = serializers.IntegerField(default=1)
        guidelines = serializers.CharField(default="", allow_blank=True, trim_whitespace=False, help_text="Markdown.")
        order_policy = ChoiceInput(
            choices=Queue.OrderPolicy.choices,
            required=False,
            help_text="By default depth where overlap is 2 or more, so that agreement shows early; else breadth.",
        )
        pair_policy = ChoiceInput(
            choices=[c for c in Queue.PairPolicy.choices if c[0] != Queue.PairPolicy.LISTED],
            default=Queue.PairPolicy.ALL,
            help_text="Which pairs are made of an example with more than two responses.",
        )
        max_pairs = serializers.IntegerField(default=10, help_text="At most so many pairs of one example.")
        lease_s = serializers.FloatField(default=600)
        seed = serializers.IntegerField(required=False, min_value=0, max_value=2**31 - 1)

    class Created(serializers.Serializer[Any]):
        uid = serializers.UUIDField()
        state = serializers.ChoiceField(choices=Queue.State.choices)
        n_items = serializers.IntegerField()

    class Row(serializers.ModelSerializer[Queue]):
        class Meta:
            model = Queue
            fields = ("uid", "name", "state", "overlap", "n_items", "n_slots", "created_at")

    @extend_schema(operation_id="queue_list", tags=["queues"], responses=Row(many=True))
    def get(self, request: Request, uid: UUID) -> Response:
        project = access_project(user_of(request), uid, ANYONE)
        pager = PkCursorPagination()
        rows = pager.paginate_queryset(Queue.objects.filter(project=project, deleted_at=None), request, self) or []
        return pager.get_paginated_response(self.Row(rows, many=True).data)

    @extend_schema(operation_id="queue_create", tags=["queues"], request=Input, responses={201: Created})
    def post(self, request: Request, uid: UUID) -> Response:
        user = user_of(request)
        project = access_project(user, uid, LEADS)
        unknown_fields_check(request.data, self.Input)
        given = self.Input(data=request.data)
        given.is_valid(raise_exception=True)
        values = dict(given.validated_data)
        dataset = Dataset.objects.filter(project=project, deleted_at=None, uid=values.pop("dataset")).first()
        if dataset is None:
            raise invalid("/dataset", "not_found", "There is no such dataset in this project.")
        queue = queue_create(
            project=project,
            dataset=dataset,
            lease=timedelta(seconds=min(max(values.pop("lease_s"), 0.0), 1e9)),  # the service refuses either end
            created_by=user,
            now=timezone.now(),
            rng=random.SystemRandom(),
            **values,
        )
        queue_enqueue_build(queue)
        return Response({"uid": queue.uid, "state": queue.state, "n_items": queue.n_items}, status=201)


class QueueDetail(APIView):
    """One queue."""

    class Input(serializers.Serializer[Any]):
        name = serializers.CharField(max_length=200, required=False)
        state = ChoiceInput(choices=["open", "paused", "closed"], required=False)
        overlap = serializers.IntegerField(required=False)

    @extend_schema(operation_id="queue_detail", tags=["queues"], responses=QueueOutput)
    def get(self, request: Request, uid: UUID) -> Response:
        user = user_of(request)
        queue = access_queue(user, uid, ANYONE)
        return Response(queue_body(queue, is_reader=role_in(user, queue.project) in READERS))

    @extend_schema(operation_id="queue_change", tags=["queues"], request=Input, responses=QueueOutput)
    def patch(self, request: Request, uid: UUID) -> Response:
        user = user_of(request)
        queue = access_queue(user, uid, LEADS)
        unknown_fields_check(request.data, self.Input)
        given = self.Input(data=request.data)
        given.is_valid(raise_exception=True)
        values = given.validated_data
        if "name" in values:
            queue_rename(queue=queue, name=values["name"], actor=user)
        if "overlap" in values:
            queue_overlap_set(queue=queue, overlap=values["overlap"], actor=user)
        if "state" in values:
            queue_state_set(queue=queue, state=values["state"], actor=user)
        return Response(queue_body(queue, is_reader=True))


class QueueForm(APIView):
    """A new version of the questions; earlier answers keep theirs."""

    class Input(serializers.Serializer[Any]):
        form = serializers.ListField(child=serializers.DictField())

    class Output(serializers.Serializer[Any]):
        form_version = serializers.IntegerField()

    @extend_schema(operation_id="queue_form_edit", tags=["queues"], request=Input, responses={201: Output})
    def post(self, request: Request, uid: UUID) -> Response:
        user = user_of(request)
        queue = access_queue(user, uid, LEADS)
        unknown_fields_check(request.data, self.Input)
        form = request.data.get("form") if isinstance(request.data, dict) else None
        version = queue_form_edit(queue=queue, form=form, actor=user)
        return Response({"form_version": version.number}, status=201)


class QueueGuidelines(APIView):
    """A new version of the guidelines, in markdown."""

    class Input(serializers.Serializer[Any]):
        markdown = serializers.CharField(allow_blank=True, trim_whitespace=False)

    class Output(serializers.Serializer[Any]):
        guidelines_version = serializers.IntegerField()

    @extend_schema(operation_id="queue_guidelines_edit", tags=["queues"], request=Input, responses={201: Output})
    def post(self, request: Request, uid: UUID) -> Response:
        user = user_of(request)
        queue = access_queue(user, uid, LEADS)
        unknown_fields_check(request.data, self.Input)
        given = self.Input(data=request.data)
        given.is_valid(raise_exception=True)
        version = queue_guidelines_edit(queue=queue, markdown=given.validated_data["markdown"], actor=user)
        return Response({"guidelines_version": version.number}, status=201)


queue_api_urls: list[URLPattern] = [
    path("projects/<uuid:uid>/queues/", ProjectQueues.as_view(), name="project-queues"),
    path("queues/<uuid:uid>/", QueueDetail.as_view(), name="queue"),
    path("queues/<uuid:uid>/form/", QueueForm.as_view(), name="queue-form"),
    path("queues/<uuid:uid>/guidelines/", QueueGuidelines.as_view(), name="queue-guidelines"),
    *assignment_api_urls,
]
