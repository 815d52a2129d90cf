"""Home, projects, members and invitations."""

from collections.abc import Collection
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotator.access import (
    LABELLERS,
    LEADS,
    READERS,
    access_invitation,
    access_membership,
    access_project,
    require_role,
)
from annotator.forms.projects import InvitationForm, ProjectForm, RoleForm
from annotator.models import Invitation, Project, Role
from annotator.requests import user_of
from annotator.selectors.projects import (
    ROLE_MEANINGS,
    memberships_of,
    project_counts,
    project_datasets,
    project_invitations,
    project_members,
    project_queues,
)
from annotator.selectors.tasks import next_tasks
from annotator.services.projects import (
    invitation_create,
    invitation_revoke,
    member_remove,
    member_set_role,
    project_archive,
    project_create,
    project_update,
)


@login_required
@require_GET
def home(request: HttpRequest) -> HttpResponse:
    user = user_of(request)
    archived = request.GET.get("archived") == "1"
    context = {
        "memberships": memberships_of(user=user, archived=archived),
        "archived": archived,
        "tasks": [] if archived else next_tasks(user)[:5],
    }
    return render(request, "annotator/home.html", context)


@login_required
@require_http_methods(["GET", "POST"])
def project_create_view(request: HttpRequest) -> HttpResponse:
    form = ProjectForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        project = project_create(creator=user_of(request), **form.cleaned_data)
        return redirect("annotator:project-detail", project.uid)
    status = 422 if form.is_bound else 200
    return render(request, "annotator/project_form.html", {"form": form}, status=status)


@login_required
@require_GET
def project_detail(request: HttpRequest, uid: UUID) -> HttpResponse:
    """What the reader's role may see: annotators get their queues and nobody else's figures."""
    user = user_of(request)
    project = access_project(user, uid)
    role = require_role(user, project, frozenset(Role))
    context = {
        "project": project,
        "role": role,
        "can_label": role in LABELLERS,
        "queues": project_queues(project=project, user=user),
    }
    if role in READERS:
        context |= {
            "counts": project_counts(project=project),
            "datasets": project_datasets(project=project),
            "members": project_members(project=project),
        }
    template = "annotator/project_detail.html"
    return render(request, f"{template}#overview" if request.htmx else template, context)  # type: ignore[attr-defined]


@login_required
@require_http_methods(["GET", "POST"])
def project_edit(request: HttpRequest, uid: UUID) -> HttpResponse:
    project = access_project(request.user, uid, LEADS)
    form = ProjectForm(request.POST or None, initial={"name": project.name, "description": project.description})
    if request.method == "POST" and form.is_valid():
        project_update(project=project, actor=user_of(request), **form.cleaned_data)
        messages.success(request, "Saved.")
        return redirect("annotator:project-detail", project.uid)
    status = 422 if form.is_bound else 200
    return render(request, "annotator/project_form.html", {"form": form, "project": project}, status=status)


@login_required
@require_POST
def project_archive_view(request: HttpRequest, uid: UUID) -> HttpResponse:
    project = access_project(request.user, uid, LEADS)
    away = request.POST.get("archive", "1") == "1"
    project_archive(project=project, actor=user_of(request), now=timezone.now() if away else None)
    messages.success(request, f"{project.name} is {'archived' if away else 'back among your projects'}.")
    return redirect("annotator:home")


@login_required
@never_cache
@require_GET
def member_list(request: HttpRequest, uid: UUID) -> HttpResponse:
    project = access_project(request.user, uid, LEADS)
    return render_members(request, project)


def render_members(request: HttpRequest, project: Project, status: int = 200, **more: object) -> HttpResponse:
    members = project_members(project=project)
    leads = {row.user_id for role, rows in members if role == Role.LEAD for row in rows if row.user.is_active}
    context: dict[str, object] = {
        "project": project,
        "members": members,
        "roles": Role.choices,
        "role_meanings": [(role.label, meaning) for role, meaning in ROLE_MEANINGS.items()],
        "invitations": [(row, invitation_state(row, leads)) for row in project_invitations(project=project)],
        "invitation_form": InvitationForm(),
    }
    return render(request, "annotator/member_list.html", context | more, status=status)


def invitation_state(invitation: Invitation, leads: Collection[int]) -> str:
    """In one word; a link ends with the right of whoever made it to invite."""
    if invitation.accepted_at:
        return "accepted"
    if invitation.revoked_at:
        return "revoked"
    if invitation.expires_at <= timezone.now():
        return "expired"
    return "open" if invitation.invited_by_id in leads else "void"


@login_required
@require_POST
def member_role(request: HttpRequest, uid: UUID, member_uid: UUID) -> HttpResponse:
    membership = access_membership(request.user, uid, member_uid)
    form = RoleForm(request.POST)
    if not form.is_valid():
        return render_members(request, membership.project, status=422)
    role = Role(form.cleaned_data["role"])
    member_set_role(membership=membership, role=role, actor=user_of(request))
    messages.success(request, f"{membership.user.username} is now {role.label.lower()}.")
    return to_members_or_project(request, membership.project)


@login_required
@require_POST
def member_remove_view(request: HttpRequest, uid: UUID, member_uid: UUID) -> HttpResponse:
    membership = access_membership(request.user, uid, member_uid)
    member_remove(membership=membership, actor=user_of(request))
    messages.success(request, f"{membership.user.username} is no longer a member. Their work stays.")
    return to_members_or_project(request, membership.project)


def to_members_or_project(request: HttpRequest, project: Project) -> HttpResponse:
    """Somebody who took the lead from themselves can no longer open the members page."""
    mine = project.memberships.filter(user=user_of(request)).first()
    if mine is None:
        return redirect("annotator:home")
    return redirect("annotator:member-list" if mine.role == Role.LEAD else "annotator:project-detail", project.uid)


@login_required
@never_cache
@require_POST
def invitation_create_view(request: HttpRequest, uid: UUID) -> HttpResponse:
    """The answer to this POST is the only page that ever shows the link."""
    project = access_project(request.user, uid, LEADS)
    form = InvitationForm(request.POST)
    if not form.is_valid():
        return render_members(request, project, status=422, invitation_form=form)
    values = form.cleaned_data
    invitation, secret = invitation_create(
        project=project,
        role=Role(values["role"]),
        days=values["days"],
        email=values["email"],
        invited_by=user_of(request),
        now=timezone.now(),
    )
    link = request.build_absolute_uri(reverse("annotator:invitation-accept", args=[secret]))
    return render_members(request, project, status=201, new_link=link, new_invitation=invitation)


@login_required
@require_POST
def invitation_revoke_view(request: HttpRequest, uid: UUID) -> HttpResponse:
    invitation = access_invitation(request.user, uid)
    invitation_revoke(invitation=invitation, actor=user_of(request), now=timezone.now())
    messages.success(request, "The invitation no longer works.")
    return redirect("annotator:member-list", invitation.project.uid)
