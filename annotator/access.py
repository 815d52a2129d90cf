"""Who sees what. Every object is fetched here: found and allowed, or 404 (not a member) or 403 (role too low)."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import orjson
from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.db.models import DEFERRED

from annotator.errors import NotAllowed, NotFound, ProjectArchived
from annotator.models import (
    ApiToken,
    Assignment,
    Dataset,
    Example,
    Flag,
    FormVersion,
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
from annotator.statements import row_of

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


#: Whether the request at hand changes something. Said once for every view, so that none can forget to ask.
_is_writing: ContextVar[bool] = ContextVar("is_writing", default=False)


@contextmanager
def reading() -> Iterator[None]:
    """Around a request, which counts as reading until `writing` says otherwise."""
    token = _is_writing.set(False)
    try:
        yield
    finally:
        _is_writing.reset(token)


def writing() -> None:
    """From here on whatever is accessed is meant to be changed: objects of archived projects are refused."""
    _is_writing.set(True)


def refuse_archived(archived_at: datetime | None) -> None:
    if archived_at is not None:
        raise ProjectArchived(
            "This project is archived, so nothing in it can be changed. Its lead can take it back out on its page."
        )


def require_role(user: AnyUser, project: Project, roles: frozenset[Role]) -> Role:
    """The caller's role in the project. A stranger learns nothing (404); a member of another role gets 403.

    409 where the request would change something and the project is archived.
    """
    return check_role(role_in(user, project), roles, project.archived_at)


def check_role(held: str | None, roles: frozenset[Role], archived_at: datetime | None) -> Role:
    if held is None:
        raise NotFound("There is no such page, or you are not a member of its project.")
    role = Role(held)
    if role not in roles:
        allowed = ", ".join(sorted(r.label.lower() for r in roles))
        raise NotAllowed(f"You are {role.label.lower()} in this project; this needs: {allowed}. Ask the lead.")
    if _is_writing.get():
        refuse_archived(archived_at)
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


def partial(model: type[M], **values: Any) -> M:
    """A row of which these columns are known already; the others are read when somebody asks for them."""
    row = [values.get(field.attname, DEFERRED) for field in model._meta.concrete_fields]
    return model.from_db(None, (), row)


#: Columns that every draft, heartbeat and submit needs; the others are read when somebody asks for them.
ASSIGNMENT_COLUMNS = (
    "id", "uid", "created_at", "queue_id", "item_id", "slot_id", "rater_id", "state", "lease_token", "a_is_left",
    "form_version_id", "guidelines_version_id", "ended_at",
)  # fmt: skip
ASSIGNMENT = f"""
SELECT membership.role, project.archived_at, queue.uid, queue.state, queue.lease, queue.project_id, form.number,
       form.questions,
       {", ".join(f"assignment.{name}" for name in ASSIGNMENT_COLUMNS)}
FROM annotator_assignment AS assignment
JOIN annotator_rater AS rater ON rater.id = assignment.rater_id AND rater.user_id = %(user)s
JOIN annotator_queue AS queue ON queue.id = assignment.queue_id AND queue.deleted_at IS NULL
JOIN annotator_project AS project ON project.id = queue.project_id
JOIN annotator_formversion AS form ON form.id = assignment.form_version_id
LEFT JOIN annotator_membership AS membership
  ON membership.project_id = queue.project_id AND membership.user_id = rater.user_id
WHERE assignment.uid = %(uid)s
"""  # noqa: S608 - constants


def access_assignment(user: AnyUser, uid: UUID) -> Assignment:
    """One's own assignment with its queue and form; anybody else's is not found, whatever the role.

    One plain query, because every draft, heartbeat and submit begins here.
    """
    row = row_of(ASSIGNMENT, user=user.pk or 0, uid=uid)
    if row is None:
        raise NotFound("There is no such item of yours. Claim one from its queue.")
    role, archived_at, queue_uid, state, lease, project_id, number, questions, *columns = row
    check_role(role, LABELLERS, archived_at)
    found = partial(Assignment, **dict(zip(ASSIGNMENT_COLUMNS, columns, strict=True)))
    found.queue = partial(Queue, id=found.queue_id, uid=queue_uid, project_id=project_id, state=state, lease=lease)
    found.form_version = partial(
        FormVersion,
        id=found.form_version_id,
        queue_id=found.queue_id,
        number=number,
        questions=orjson.loads(questions),
    )
    return found


LABELLING = """
SELECT membership.role, project.archived_at, rater.id, queue.id, queue.project_id, queue.state, queue.lease,
       queue.order_policy
FROM annotator_queue AS queue
JOIN annotator_project AS project ON project.id = queue.project_id
LEFT JOIN annotator_membership AS membership
  ON membership.project_id = queue.project_id AND membership.user_id = %(user)s
LEFT JOIN annotator_rater AS rater ON rater.user_id = %(user)s
WHERE queue.uid = %(uid)s AND queue.deleted_at IS NULL
"""


def access_labelling(user: User, uid: UUID) -> tuple[Queue, Rater]:
    """A queue to label in, and the rater one is there; in one plain query, because every claim begins here."""
    row = row_of(LABELLING, user=user.pk, uid=uid)
    if row is None:
        raise NotFound("There is no such page, or you are not a member of its project.")
    role, archived_at, rater_id, pk, project_id, state, lease, order = row
    check_role(role, LABELLERS, archived_at)
    queue = partial(Queue, id=pk, uid=uid, project_id=project_id, state=state, lease=lease, order_policy=order)
    return queue, rater_of(user) if rater_id is None else partial(Rater, id=rater_id, user_id=user.pk)


def rater_of(user: User) -> Rater:
    """The rater that a person is; made at first use."""
    rater, _ = Rater.objects.get_or_create(user=user, defaults={"name": user.username})
    return rater
