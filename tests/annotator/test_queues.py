"""Making, building and changing queues."""

import random
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta

import pytest
from django.template.loader import get_template

from annotator.errors import DomainError, InvalidInput
from annotator.models import Assignment, Dataset, Item, Queue, Response, Slot
from annotator.selectors.queues import queue_progress
from annotator.services import queue_items
from annotator.services.assignments import assignment_skip
from annotator.services.datasets import dataset_delete
from annotator.services.queues import (
    queue_build,
    queue_form_edit,
    queue_guidelines_edit,
    queue_overlap_set,
    queue_state_set,
)
from annotator.services.sweep import leases_expire
from annotator.task_types import TASK_TYPES
from tests.annotator.queue_helpers import FORM, NOW, claim, dataset_with, held, queue_of, raters, submit

pytestmark = pytest.mark.django_db


def test_two_responses_make_one_item_each_with_overlap_slots() -> None:
    queue = queue_of(4, overlap=3)
    assert queue.state == Queue.State.OPEN
    assert (queue.n_items, queue.n_slots) == (4, 12)
    assert Counter(Slot.objects.values_list("slot_no", flat=True)) == {1: 4, 2: 4, 3: 4}
    assert Dataset.objects.get(pk=queue.dataset_id).frozen_at == NOW
    first = Item.objects.select_related("response_a", "response_b").first()
    assert first is not None
    assert (first.response_a.number, first.response_b.number) == (0, 1)


@pytest.mark.parametrize(
    ("policy", "max_pairs", "n_pairs"), [("all", 10, 6), ("all", 4, 4), ("adjacent", 10, 3), ("random", 10, 1)]
)
def test_pair_policies(policy: str, max_pairs: int, n_pairs: int) -> None:
    queue = queue_of(3, n_responses=4, pair_policy=policy, max_pairs=max_pairs)
    assert queue.n_items == 3 * n_pairs
    if policy == "adjacent":
        pairs = Item.objects.values_list("response_a__number", "response_b__number")
        assert set(pairs) == {(0, 1), (1, 2), (2, 3)}


def test_random_pairs_and_order_repeat_with_the_seed() -> None:
    dataset = dataset_with(20, 4)
    made = [queue_of(dataset=dataset, pair_policy="random", seed=seed) for seed in (7, 7, 8)]
    pairs = [list(q.items.order_by("pk").values_list("response_a", "response_b")) for q in made]
    assert pairs[0] == pairs[1] != pairs[2]


def test_random_pairs_are_evenly_spread() -> None:
    queue = queue_of(600, n_responses=3, pair_policy="random")
    found = Counter(queue.items.values_list("response_a__number", "response_b__number"))
    assert set(found) == {(0, 1), (0, 2), (1, 2)}
    assert min(found.values()) > 150


def test_named_pairs() -> None:
    dataset = dataset_with(3, 3)
    ids = list(Response.objects.order_by("pk").values_list("pk", flat=True))
    queue = queue_of(dataset=dataset, pairs=[(ids[2], ids[0]), (ids[3], ids[4])])
    assert queue.pair_policy == "listed"
    pairs = queue.items.order_by("pk").values_list("response_a", "response_b")
    assert list(pairs) == [(ids[2], ids[0]), (ids[3], ids[4])]
    with pytest.raises(InvalidInput, match="1 of 1 pairs"):
        queue_of(dataset=dataset, pairs=[(ids[0], ids[3])])
    with pytest.raises(InvalidInput):
        queue_of(dataset=dataset, pairs=[])


def test_large_queue_is_built_in_parts_and_goes_on_after_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("annotator.services.queues.INLINE_EXAMPLES", 10)
    monkeypatch.setattr(queue_items, "CHUNK", 4)
    queue = queue_of(13, overlap=2)
    assert queue.state == Queue.State.BUILDING
    with pytest.raises(DomainError, match="being built"):
        claim(queue, raters(1)[0])
    assert queue_items.items_from_examples(queue) is False  # the part that a killed worker had committed
    assert queue_build(queue=queue) == 13
    queue.refresh_from_db()
    assert (queue.state, queue.n_items, queue.n_slots) == ("open", 13, 26)
    assert queue_build(queue=queue) == 13


@pytest.mark.parametrize(
    ("values", "pointer", "code"),
    [
        ({"form": []}, "/form", "required"),
        ({"form": [{"type": "pairwise", "scale": 7}]}, "/form/0/scale", "unknown_field"),
        ({"form": [{"type": "pairwise", "points": 5}]}, "/form/0/points", "literal_error"),
        ({"form": [{"type": "essay"}]}, "/form/0/type", "unknown_type"),
        ({"form": [*FORM, *FORM]}, "/form/1", "too_many_questions"),
        ({"overlap": 0}, "/overlap", "out_of_range"),
        ({"overlap": 51}, "/overlap", "out_of_range"),
        ({"name": "  "}, "/name", "required"),
        ({"name": "a\0b"}, "/name", "nul"),
        ({"lease": timedelta(seconds=1)}, "/lease_s", "out_of_range"),
        ({"pair_policy": "listed"}, "/pair_policy", "invalid_choice"),
        ({"order_policy": "best"}, "/order_policy", "invalid_choice"),
    ],
)
def test_wrong_settings_are_pointed_at(values: dict[str, object], pointer: str, code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        queue_of(2, **values)
    assert (caught.value.errors[0].pointer, caught.value.errors[0].code) == (pointer, code)


def test_dataset_must_be_ready_and_of_this_project_and_hold_pairs() -> None:
    with pytest.raises(DomainError, match="importing"):
        queue_of(dataset=dataset_with(2, state="importing"))
    with pytest.raises(InvalidInput, match="no such dataset"):
        queue_of(dataset=dataset_with(2), project=dataset_with(1).project)
    with pytest.raises(InvalidInput, match="two responses"):
        queue_of(dataset=dataset_with(2, n_responses=1))
    assert not Queue.objects.exists()


def test_a_dataset_deleted_since_it_was_fetched_gets_no_queue() -> None:
    dataset = dataset_with(2)
    dataset_delete(dataset=Dataset.objects.get(pk=dataset.pk), user=None, now=NOW)
    assert dataset.deleted_at is None  # as a request that looked it up before
    with pytest.raises(InvalidInput, match="no such dataset"):
        queue_of(dataset=dataset)
    assert Dataset.objects.get(pk=dataset.pk).frozen_at is None


def test_overlap_grows_by_inserts_and_shrinks_by_open_slots_only() -> None:
    queue = queue_of(3, overlap=1)
    someone, other = raters(2)
    first = held(queue, someone)
    submit(first)
    queue_overlap_set(queue=queue, overlap=3, actor=None)
    assert queue.n_slots == 9
    leased = held(queue, other)
    queue_overlap_set(queue=queue, overlap=1, actor=None)
    counts = Counter(Slot.objects.exclude(state=Slot.State.VOID).values_list("item_id", flat=True))
    assert counts[first.item_id] == 1
    assert all(n == 1 for n in counts.values())
    assert Slot.objects.get(item=leased.item_id, rater=other).state == Slot.State.LEASED
    queue_overlap_set(queue=queue, overlap=2, actor=None)
    assert queue.n_slots == 6
    assert not Slot.objects.filter(slot_no__gt=3).exists()


def test_a_slot_given_back_after_overlap_was_lowered_is_not_offered_again(
    django_capture_on_commit_callbacks: Callable[..., AbstractContextManager[object]],
) -> None:
    queue = queue_of(1, overlap=3)
    first, _, _ = (held(queue, rater) for rater in raters(3))
    queue_overlap_set(queue=queue, overlap=1, actor=None)
    assert queue.n_slots == 3
    with django_capture_on_commit_callbacks(execute=True):
        assignment_skip(assignment=fresh(first), reason="unclear", now=NOW)
    assert n_planned(queue) == 2
    with django_capture_on_commit_callbacks(execute=True):
        leases_expire(now=NOW + timedelta(days=1))  # both at once: one slot of the item has to stay
    assert n_planned(queue) == 1


def n_planned(queue: Queue) -> int:
    queue.refresh_from_db()
    n = Slot.objects.filter(queue=queue).exclude(state=Slot.State.VOID).count()
    assert queue.n_slots == n
    return n


def fresh(assignment: Assignment) -> Assignment:
    """As a later request reads it, its queue included."""
    return Assignment.objects.select_related("queue").get(pk=assignment.pk)


def test_versions_of_form_and_guidelines() -> None:
    queue = queue_of(1, guidelines="one")
    assert queue_guidelines_edit(queue=queue, markdown="one", actor=None).number == 1
    assert queue_guidelines_edit(queue=queue, markdown="two", actor=None).number == 2
    assert queue_form_edit(queue=queue, form=FORM, actor=None).number == 1
    assert queue_form_edit(queue=queue, form=[{"type": "pairwise", "points": 3}], actor=None).number == 2
    assert queue.form_versions.count() == 2
    with pytest.raises(InvalidInput):
        queue_form_edit(queue=queue, form=[{"type": "pairwise", "colour": 1}], actor=None)


def test_pause_close_reopen_and_progress() -> None:
    queue = queue_of(3, overlap=2)
    someone, other = raters(2)
    mine = held(queue, someone)
    queue_state_set(queue=queue, state="paused", actor=None)
    assert held(queue, someone).pk == mine.pk  # what is open can be finished
    with pytest.raises(DomainError, match="paused"):
        claim(queue, other)
    submit(mine)
    queue_state_set(queue=queue, state="closed", actor=None)
    with pytest.raises(DomainError) as caught:
        claim(queue, someone)
    assert caught.value.code == "queue_closed"
    queue_state_set(queue=queue, state="open", actor=None)
    held(queue, other, seed=random.randint(0, 99))
    progress = queue_progress(queue=queue)
    assert (progress.n_planned, progress.n_done, progress.n_in_progress, progress.n_left) == (6, 1, 1, 4)
    with pytest.raises(InvalidInput):
        queue_state_set(queue=queue, state="building", actor=None)


@pytest.mark.parametrize("name", TASK_TYPES.names())
def test_every_task_type_is_complete(name: str) -> None:
    entry = TASK_TYPES.get(name)
    assert entry.__doc__
    get_template(f"annotator/task_types/{name}.html")
    question = entry.schema.model_validate({"type": name})
    assert entry.schema.model_validate(question.model_dump(mode="json")) == question
    fields = {key: field for key, field in entry.schema.model_fields.items() if key != "type"}
    assert not [key for key, field in fields.items() if not field.description]
