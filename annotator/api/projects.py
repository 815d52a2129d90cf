"""REST: projects and members."""

from typing import Any
from uuid import UUID

from django.urls import URLPattern, path
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers, status
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from annotator.access import LEADS, READERS, access_membership, access_project, require_role
from annotator.api.fields import ChoiceInput, unknown_fields_check
from annotator.models import Membership, Project, Role
from annotator.requests import user_of
from annotator.selectors.projects import ProjectCounts, memberships_of, project_counts
from annotator.services.projects import member_remove, member_set_role, project_create, project_update


class ProjectList(GenericAPIView[Membership]):
    class Input(serializers.Serializer[Any]):
        name = serializers.CharField(max_length=200)
        description = serializers.CharField(required=False, allow_blank=True, default="")

    class Output(serializers.Serializer[Any]):
        uid = serializers.UUIDField(source="project.uid")
        name = serializers.CharField(source="project.name")
        description = serializers.CharField(source="project.description")
        role = serializers.ChoiceField(choices=Role.choices)
        created_at = serializers.DateTimeField(source="project.created_at")

    serializer_class = Output
    queryset = Membership.objects.none()

    @extend_schema(operation_id="project_list", tags=["projects"], responses=Output(many=True))
    def get(self, request: Request) -> Response:
        """Projects you are a member of, newest first, with your role."""
        page = self.paginate_queryset(memberships_of(user=user_of(request)))
        return self.get_paginated_response(self.Output(page, many=True).data)

    @extend_schema(operation_id="project_create", tags=["projects"], request=Input, responses={201: Output})
    def post(self, request: Request) -> Response:
        """Create a project; you become its lead."""
        unknown_fields_check(request.data, self.Input)
        data = self.Input(data=request.data)
        data.is_valid(raise_exception=True)
        project = project_create(creator=user_of(request), **data.validated_data)
        membership = project.memberships.select_related("project").get(user=user_of(request))
        return Response(self.Output(membership).data, status=status.HTTP_201_CREATED)


class Counts(serializers.Serializer[Any]):
    n_datasets = serializers.IntegerField()
    n_examples = serializers.IntegerField()
    n_queues = serializers.IntegerField()
    n_slots = serializers.IntegerField(help_text="Judgements planned.")
    n_submitted = serializers.IntegerField(help_text="Judgements given.")
    n_members = serializers.IntegerField()


class ProjectDetail(APIView):
    class Input(serializers.Serializer[Any]):
        name = serializers.CharField(max_length=200, required=False)
        description = serializers.CharField(required=False, allow_blank=True)

    class Output(serializers.Serializer[Any]):
        uid = serializers.UUIDField()
        name = serializers.CharField()
        description = serializers.CharField()
        role = serializers.ChoiceField(choices=Role.choices)
        created_at = serializers.DateTimeField()
        archived_at = serializers.DateTimeField(allow_null=True)
        counts = Counts(allow_null=True, help_text="Null for annotators, who see only their own work.")

    @extend_schema(operation_id="project_detail", tags=["projects"], responses=Output)
    def get(self, request: Request, uid: UUID) -> Response:
        """One project."""
        project = access_project(request.user, uid)
        role = require_role(request.user, project, frozenset(Role))
        counts = project_counts(project=project) if role in READERS else None
        return Response(self.Output(as_body(project, role, counts)).data)

    @extend_schema(operation_id="project_update", tags=["projects"], request=Input, responses=Output)
    def patch(self, request: Request, uid: UUID) -> Response:
        """Rename or describe a project. Leads only."""
        project = access_project(request.user, uid, LEADS)
        unknown_fields_check(request.data, self.Input)
        data = self.Input(data=request.data)
        data.is_valid(raise_exception=True)
        values = {"name": project.name, "description": project.description, **data.validated_data}
        project_update(project=project, actor=user_of(request), **values)
        return Response(self.Output(as_body(project, Role.LEAD, project_counts(project=project))).data)


def as_body(project: Project, role: Role, counts: ProjectCounts | None) -> dict[str, Any]:
    fields = ("uid", "name", "description", "created_at", "archived_at")
    return {**{name: getattr(project, name) for name in fields}, "role": role, "counts": counts}


class MemberList(APIView):
    class Output(serializers.Serializer[Any]):
        uid = serializers.UUIDField(source="user.uid")
        username = serializers.CharField(source="user.username")
        role = serializers.ChoiceField(choices=Role.choices)
        created_at = serializers.DateTimeField()

    @extend_schema(operation_id="member_list", tags=["projects"], responses=Output(many=True))
    def get(self, request: Request, uid: UUID) -> Response:
        """Members of a project. Leads only."""
        project = access_project(request.user, uid, LEADS)
        members = project.memberships.select_related("user").order_by("user__username")
        return Response(self.Output(members, many=True).data)


class MemberDetail(APIView):
    class Input(serializers.Serializer[Any]):
        role = ChoiceInput(choices=Role.choices)

    @extend_schema(operation_id="member_update", tags=["projects"], request=Input, responses=MemberList.Output)
    def patch(self, request: Request, uid: UUID, member_uid: UUID) -> Response:
        """Change a member's role. A project keeps at least one lead."""
        membership = access_membership(request.user, uid, member_uid)
        unknown_fields_check(request.data, self.Input)
        data = self.Input(data=request.data)
        data.is_valid(raise_exception=True)
        member_set_role(membership=membership, role=Role(data.validated_data["role"]), actor=user_of(request))
        membership.refresh_from_db(fields=["role"])
        return Response(MemberList.Output(membership).data)

    @extend_schema(
        operation_id="member_remove", tags=["projects"], responses={204: OpenApiResponse(description="Removed")}
    )
    def delete(self, request: Request, uid: UUID, member_uid: UUID) -> Response:
        """Remove a member; what they judged stays. A project keeps at least one lead."""
        member_remove(membership=access_membership(request.user, uid, member_uid), actor=user_of(request))
        return Response(status=status.HTTP_204_NO_CONTENT)


project_api_urls: list[URLPattern] = [
    path("projects/", ProjectList.as_view(), name="project-list"),
    path("projects/<uuid:uid>/", ProjectDetail.as_view(), name="project-detail"),
    path("projects/<uuid:uid>/members/", MemberList.as_view(), name="member-list"),
    path("projects/<uuid:uid>/members/<uuid:member_uid>/", MemberDetail.as_view(), name="member-detail"),
]
