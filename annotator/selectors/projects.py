"""What the home page and the project page show."""

from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import Count, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce

from annotator.models import Dataset, Flag, Invitation, Membership, Project, Queue, QueueRater, Role, User

#: What each role may do, as the members page says it.
ROLE_MEANINGS = {
    Role.LEAD: "sets up queues, invites people, sees everything",
    Role.REVIEWER: "answers tasks and reads all results",
    Role.ANNOTATOR: "answers tasks and sees only their own work",
    Role.RESEARCHER: "imports data, trains and compares reward models, cuts snapshots",
    Role.VIEWER: "reads results, changes nothing",
}


@dataclass(frozen=True)
class ProjectCounts:
    n_datasets: int
    n_examples: int
    n_queues: int
    n_slots: int
    n_submitted: int
    n_members: int
    n_open_flags: int
    n_raters: int
    active_s: float


def memberships_of(*, user: User, archived: bool = False) -> QuerySet[Membership]:
    """The user's projects with their role, newest first; a membership row carries both."""
    return (
        Membership.objects.filter(user=user, project__archived_at__isnull=not archived)
        .select_related("project")
        .annotate(
            n_queues=Coalesce(_count(Queue.objects.filter(project=OuterRef("project"), deleted_at=None)), 0),
            n_datasets=Coalesce(_count(Dataset.objects.filter(project=OuterRef("project"), deleted_at=None)), 0),
            n_members=Coalesce(_count(Membership.objects.filter(project=OuterRef("project"))), 0),
        )
        .order_by("-project_id")
    )


def _count(rows: "QuerySet[Queue] | QuerySet[Dataset] | QuerySet[Membership]") -> Subquery:
    return Subquery(rows.order_by().values("project").annotate(n=Count("pk")).values("n"))


def project_counts(*, project: Project) -> ProjectCounts:
    datasets = Dataset.objects.filter(project=project, deleted_at=None).aggregate(
        n=Count("pk"), n_examples=Coalesce(Sum("n_examples"), 0)
    )
    queues = Queue.objects.filter(project=project, deleted_at=None).aggregate(
        n=Count("pk"), n_slots=Coalesce(Sum("n_slots"), 0)
    )
    work = QueueRater.objects.filter(queue__project=project, queue__deleted_at=None).aggregate(
        n_raters=Count("rater", distinct=True, filter=Q(n_submitted__gt=0)),
        n_done=Coalesce(Sum("n_submitted"), 0),
        spent_s=Coalesce(Sum("active_s"), 0.0),
    )
    return ProjectCounts(
        n_datasets=datasets["n"],
        n_examples=datasets["n_examples"],
        n_queues=queues["n"],
        n_slots=queues["n_slots"],
        n_submitted=work["n_done"],
        n_members=project.memberships.count(),
        n_open_flags=Flag.objects.filter(item__queue__project=project, resolved_at=None).count(),
        n_raters=work["n_raters"],
        active_s=work["spent_s"],
    )


def project_queues(*, project: Project, user: User, limit: int = 50) -> QuerySet[Queue]:
    """Queues with everybody's progress and the reader's own, without a query per queue."""
    done = QueueRater.objects.filter(queue=OuterRef("pk")).order_by().values("queue")
    mine = QueueRater.objects.filter(queue=OuterRef("pk"), rater__user=user)
    return (
        Queue.objects.filter(project=project, deleted_at=None)
        .select_related("dataset")
        .annotate(
            n_submitted=Coalesce(Subquery(done.annotate(n=Sum("n_submitted")).values("n")), 0),
            my_n_submitted=Coalesce(Subquery(mine.values("n_submitted")[:1]), 0),
            my_active_s=Coalesce(Subquery(mine.values("active_s")[:1]), 0.0),
        )
        .order_by("-pk")[:limit]
    )


def project_datasets(*, project: Project, limit: int = 20) -> QuerySet[Dataset]:
    return Dataset.objects.filter(project=project, deleted_at=None).order_by("-pk")[:limit]


def project_members(*, project: Project) -> list[tuple[Role, list[Membership]]]:
    """Members by role, in the order of the roles; roles nobody has are left out."""
    rows = list(project.memberships.select_related("user").order_by("user__username"))
    grouped = [(role, [row for row in rows if row.role == role]) for role in Role]
    return [(role, members) for role, members in grouped if members]


def project_invitations(*, project: Project, limit: int = 100) -> QuerySet[Invitation]:
    return project.invitations.select_related("invited_by", "accepted_by").order_by("-pk")[:limit]


def demo_usernames(*, among: Iterable[str]) -> list[str]:
    """Which of the demo's own people are there; nobody who joined the demo project is named."""
    demo = Membership.objects.filter(project__is_demo=True, project__archived_at=None, user__is_active=True)
    found = set(demo.filter(user__username__in=list(among)).values_list("user__username", flat=True))
    return [name for name in among if name in found]
