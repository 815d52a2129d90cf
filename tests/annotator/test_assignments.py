"""Claims, drafts, heartbeats, skips, submits, corrections and expiry of one rater at a time."""

import random
from collections import Counter
from datetime import timedelta

import pytest

from annotator.errors import DomainError, InvalidInput
from annotator.models import Assignment, Exclusion, Judgement, QueueRater, Slot
from annotator.services.assignments import assignment_flag, assignment_renew, assignment_skip, draft_save
from annotator.services.judgements import judgement_reopen
from annotator.services.queues import queue_form_edit, queue_overlap_set, queue_state_set
from annotator.services.sweep import leases_adapt, leases_expire
from tests.annotator.queue_helpers import NOW, answer, claim, held, queue_of, raters, submit

pytestmark = pytest.mark.django_db
LATER = NOW + timedelta(minutes=11)


def test_claim_returns_the_live_lease_until_it_is_ended() -> None:
    queue, (rater,) = queue_of(3), raters(1)
    first = held(queue, rater)
    assert held(queue, rater).pk == first.pk
    submit(first)
    assert held(queue, rater).item_id != first.item_id


def test_nobody_meets_an_item_twice_and_no_slot_is_over_filled() -> None:
    queue, people = queue_of(6, overlap=2), raters(3)
    for rater in people * 6:
        assignment = claim(queue, rater)
        if assignment:
            submit(assignment)
    assert Judgement.objects.count() == 12
    assert max(Counter(Judgement.objects.values_list("item", "rater")).values()) == 1
    assert max(Counter(Judgement.objects.values_list("item", flat=True)).values()) == 2
    assert claim(queue, people[0]) is None


def test_breadth_covers_every_item_before_any_twice() -> None:
    queue, people = queue_of(4, overlap=2, order_policy="breadth"), raters(2)
    items = [held(queue, people[n % 2]).item_id for n in range(4) if submit(held(queue, people[n % 2]))]
    assert len(set(Judgement.objects.values_list("item", flat=True))) == 4, items


def test_depth_finishes_started_items_first() -> None:
    queue, people = queue_of(4, overlap=3, order_policy="depth"), raters(3)
    for _ in range(2):
        for rater in people:
            submit(held(queue, rater))
    assert sorted(Counter(Judgement.objects.values_list("item", flat=True)).values()) == [3, 3]


def test_submit_is_idempotent_by_key() -> None:
    queue, (rater,) = queue_of(3), raters(1)
    assignment = held(queue, rater)
    first = submit(assignment, key="k1")
    assert submit(assignment, key="k1").pk == first.pk
    with pytest.raises(DomainError) as caught:
        submit(assignment, answer("right"), key="k1")
    assert caught.value.code == "key_reused"
    with pytest.raises(DomainError) as caught:
        submit(assignment, key="k2")
    assert caught.value.code == "already_submitted"
    with pytest.raises(DomainError) as caught:
        submit(held(queue, rater), key="k1")
    assert caught.value.code == "key_reused"
    assert Judgement.objects.count() == 1
    for key in ("", "x" * 65):
        with pytest.raises(InvalidInput):
            submit(held(queue, rater), key=key) if key else submit_without_key(held(queue, rater))


def submit_without_key(assignment: Assignment) -> None:
    from annotator.services.judgements import judgement_submit

    judgement_submit(assignment=assignment, answers=answer(), active_seconds=1, idempotency_key="", now=NOW)


def test_another_form_version_is_refused_and_ones_own_is_kept() -> None:
    queue, (rater, other) = queue_of(2, overlap=2), raters(2)
    assignment = held(queue, rater)
    queue_form_edit(queue=queue, form=[{"type": "pairwise", "points": 3}], actor=None)
    with pytest.raises(DomainError) as caught:
        submit(assignment, form_version=2)
    assert caught.value.code == "form_version"
    assert submit(assignment, form_version=1).form_version.number == 1
    assert held(queue, other).form_version.number == 2


def test_drafts_are_versioned_and_the_newer_wins() -> None:
    assignment = held(queue_of(1), raters(1)[0])
    assert draft_save(assignment=assignment, answers=answer("left"), now=NOW, version=0) == 1
    assert draft_save(assignment=assignment, answers=answer("right"), now=NOW, version=1) == 2
    with pytest.raises(DomainError) as caught:
        draft_save(assignment=assignment, answers=answer("tie"), now=NOW, version=1)
    assert caught.value.code == "draft_conflict"
    assert caught.value.extra["version"] == 2
    assert caught.value.extra["draft"] == answer("right")
    with pytest.raises(InvalidInput):
        draft_save(assignment=assignment, answers={"x": "y" * 200_000}, now=NOW)
    submit(assignment)
    with pytest.raises(DomainError) as caught:
        draft_save(assignment=assignment, answers={}, now=NOW)
    assert caught.value.code == "already_submitted"


def test_expiry_keeps_the_draft_and_the_order_for_the_same_rater() -> None:
    queue, (rater,) = queue_of(1), raters(1)
    first = held(queue, rater)
    draft_save(assignment=first, answers=answer("right"), now=NOW)
    assert leases_expire(now=NOW) == 0
    assert leases_expire(now=LATER) == 1
    first.refresh_from_db()
    assert first.state == Assignment.State.EXPIRED
    assert draft_save(assignment=first, answers=answer("right", 3), now=LATER) == 2
    again = held(queue, rater, now=LATER, seed=99)
    assert (again.pk, again.draft, again.a_is_left) == (first.pk, answer("right", 3), first.a_is_left)
    assert submit(again, now=LATER).is_surplus is False


def test_a_swept_batch_frees_everything() -> None:
    queue, people = queue_of(12), raters(7)
    for rater in people:
        held(queue, rater)
    assert leases_expire(now=LATER, batch=3) == 7
    assert Slot.objects.filter(state=Slot.State.OPEN, rater=None).count() == 12


def test_late_submit_fills_a_free_slot_else_it_is_surplus() -> None:
    queue, (slow, quick, third) = queue_of(1, overlap=1), raters(3)
    late = held(queue, slow)
    leases_expire(now=LATER)
    submit(held(queue, quick, now=LATER), now=LATER)
    judgement = submit(late, now=LATER)
    assert judgement.is_surplus
    assert QueueRater.objects.get(rater=slow).n_surplus == 1
    assert Exclusion.objects.get(rater=slow).reason == "answered"
    assert claim(queue, slow, now=LATER) is None  # answered already
    queue_overlap_set(queue=queue, overlap=3, actor=None)  # the surplus answer fills one of the two new slots
    free = held(queue, third, now=LATER)
    leases_expire(now=LATER + timedelta(minutes=20))
    assert submit(free, now=LATER + timedelta(minutes=21)).is_surplus is False
    assert Slot.objects.filter(state=Slot.State.SUBMITTED).count() == 3


def test_a_higher_overlap_lets_surplus_answers_count() -> None:
    queue, people = queue_of(2, overlap=1), raters(4)
    late = [held(queue, people[0])]
    for rater in people[1:3]:
        leases_expire(now=LATER)
        late.append(held(queue, rater, now=LATER))
        Slot.objects.filter(state=Slot.State.LEASED).update(lease_until=NOW)
    leases_expire(now=LATER)
    item = late[0].item_id
    late = [row for row in late if row.item_id == item]
    quick = held(queue, people[3], now=LATER)
    assert quick.item_id == item
    submit(quick, now=LATER)
    made = [submit(row, now=LATER) for row in late]
    assert len(made) == 3
    assert all(judgement.is_surplus for judgement in made)
    queue_overlap_set(queue=queue, overlap=3, actor=None)
    current = Judgement.objects.filter(item=item).order_by("pk")
    assert [row.is_surplus for row in current] == [False, False, False, True]
    assert set(Slot.objects.filter(item=item, state=2).values_list("rater", flat=True)) == {
        row.rater_id for row in current if not row.is_surplus
    }
    assert [(row.n_submitted, row.n_surplus) for row in QueueRater.objects.order_by("rater")] == [
        (1, 0),
        (1, 0),
        (0, 1),
        (1, 0),
    ]
    filled = Assignment.objects.get(pk=late[0].pk)
    assert filled.slot is not None
    assert judgement_reopen(assignment=filled, now=LATER, window=timedelta(hours=1)).state == "active"
    assert [x.rater_id for x in Exclusion.objects.all()] == [people[2].pk]
    queue_overlap_set(queue=queue, overlap=4, actor=None)
    assert not Judgement.objects.filter(is_surplus=True).exists()


def test_a_heartbeat_takes_nothing_up_again_in_a_closed_queue() -> None:
    queue, (rater, other) = queue_of(2), raters(2)
    lost, kept = held(queue, rater), held(queue, other, now=LATER)
    leases_expire(now=LATER)
    queue_state_set(queue=queue, state="closed", actor=None)
    lost, kept = (Assignment.objects.get(pk=row.pk) for row in (lost, kept))
    assert assignment_renew(assignment=lost, now=LATER) is None
    assert not Slot.objects.filter(rater=rater).exists()
    assert assignment_renew(assignment=kept, now=LATER) is not None  # what is open can be finished
    assert submit(lost, now=LATER).is_surplus is False


def test_heartbeat_renews_and_takes_up_a_lost_lease() -> None:
    queue, (rater, other) = queue_of(1), raters(2)
    assignment = held(queue, rater)
    assert assignment_renew(assignment=assignment, now=NOW + timedelta(minutes=9)) == NOW + timedelta(minutes=19)
    assert leases_expire(now=LATER) == 0
    much_later = NOW + timedelta(hours=1)
    leases_expire(now=much_later)
    assert assignment_renew(assignment=assignment, now=much_later) is not None
    assert claim(queue, other, now=much_later) is None
    leases_expire(now=much_later + timedelta(hours=1))
    held(queue, other, now=much_later + timedelta(hours=1))
    assert assignment_renew(assignment=assignment, now=much_later + timedelta(hours=1)) is None


def test_skip_gives_the_slot_back_and_excludes_the_rater() -> None:
    queue, (rater, other) = queue_of(1), raters(2)
    assignment = held(queue, rater)
    with pytest.raises(InvalidInput):
        assignment_skip(assignment=assignment, reason="boring", now=NOW)
    assignment_skip(assignment=assignment, reason="unclear", now=NOW, detail="what is asked?")
    assignment_skip(assignment=assignment, reason="unclear", now=NOW)
    assert claim(queue, rater) is None
    assert held(queue, other).item_id == assignment.item_id
    assert QueueRater.objects.get(rater=rater).n_skipped == 1
    with pytest.raises(DomainError) as caught:
        submit(assignment)
    assert caught.value.code == "skipped"


def test_flags_and_what_was_shown() -> None:
    assignment = held(queue_of(1), raters(1)[0])
    with pytest.raises(InvalidInput):
        assignment_flag(assignment=assignment, detail=" ")
    assert assignment_flag(assignment=assignment, detail="same text twice").pk
    with pytest.raises(InvalidInput, match="both"):
        submit(assignment, shown={"layout": "tabs", "viewed": ["left"]})
    submit(assignment, shown={"layout": "tabs", "viewed": ["left", "right"]})
    assignment.refresh_from_db()
    assert assignment.shown["viewed"] == ["left", "right"]


def test_lease_grows_with_slow_work() -> None:
    queue, (rater,) = queue_of(25), raters(1)
    for _ in range(25):
        assignment = held(queue, rater)
        submit(assignment, now=assignment.created_at + timedelta(minutes=5))
    assert leases_adapt() == 1
    queue.refresh_from_db()
    assert queue.lease == timedelta(minutes=25)
    assert leases_adapt() == 0


def test_races_are_drawn_from_a_passed_generator() -> None:
    queue, people = queue_of(30), raters(2)
    seeds = [held(queue, person, seed=3).seed for person in people]
    assert seeds == [random.Random(3).getrandbits(31)] * 2
