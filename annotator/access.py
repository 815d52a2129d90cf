"""Who sees what. Every object is fetched here: found and allowed, or 404 (not a member) or 403 (role too low)."""

from typing import Any, TypeVar
from uuid import UUID

from django.contrib.auth.models import AnonymousUser
from django.db import models

from annotator.errors import NotAllowed, NotFound
from annotator.models import (
    ApiToken,
    Assignment,
    Dataset,
    Example,
    Flag,
    Invitation,
    Item,
    Membership,
    Project,
    Queue,
    Rater,
    Role,
    Snapshot,
    User,
)

ANYONE = frozenset(Role)
LEADS = frozenset({Role.LEAD})
#: Who may see the material and the results of a project. Annotators see only their own work.
READERS = frozenset({Role.LEAD, Role.REVIEWER, Role.RESEARCHER, Role.VIEWER})
#: Who may import data, register and train models, cut snapshots.
RESEARCHERS = frozenset({Role.LEAD, Role.RESEARCHER})
#: Who may answer tasks.
LABELLERS = frozenset({Role.LEAD, Role.REVIEWER, Role.ANNOTATOR})

M = TypeVar("M", bound=models.Model)
AnyUser = User | AnonymousUser


def role_in(user: AnyUser, project: Project) -> Role | None:
    membership = Membership.objects.filter(user_id=user.pk, project=project).first() if user.pk else None
    return Role(membership.role) if membership else None


def require_role(user: AnyUser, project: Project, roles: frozenset[Role]) -> Role:
    """The caller's role in the project. A stranger learns nothing (404); a member of another role gets 403."""
    role = role_in(user, project)
    if role is None:
        raise NotFound("There is no such page, or you are not a member of its project.")
    if role not in roles:
        allowed = ", ".join(sorted(r.label.lower() for r in roles))
        raise NotAllowed(f"You are {role.label.lower()} in this project; this needs: {allowed}. Ask the lead.")
    return role


def access_row(user: AnyUser, queryset: models.QuerySet[M], roles: frozenset[Role], **lookup: Any) -> M:
    """Fetch one row that has a `.project` (or is one) and authorise; the way every object is reached."""
    row = queryset.filter(**lookup).first()
    if row is None:
        raise NotFound("There is no such page, or you are not a member of its project.")
    project = row if isinstance(row, Project) else project_of(row)
    require_role(user, project, roles)
    return row


def project_of(row: models.Model) -> Project:
    for path in (("project",), ("queue", "project"), ("dataset", "project"), ("reward_model", "project")):
        found: Any = row
        for name in path:
            found = getattr(found, name, None)
        if isinstance(found, Project):
            return found
    raise TypeError(f"{type(row).__name__} does not lead to a project")


def access_project(user: AnyUser, uid: UUID, roles: frozenset[Role] = ANYONE) -> Project:
    return access_row(user, Project.objects.all(), roles, uid=uid)


def access_dataset(user: AnyUser, uid: UUID, roles: frozenset[Role] = READERS) -> Dataset:
    return access_row(user, Dataset.objects.filter(deleted_at=None).select_related("project"), roles, uid=uid)


def access_example(user: AnyUser, uid: UUID, roles: frozenset[Role] = READERS) -> Example:
    live = Example.objects.filter(dataset__deleted_at=None).select_related("dataset__project")
    return access_row(user, live, roles, uid=uid)


def access_queue(user: AnyUser, uid: UUID, roles: frozenset[Role] = READERS) -> Queue:
    live = Queue.objects.filter(deleted_at=None).select_related("project", "dataset")
    return access_row(user, live, roles, uid=uid)


def access_item(user: AnyUser, uid: UUID, roles: frozenset[Role] = READERS) -> Item:
    return access_row(user, Item.objects.select_related("queue__project", "example"), roles, uid=uid)


def access_flag(user: AnyUser, uid: UUID) -> Flag:
    """A flag on an item, for the lead who settles it."""
    flag = Flag.objects.select_related("item__queue__project").filter(uid=uid).first()
    if flag is None:
        raise NotFound("There is no such page, or you are not a member of its project.")
    require_role(user, flag.item.queue.project, LEADS)
    return flag


def access_snapshot(user: AnyUser, uid: UUID, roles: frozenset[Role] = READERS) -> Snapshot:
    return access_row(user, Snapshot.objects.select_related("queue__project"), roles, uid=uid)


def access_invitation(user: AnyUser, uid: UUID) -> Invitation:
    return access_row(user, Invitation.objects.select_related("project"), LEADS, uid=uid)


def access_membership(user: AnyUser, project_uid: UUID, member_uid: UUID) -> Membership:
    project = access_project(user, project_uid, LEADS)
    membership = project.memberships.select_related("user", "project").filter(user__uid=member_uid).first()
    if membership is None:
        raise NotFound("Nobody with this address is a member of the project.")
    return membership


def access_token(user: AnyUser, uid: UUID) -> ApiToken:
    """One's own API token."""
    token = ApiToken.objects.filter(user_id=user.pk or 0, uid=uid).first()
    if token is None:
        raise NotFound("You have no such token.")
    return token


def access_assignment(user: AnyUser, uid: UUID) -> Assignment:
    """One's own assignment; anybody else's is not found, whatever the role."""
    mine = Assignment.objects.filter(rater__user_id=user.pk or 0).select_related(
        "queue__project", "item", "rater", "form_version", "guidelines_version"
    )
    return access_row(user, mine, LABELLERS, uid=uid)


def rater_of(user: User) -> Rater:
    """The rater that a person is; made at first use."""
    rater, _ = Rater.objects.get_or_create(user=user, defaults={"name": user.username})
    return rater
