"""What a lead sees of a queue: progress, people, items, flags. Counters where there are many rows."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection
from django.db.models import Count, F, Q, QuerySet, Sum
from django.db.models.functions import Coalesce

from annotator.models import Assignment, Exclusion, Flag, Item, Judgement, Project, Queue, QueueRater, Slot
from annotator.selectors.tasks import labelling_queues, next_tasks
from annotator.services.assignments import ANSWERED, SKIP_REASONS

#: Above so many slots, items are not counted by how many judgements they have: it would read every row.
COUNTED_SLOTS = 200_000
RECENT = 200


@dataclass(frozen=True, slots=True)
class QueueProgress:
    """Judgements wanted, given and being worked on. Surplus answers are counted apart."""

    n_planned: int
    n_done: int
    n_in_progress: int
    n_skipped: int
    n_surplus: int

    @property
    def n_left(self) -> int:
        return max(0, self.n_planned - self.n_done - self.n_in_progress)

    @property
    def share_done(self) -> float:
        return self.n_done / self.n_planned if self.n_planned else 0.0

    @property
    def is_complete(self) -> bool:
        return self.n_planned > 0 and self.n_done >= self.n_planned


def queue_progress(*, queue: Queue) -> QueueProgress:
    """From counters and the index of live leases: the same cost for ten items as for a million."""
    sums = QueueRater.objects.filter(queue=queue).aggregate(
        done=Coalesce(Sum("n_submitted"), 0),
        skipped=Coalesce(Sum("n_skipped"), 0),
        surplus=Coalesce(Sum("n_surplus"), 0),
    )
    leased = Slot.objects.filter(queue=queue, state=Slot.State.LEASED)
    # A reopened answer is leased again but still counts as done.
    reopened = Judgement.objects.filter(item__slots__in=leased, rater=F("item__slots__rater"), is_current=True)
    return QueueProgress(
        n_planned=queue.n_slots,
        n_done=sums["done"],
        n_in_progress=leased.count() - reopened.count(),
        n_skipped=sums["skipped"],
        n_surplus=sums["surplus"],
    )


def queue_item_counts(*, queue: Queue) -> list[tuple[int, int]] | None:
    """(judgements, items) for each number of judgements an item has. None for a queue too large to count."""
    if queue.n_slots > COUNTED_SLOTS:
        return None
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT n_done, count(*) FROM (
              SELECT count(slot.id) FILTER (WHERE slot.state = 2) AS n_done
              FROM annotator_item AS item LEFT JOIN annotator_slot AS slot ON slot.item_id = item.id AND slot.stage = 0
              WHERE item.queue_id = %s GROUP BY item.id
            ) AS items GROUP BY n_done ORDER BY n_done""",
            [queue.pk],
        )
        return list(cursor.fetchall())


@dataclass(frozen=True, slots=True)
class QueuePerson:
    """One rater's work in a queue."""

    name: str
    pseudonym: str
    n_submitted: int
    n_skipped: int
    n_surplus: int
    median_active_s: float | None
    share_left: float | None
    last_at: datetime | None
    is_working: bool


def queue_people(*, queue: Queue) -> list[QueuePerson]:
    """Everybody who answered or skipped, most answers first."""
    counts = list(
        QueueRater.objects.filter(queue=queue).select_related("rater__user").order_by("-n_submitted", "pk")[:500]
    )
    recent = recent_work(queue, [row.rater_id for row in counts])
    names = pseudonyms(queue=queue)
    working = set(Slot.objects.filter(queue=queue, state=Slot.State.LEASED).values_list("rater_id", flat=True))
    return [
        QueuePerson(
            name=str(row.rater),
            pseudonym=names[row.rater_id],
            n_submitted=row.n_submitted,
            n_skipped=row.n_skipped,
            n_surplus=row.n_surplus,
            median_active_s=recent.get(row.rater_id, (None, None))[0],
            share_left=recent.get(row.rater_id, (None, None))[1],
            last_at=row.last_at,
            is_working=row.rater_id in working,
        )
        for row in counts
    ]


def recent_work(queue: Queue, rater_ids: list[int]) -> dict[int, tuple[float | None, float | None]]:
    """Median active seconds, and the share of sided answers that chose the left, of each rater's last answers."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT rater.id, percentile_cont(0.5) WITHIN GROUP (ORDER BY work.active_s),
                   avg(CASE WHEN j.verdict IN ('a', 'b') THEN ((j.verdict = 'a') = work.a_is_left)::int END)
            FROM unnest(%s::bigint[]) AS rater (id)
            CROSS JOIN LATERAL (
              SELECT id, active_s, a_is_left FROM annotator_assignment
              WHERE queue_id = %s AND rater_id = rater.id AND state = 'submitted' ORDER BY id DESC LIMIT %s
            ) AS work
            JOIN annotator_judgement AS j ON j.assignment_id = work.id AND j.is_current
            GROUP BY rater.id""",
            [rater_ids, queue.pk, RECENT],
        )
        return {rater: (median, None if left is None else float(left)) for rater, median, left in cursor.fetchall()}


@dataclass(frozen=True, slots=True)
class OrderBalance:
    """Whether the sides of the screen were drawn and chosen evenly; `n_sided` answers chose a side."""

    n_shown: int
    share_a_left: float | None
    n_sided: int
    share_left_chosen: float | None


def queue_order_balance(*, queue: Queue) -> OrderBalance:
    """Over the latest answers of every rater, so that it stays cheap in a queue of a million."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT count(*), avg(a.a_is_left::int), count(*) FILTER (WHERE j.verdict IN ('a', 'b')),
                   avg(((j.verdict = 'a') = a.a_is_left)::int) FILTER (WHERE j.verdict IN ('a', 'b'))
            FROM (
              SELECT assignment_id, verdict FROM annotator_judgement
              WHERE queue_id = %s AND is_current LIMIT 20000
            ) AS j JOIN annotator_assignment AS a ON a.id = j.assignment_id""",
            [queue.pk],
        )
        n_shown, a_left, n_sided, left = cursor.fetchone()
    return OrderBalance(
        n_shown=n_shown,
        share_a_left=None if a_left is None else float(a_left),
        n_sided=n_sided,
        share_left_chosen=None if left is None else float(left),
    )


def queue_skip_reasons(*, queue: Queue) -> list[tuple[str, int]]:
    """How often each reason was given, most often first."""
    found = (
        Exclusion.objects.filter(item__queue=queue)
        .exclude(reason=ANSWERED)
        .values_list("reason")
        .annotate(n=Count("pk"))
        .order_by("-n")
    )
    return [(SKIP_REASONS.get(reason, reason), n) for reason, n in found]


def queue_flags(*, queue: Queue) -> QuerySet[Flag]:
    return (
        Flag.objects.filter(item__queue=queue)
        .select_related("item__example", "rater__user")
        .order_by(F("resolved_at").asc(nulls_first=True), "-pk")[:100]
    )


def pseudonyms(*, queue: Queue) -> dict[int, str]:
    """rater id -> 'Rater 3', numbered by when they began in this queue."""
    ids = QueueRater.objects.filter(queue=queue).order_by("pk").values_list("rater_id", flat=True)
    return {rater_id: f"Rater {number}" for number, rater_id in enumerate(ids, start=1)}


@dataclass(frozen=True, slots=True)
class KeysetPage:
    """Rows with the addresses of their neighbours, as components/pager.html reads them."""

    rows: list[Any]
    next_url: str | None
    previous_url: str | None


def review_items(
    *, queue: Queue, verdict: str = "", disagreement: bool = False, before: int = 0, size: int = 10
) -> list[Item]:
    """Judged items, newest first, with their current judgements as `.shown_judgements`.

    `verdict` keeps items that somebody gave it (`none`: cannot judge); `disagreement` those with more than one verdict.
    """
    current = Q(judgements__is_current=True)
    found = Item.objects.filter(current, queue=queue)
    if before:
        found = found.filter(pk__lt=before)
    if verdict:
        wanted = Q(judgements__verdict=None) if verdict == "none" else Q(judgements__verdict=verdict)
        found = Item.objects.filter(current & wanted, pk__in=found.values("pk"))
    if disagreement:
        split = (
            Judgement.objects.filter(queue=queue, is_current=True, is_surplus=False)
            .values("item")
            .annotate(n=Count("verdict", distinct=True))
            .filter(n__gt=1)
        )
        found = found.filter(pk__in=split.values("item"))
    ids = list(found.order_by("-pk").values_list("pk", flat=True).distinct()[:size])
    items = list(Item.objects.filter(pk__in=ids).select_related("example", "response_a", "response_b").order_by("-pk"))
    judgements = Judgement.objects.filter(item__in=ids, is_current=True).select_related(
        "rater__user", "assignment", "form_version"
    )
    by_item: dict[int, list[Judgement]] = {}
    for judgement in judgements.order_by("pk"):
        by_item.setdefault(judgement.item_id, []).append(judgement)
    for item in items:
        item.shown_judgements = by_item.get(item.pk, [])  # type: ignore[attr-defined]
    return items


def project_queues(*, project: Project) -> QuerySet[Queue]:
    """Queues of a project, newest first, with n_done."""
    return (
        Queue.objects.filter(project=project, deleted_at=None)
        .select_related("dataset")
        .annotate(n_done=Coalesce(Sum("rater_counts__n_submitted"), 0))
        .order_by("-pk")
    )


def last_answer(*, queue: Queue, rater_id: int) -> Assignment | None:
    """The rater's last submitted assignment, for the undo window."""
    from annotator.services.judgements import last_submitted

    return last_submitted(queue_id=queue.pk, rater_id=rater_id)


__all__ = [
    "KeysetPage",
    "OrderBalance",
    "QueuePerson",
    "QueueProgress",
    "labelling_queues",
    "last_answer",
    "next_tasks",
    "project_queues",
    "pseudonyms",
    "queue_flags",
    "queue_item_counts",
    "queue_order_balance",
    "queue_people",
    "queue_progress",
    "queue_skip_reasons",
    "recent_work",
    "review_items",
]
