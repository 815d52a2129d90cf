"""What a rater is shown. Built from an allow-list: no source models, no metadata, no names, no stored order."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

import orjson
from django.db.models import Count, Exists, F, IntegerField, OuterRef, Q, QuerySet, Subquery, Sum, Value
from django.db.models.functions import Coalesce, Greatest, Least

from annotator.access import LABELLERS
from annotator.models import Assignment, Queue, QueueRater, Slot, User
from annotator.statements import row_of
from annotator.task_types import TASK_TYPES

TASK = """
SELECT a.uid, a.a_is_left, a.draft, a.draft_version, slot.lease_until,
       coalesce(counts.n_submitted, 0) + coalesce(counts.n_surplus, 0),
       EXISTS (SELECT 1 FROM annotator_judgement AS j
               WHERE j.item_id = a.item_id AND j.rater_id = a.rater_id AND j.is_current),
       example.prompt, first.messages, second.messages, form.number, form.questions, guidelines.number
FROM annotator_assignment AS a
JOIN annotator_item AS item ON item.id = a.item_id
JOIN annotator_example AS example ON example.id = item.example_id
JOIN annotator_response AS first ON first.id = item.response_a_id
JOIN annotator_response AS second ON second.id = item.response_b_id
JOIN annotator_formversion AS form ON form.id = a.form_version_id
LEFT JOIN annotator_guidelinesversion AS guidelines ON guidelines.id = a.guidelines_version_id
LEFT JOIN annotator_slot AS slot ON slot.id = a.slot_id AND slot.lease_token = a.lease_token
LEFT JOIN annotator_queuerater AS counts ON counts.queue_id = a.queue_id AND counts.rater_id = a.rater_id
WHERE a.id = %(assignment)s
"""

Message = dict[str, str]


@dataclass(frozen=True, slots=True)
class Task:
    """One item as its rater sees it: left and right, never A and B."""

    uid: UUID
    n_done: int
    is_reopened: bool
    lease_until: datetime | None
    draft: dict[str, Any]
    draft_version: int
    prompt: list[Message]
    left: list[Message]
    right: list[Message]
    form_version: int
    questions: list[dict[str, Any]]
    guidelines_version: int | None

    @property
    def number(self) -> int:
        """Place in this rater's own work, from 1."""
        return self.n_done + (0 if self.is_reopened else 1)

    def opaque_id(self, side: str) -> UUID:
        """An id of a response that means nothing outside this assignment."""
        return uuid5(self.uid, side)

    def payload(self) -> dict[str, Any]:
        """The body of a claim."""
        return {
            "assignment": {
                "uid": self.uid,
                "number": self.number,
                "lease_until": self.lease_until,
                "draft": self.draft,
                "draft_version": self.draft_version,
                "is_reopened": self.is_reopened,
            },
            "item": {
                "prompt": self.prompt,
                "responses": [
                    {"id": self.opaque_id("left"), "messages": self.left},
                    {"id": self.opaque_id("right"), "messages": self.right},
                ],
            },
            "form": {
                "version": self.form_version,
                "questions": self.questions,
                "guidelines_version": self.guidelines_version,
            },
            "order": {"left": self.opaque_id("left"), "right": self.opaque_id("right")},
        }


def assignment_task(assignment: Assignment) -> Task:
    """Everything a rater needs of one assignment, in one query."""
    row = row_of(TASK, assignment=assignment.pk)
    if row is None:
        raise Assignment.DoesNotExist(f"assignment {assignment.pk}")
    uid, a_is_left, draft, draft_version, until, n_done, reopened, prompt, a, b, number, questions, guidelines = row
    first, second = plain_messages(a), plain_messages(b)
    return Task(
        uid=uid,
        n_done=n_done,
        is_reopened=reopened,
        lease_until=until,
        draft=orjson.loads(draft),
        draft_version=draft_version,
        prompt=plain_messages(prompt),
        left=first if a_is_left else second,
        right=second if a_is_left else first,
        form_version=number,
        questions=orjson.loads(questions),
        guidelines_version=guidelines,
    )


def plain_messages(raw: str) -> list[Message]:
    """Role and content alone: whatever else a message carries may name its model."""
    return [{"role": str(m.get("role", "")), "content": str(m.get("content", ""))} for m in orjson.loads(raw)]


def question_scale(question: dict[str, Any]) -> list[dict[str, Any]]:
    """Buttons of a question from left to right, for the page."""
    parsed: Any = TASK_TYPES.get(question["type"]).schema.model_validate(question)
    scale: list[dict[str, Any]] = parsed.scale
    return scale


def next_tasks(user: User) -> list[Queue]:
    """Open queues in which a person has something to label, with n_left (for them), n_mine and has_live."""
    return [queue for queue in labelling_queues(user) if queue.n_left > 0 or queue.has_live]


def labelling_queues(user: User) -> QuerySet[Queue, Any]:
    """Open queues of a person's projects. `n_left` is an upper bound: items open to them, not answered or skipped."""
    counts = QueueRater.objects.filter(queue=OuterRef("pk")).order_by().values("queue")
    mine = QueueRater.objects.filter(queue=OuterRef("pk"), rater__user=user)
    leased = Slot.objects.filter(queue=OuterRef("pk"), state=Slot.State.LEASED)
    number: IntegerField[int, int] = IntegerField()
    n_mine = mine.annotate(n=F("n_submitted") + F("n_surplus")).values("n")
    n_met = mine.annotate(n=F("n_submitted") + F("n_surplus") + F("n_skipped")).values("n")
    n_leased = leased.order_by().values("queue").annotate(n=Count("*")).values("n")
    open_slots = (
        F("n_slots")
        - Coalesce(Subquery(counts.annotate(n=Sum("n_submitted")).values("n"), output_field=number), 0)
        - Coalesce(Subquery(n_leased, output_field=number), 0)
    )
    not_met = F("n_items") - Coalesce(Subquery(n_met, output_field=number), 0)
    return (
        Queue.objects.filter(
            Q(project__memberships__user=user, project__memberships__role__in=LABELLERS),
            state=Queue.State.OPEN,
            deleted_at=None,
            project__archived_at=None,
        )
        .annotate(
            n_left=Greatest(Value(0), Least(open_slots, not_met), output_field=number),
            n_mine=Coalesce(Subquery(n_mine, output_field=number), 0),
            has_live=Exists(leased.filter(rater__user=user)),
        )
        .select_related("project")
        .order_by("-has_live", "-pk")
    )
