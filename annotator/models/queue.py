"""Queues of items, the slots that make overlap a database invariant, and what each assignment showed."""

from datetime import timedelta
from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from annotator.models.base import UidModel
from annotator.models.dataset import Dataset, Example, Response
from annotator.models.project import Project
from annotator.models.user import Rater, User


class Queue(UidModel):
    class State(models.TextChoices):
        BUILDING = "building", "building"
        OPEN = "open", "open"
        PAUSED = "paused", "paused"
        CLOSED = "closed", "closed"

    class OrderPolicy(models.TextChoices):
        BREADTH = "breadth", "every item once before any twice"
        DEPTH = "depth", "finish started items first"

    class PairPolicy(models.TextChoices):
        ALL = "all", "every pair of responses"
        ADJACENT = "adjacent", "neighbours in stored order"
        RANDOM = "random", "one random pair of each example"
        LISTED = "listed", "pairs named by whoever made the queue"

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="queues")
    dataset = models.ForeignKey(Dataset, on_delete=models.PROTECT, related_name="queues")
    name = models.CharField(max_length=200)
    state = models.CharField(max_length=10, choices=State.choices, default=State.OPEN)
    overlap = models.PositiveSmallIntegerField(default=1)
    lease = models.DurationField(default=timedelta(minutes=10))
    order_policy = models.CharField(max_length=10, choices=OrderPolicy.choices, default=OrderPolicy.BREADTH)
    pair_policy = models.CharField(max_length=10, choices=PairPolicy.choices, default=PairPolicy.ALL)
    max_pairs = models.PositiveSmallIntegerField(default=10, help_text="At most so many pairs of one example.")
    seed = models.PositiveIntegerField(default=0)
    built_to = models.BigIntegerField(default=0, help_text="Last example id whose items are made.")
    enqueued_at = models.DateTimeField(null=True, blank=True, help_text="Last time a worker was asked to build it.")
    n_items = models.PositiveIntegerField(default=0)
    n_slots = models.PositiveIntegerField(
        default=0, help_text="Slots planned: items x overlap, voided ones not counted."
    )
    deleted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(name="queue_overlap_1_to_50", condition=Q(overlap__range=(1, 50))),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def exceeds_overlap(self) -> bool:
        """More slots are planned than items x overlap: it was lowered while work on them was begun or done."""
        return self.n_slots > self.n_items * self.overlap


class FormVersion(models.Model):
    """The questions of a queue, as a list of {type, name, ...}. A change makes a new version; answers keep theirs."""

    queue = models.ForeignKey(Queue, on_delete=models.CASCADE, related_name="form_versions")
    number = models.PositiveIntegerField()
    questions = models.JSONField()
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["queue", "number"], name="form_version_number")]


class GuidelinesVersion(models.Model):
    """Guidelines beside the task, in markdown."""

    queue = models.ForeignKey(Queue, on_delete=models.CASCADE, related_name="guidelines_versions")
    number = models.PositiveIntegerField()
    markdown = models.TextField(blank=True)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["queue", "number"], name="guidelines_version_number")]


class Item(UidModel):
    """One example of a queue, with the pair of responses that is judged."""

    queue = models.ForeignKey(Queue, on_delete=models.CASCADE, related_name="items", db_index=False)
    example = models.ForeignKey(Example, on_delete=models.PROTECT, related_name="items")
    response_a = models.ForeignKey(Response, on_delete=models.PROTECT, related_name="+", db_index=False)
    response_b = models.ForeignKey(Response, on_delete=models.PROTECT, related_name="+", db_index=False)
    is_gold = models.BooleanField(default=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["queue", "response_a", "response_b"], name="pair_once_in_queue"),
            models.CheckConstraint(name="item_two_responses", condition=~Q(response_a=F("response_b"))),
        ]
        indexes: ClassVar = [models.Index(fields=["queue", "id"], name="item_of_queue")]


class Slot(models.Model):
    """One unit of paid attention. Claimed with SKIP LOCKED; at most one per rater and item, whatever the stage."""

    class State(models.IntegerChoices):
        OPEN = 0, "open"
        LEASED = 1, "leased"
        SUBMITTED = 2, "submitted"
        VOID = 3, "void"

    queue = models.ForeignKey(Queue, on_delete=models.CASCADE, related_name="slots", db_index=False)
    item = models.ForeignKey(Item, on_delete=models.CASCADE, related_name="slots", db_index=False)
    slot_no = models.PositiveSmallIntegerField()
    stage = models.PositiveSmallIntegerField(default=0, help_text="0 annotate, 1 review, 2 adjudicate.")
    state = models.PositiveSmallIntegerField(choices=State.choices, default=State.OPEN)
    priority = models.IntegerField(default=0, help_text="Random at creation, so that order is random without a sort.")
    rater = models.ForeignKey(
        Rater, null=True, blank=True, on_delete=models.PROTECT, related_name="slots", db_index=False
    )
    lease_token = models.UUIDField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["item", "stage", "slot_no"], name="slot_number_of_item"),
            models.UniqueConstraint(
                fields=["item", "stage", "rater"], condition=Q(rater__isnull=False), name="one_slot_per_rater"
            ),
            models.CheckConstraint(
                name="slot_lease_complete",
                condition=(
                    Q(state=0, rater__isnull=True, lease_token__isnull=True, lease_until__isnull=True)
                    | Q(state=1, rater__isnull=False, lease_token__isnull=False, lease_until__isnull=False)
                    | Q(state=2, rater__isnull=False)
                    | Q(state=3)
                ),
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                F("queue"),
                F("stage"),
                F("slot_no"),
                F("priority").desc(),
                F("id"),
                condition=Q(state=0),
                name="slot_claimable",
            ),
            models.Index(fields=["lease_until"], condition=Q(state=1), name="slot_expiring"),
            models.Index(fields=["queue", "rater"], condition=Q(state=1), name="slot_live_lease"),
        ]


class Exclusion(models.Model):
    """A rater who is not to meet an item (again): they skipped it."""

    item = models.ForeignKey(Item, on_delete=models.CASCADE, related_name="exclusions", db_index=False)
    rater = models.ForeignKey(Rater, on_delete=models.CASCADE, related_name="+", db_index=False)
    reason = models.CharField(max_length=40)
    detail = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["item", "rater"], name="one_exclusion")]


class Assignment(UidModel):
    """One rater shown one item: the order drawn, the versions shown, the draft, and how it ended."""

    class State(models.TextChoices):
        ACTIVE = "active", "active"
        SUBMITTED = "submitted", "submitted"
        SKIPPED = "skipped", "skipped"
        EXPIRED = "expired", "expired"

    queue = models.ForeignKey(Queue, on_delete=models.CASCADE, related_name="assignments", db_index=False)
    item = models.ForeignKey(Item, on_delete=models.CASCADE, related_name="assignments", db_index=False)
    slot = models.ForeignKey(Slot, null=True, on_delete=models.SET_NULL, related_name="assignments", db_index=False)
    rater = models.ForeignKey(Rater, on_delete=models.PROTECT, related_name="assignments", db_index=False)
    state = models.CharField(max_length=10, choices=State.choices, default=State.ACTIVE)
    lease_token = models.UUIDField()
    a_is_left = models.BooleanField(help_text="True when response A was shown on the left.")
    seed = models.PositiveIntegerField()
    form_version = models.ForeignKey(FormVersion, on_delete=models.PROTECT, related_name="+", db_index=False)
    guidelines_version = models.ForeignKey(
        GuidelinesVersion, null=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    draft = models.JSONField(default=dict)
    draft_version = models.PositiveIntegerField(default=0)
    draft_at = models.DateTimeField(null=True, blank=True)
    shown = models.JSONField(default=dict, help_text="Presentation: viewport, tabs viewed, suggestion shown.")
    active_s = models.FloatField(default=0, help_text="Seconds of active attention, as the client measured them.")
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            # Once per rater and item for ever: a lease that ran out is taken up again with its order and draft.
            models.UniqueConstraint(fields=["item", "rater"], name="one_assignment_per_rater"),
        ]
        indexes: ClassVar = [models.Index(fields=["queue", "rater", "-id"], name="assignment_history")]

    @property
    def left(self) -> str:
        return "a" if self.a_is_left else "b"


class Flag(UidModel):
    """A rater says that something is wrong with an item."""

    item = models.ForeignKey(Item, on_delete=models.CASCADE, related_name="flags")
    rater = models.ForeignKey(Rater, on_delete=models.PROTECT, related_name="+")
    detail = models.TextField()
    resolved_at = models.DateTimeField(null=True, blank=True)


class QueueRater(models.Model):
    """Counters of one rater in one queue; written by that rater's own requests, so never contended."""

    queue = models.ForeignKey(Queue, on_delete=models.CASCADE, related_name="rater_counts")
    rater = models.ForeignKey(Rater, on_delete=models.CASCADE, related_name="queue_counts")
    n_submitted = models.PositiveIntegerField(default=0)
    n_skipped = models.PositiveIntegerField(default=0)
    n_surplus = models.PositiveIntegerField(default=0)
    active_s = models.FloatField(default=0)
    last_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["queue", "rater"], name="one_count_per_rater")]
