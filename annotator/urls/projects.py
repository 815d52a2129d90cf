"""Paths of projects."""

from django.urls import URLPattern, path

from annotator.views import api_page, projects

project_urls: list[URLPattern] = [
    path("", projects.home, name="home"),
    path("api/", api_page.api_page, name="api"),
    path("projects/new/", projects.project_create_view, name="project-create"),
    path("projects/<uuid:uid>/", projects.project_detail, name="project-detail"),
    path("projects/<uuid:uid>/edit/", projects.project_edit, name="project-edit"),
    path("projects/<uuid:uid>/archive/", projects.project_archive_view, name="project-archive"),
    path("projects/<uuid:uid>/members/", projects.member_list, name="member-list"),
    path("projects/<uuid:uid>/members/<uuid:member_uid>/role/", projects.member_role, name="member-role"),
    path("projects/<uuid:uid>/members/<uuid:member_uid>/remove/", projects.member_remove_view, name="member-remove"),
    path("projects/<uuid:uid>/invitations/", projects.invitation_create_view, name="invitation-create"),
    path("invitations/<uuid:uid>/revoke/", projects.invitation_revoke_view, name="invitation-revoke"),
]
