"""Projects, their members and invitations."""

import secrets
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction

from annotator.access import refuse_archived
from annotator.authentication import token_digest
from annotator.errors import DomainError, FieldError, InvalidInput
from annotator.live import poke, user_topic
from annotator.models import AuditEvent, Invitation, Membership, Project, Role, User

MAX_INVITATION_DAYS = 90


class InvitationGone(DomainError):
    status = 410
    code = "invitation_gone"
    title = "This invitation can no longer be used"


@transaction.atomic
def project_create(*, name: str, creator: User, description: str = "", is_demo: bool = False) -> Project:
    """A project with its creator as lead."""
    project = Project.objects.create(name=checked_name(name), description=description.strip(), is_demo=is_demo)
    Membership.objects.create(project=project, user=creator, role=Role.LEAD)
    audit(project, creator, "project.create", name=project.name)
    return project


@transaction.atomic
def project_update(*, project: Project, name: str, description: str, actor: User) -> None:
    project.name, project.description = checked_name(name), description.strip()
    project.save(update_fields=["name", "description"])
    audit(project, actor, "project.update", name=project.name)
    poke(f"project.{project.uid}", "project")


@transaction.atomic
def project_archive(*, project: Project, actor: User, now: datetime | None) -> None:
    """Put a project away (now) or take it back out (None). Nothing is deleted."""
    project.archived_at = now
    project.save(update_fields=["archived_at"])
    audit(project, actor, "project.archive" if now else "project.unarchive")
    poke(f"project.{project.uid}", "project")


def checked_name(name: str) -> str:
    name = name.strip()
    if not 1 <= len(name) <= 200 or "\0" in name:
        detail = "A project needs a name of 1 to 200 characters."
        raise InvalidInput(detail, errors=[FieldError("/name", "invalid", detail)])
    return name


@transaction.atomic
def member_set_role(*, membership: Membership, role: Role, actor: User) -> None:
    lock_members(membership.project)
    if role != Role.LEAD:
        keep_a_lead(membership)
    Membership.objects.filter(pk=membership.pk).update(role=role)
    audit(membership.project, actor, "member.role", member=membership.user.username, role=role)
    poke_membership(membership)


@transaction.atomic
def member_remove(*, membership: Membership, actor: User) -> None:
    """End a membership. What the person judged stays; their open pages close at the poke."""
    lock_members(membership.project)
    keep_a_lead(membership)
    Membership.objects.filter(pk=membership.pk).delete()
    audit(membership.project, actor, "member.remove", member=membership.user.username)
    poke_membership(membership)


def poke_membership(membership: Membership) -> None:
    """Tell the project's pages, and every open page of the person: each asks again whether it may listen."""
    poke(f"project.{membership.project.uid}", "membership")
    poke(user_topic(membership.user), "membership")


def lock_members(project: Project) -> Project:
    """Changes of members queue up behind the project row: two leads cannot remove each other at once."""
    return Project.objects.select_for_update().get(pk=project.pk)


def keep_a_lead(membership: Membership) -> None:
    leads = Membership.objects.filter(project_id=membership.project_id, role=Role.LEAD)
    if leads.filter(pk=membership.pk).exists() and not leads.exclude(pk=membership.pk).exists():
        raise DomainError("A project needs a lead. Make somebody else lead first.", code="last_lead")


@transaction.atomic
def invitation_create(
    *, project: Project, role: Role, invited_by: User, now: datetime, days: int = 7, email: str = ""
) -> tuple[Invitation, str]:
    """An invitation for one person and the secret of its link, which is shown once."""
    if not 1 <= days <= MAX_INVITATION_DAYS:
        detail = f"An invitation lasts 1 to {MAX_INVITATION_DAYS} days."
        raise InvalidInput(detail, errors=[FieldError("/days", "out_of_range", detail)])
    secret = secrets.token_urlsafe(24)
    invitation = Invitation.objects.create(
        project=project,
        role=role,
        digest=token_digest(secret),
        invited_by=invited_by,
        email=email,
        expires_at=now + timedelta(days=days),
    )
    audit(project, invited_by, "invitation.create", role=role, email=email)
    poke(f"project.{project.uid}", "invitations")
    return invitation, secret


@transaction.atomic
def invitation_revoke(*, invitation: Invitation, actor: User, now: datetime) -> None:
    open_ones = Invitation.objects.filter(pk=invitation.pk, accepted_at=None, revoked_at=None)
    if not open_ones.update(revoked_at=now):
        raise DomainError("This invitation was accepted or revoked before.", code="invitation_closed")
    audit(invitation.project, actor, "invitation.revoke", role=invitation.role)
    poke(f"project.{invitation.project.uid}", "invitations")


def invitation_find(*, secret: str, now: datetime, lock: bool = False) -> Invitation:
    """The usable invitation behind a link, or InvitationGone that says why it is not usable."""
    invitations = Invitation.objects.select_related("project", "invited_by")
    if lock:
        invitations = invitations.select_for_update(of=("self",))
    invitation = invitations.filter(digest=token_digest(secret)).first()
    if invitation is None:
        raise InvitationGone("There is no such invitation. Check that the whole link was copied.", status=404)
    if invitation.revoked_at is not None:
        raise InvitationGone("This invitation was withdrawn. Ask the project's lead for a new one.")
    if invitation.accepted_at is not None:
        raise InvitationGone("This invitation was used before; each is for one person. Ask the lead for another.")
    if invitation.expires_at <= now:
        raise InvitationGone("This invitation has expired. Ask the project's lead for a new one.")
    if not still_leads(invitation.invited_by, invitation.project):
        raise InvitationGone("Whoever made this invitation no longer leads the project. Ask its lead for a new one.")
    return invitation


def still_leads(user: User, project: Project) -> bool:
    """Whether what this person hands out still holds: links made in time must not outlive the right to make them."""
    return Membership.objects.filter(project=project, user=user, role=Role.LEAD, user__is_active=True).exists()


@transaction.atomic
def invitation_accept(*, secret: str, user: User, now: datetime) -> Membership:
    """Make the user a member. Of two who open the link at once, one gets in."""
    invitation = invitation_find(secret=secret, now=now, lock=True)
    refuse_archived(lock_members(invitation.project).archived_at)
    if Membership.objects.filter(project=invitation.project, user=user).exists():
        raise DomainError(
            f"You are already a member of {invitation.project.name}. The link can go to somebody else.",
            code="already_member",
        )
    membership = Membership.objects.create(project=invitation.project, user=user, role=invitation.role)
    invitation.accepted_by, invitation.accepted_at = user, now
    invitation.save(update_fields=["accepted_by", "accepted_at"])
    audit(invitation.project, user, "invitation.accept", role=invitation.role)
    poke(f"project.{invitation.project.uid}", "membership")
    return membership


def account_create(*, secret: str, username: str, password: str, now: datetime) -> User:
    """Sign up through an invitation: account and membership, both or neither. The form has validated the password."""
    try:
        with transaction.atomic():
            user = User.objects.create_user(username=username, password=password)
            invitation_accept(secret=secret, user=user, now=now)
            return user
    except IntegrityError as error:
        detail = "This user name is taken. Log in if it is yours, or choose another."
        raise InvalidInput(detail, errors=[FieldError("/username", "taken", detail)]) from error


def audit(project: Project, actor: User | None, action: str, **detail: object) -> None:
    AuditEvent.objects.create(project=project, actor=actor, action=action, detail=detail)
