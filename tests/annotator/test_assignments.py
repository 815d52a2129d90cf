"""Claims, drafts, heartbeats, skips, submits, corrections and expiry of one rater at a time."""

import random
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotator.errors import DomainError, InvalidInput
from annotator.models import Assignment, Exclusion, Judgement, QueueRater, Slot
from annotator.selectors.tasks import assignment_task
from annotator.services.answer_checks import answers_check, answers_on_screen
from annotator.services.assignments import assignment_flag, assignment_renew, assignment_skip, draft_save
from annotator.services.judgements import judgement_reopen
from annotator.services.queues import queue_form_edit, queue_overlap_set, queue_state_set
from annotator.services.sweep import leases_adapt, leases_expire
from tests.annotator.queue_helpers import FORM, MODELS, NOW, answer, claim, held, queue_of, raters, submit

pytestmark = pytest.mark.django_db
LATER = NOW + timedelta(minutes=11)
WINDOW = timedelta(minutes=10)


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


def test_order_is_drawn_stored_and_balanced() -> None:
    queue, (rater,) = queue_of(200), raters(1)
    drawn = []
    for n in range(200):
        assignment = held(queue, rater, seed=n)
        drawn.append(assignment.a_is_left)
        submit(assignment)
    assert 70 < sum(drawn) < 130
    assert list(Assignment.objects.order_by("pk").values_list("a_is_left", flat=True)) == drawn


@pytest.mark.parametrize("a_is_left", [True, False])
@pytest.mark.parametrize("choice", ["left", "right", "tie", "both_bad", "cannot_judge"])
def test_swapping_the_sides_swaps_the_verdict_and_nothing_else(choice: str, a_is_left: bool) -> None:
    strength = 2 if choice in ("left", "right") else None
    given_ = answer(choice, strength, reasons=["Clear"], justification="because")
    here = answers_check(FORM, given_, a_is_left=a_is_left)
    mirrored = {"left": "right", "right": "left"}.get(choice, choice)
    there = answers_check(
        FORM, answer(mirrored, strength, reasons=["Clear"], justification="because"), a_is_left=not a_is_left
    )
    assert (here.verdict, here.preference_strength) == (there.verdict, there.preference_strength)
    swapped = answers_check(FORM, given_, a_is_left=not a_is_left)
    assert swapped.verdict == {"a": "b", "b": "a"}.get(str(here.verdict), here.verdict)
    rest = [{k: v for k, v in c.answers["preference"].items() if k != "verdict"} for c in (here, swapped)]
    assert rest[0] == rest[1]
    assert answers_on_screen(FORM, here.answers) == given_


@given(seed=st.integers(0, 2**31 - 1))
def test_drawn_side_repeats_with_its_seed(seed: int) -> None:
    from annotator.services.assignments import draw_a_is_left

    assert draw_a_is_left(seed) == draw_a_is_left(seed)


@pytest.mark.parametrize(
    ("answers", "pointer", "code"),
    [
        ([], "/answers", "type"),
        ({}, "/answers/preference", "required"),
        ({**answer(), "other": 1}, "/answers/other", "unknown_field"),
        (answer("left", None), "/answers/preference/strength", "required"),
        (answer("tie", 1), "/answers/preference/strength", "not_offered"),
        (answer("left", 4), "/answers/preference/strength", "less_than_equal"),
        (answer("up"), "/answers/preference/choice", "literal_error"),
        (answer(colour="red"), "/answers/preference/colour", "unknown_field"),
        (answer(reasons=["Rude"]), "/answers/preference/reasons", "not_offered"),
        ({"preference": {"verdict": "a"}}, "/answers/preference/verdict", "unknown_field"),
        (answer(justification="a\0b"), "/answers", "nul"),
        (answer(justification="\ud800"), "/answers", "not_storable"),
    ],
)
def test_wrong_answers_are_pointed_at_and_store_nothing(answers: Any, pointer: str, code: str) -> None:
    assignment = held(queue_of(1), raters(1)[0])
    with pytest.raises(InvalidInput) as caught:
        submit(assignment, answers)
    assert (caught.value.errors[0].pointer, caught.value.errors[0].code) == (pointer, code)
    assert not Judgement.objects.exists()
    submit(assignment)


@pytest.mark.parametrize(
    ("question", "choices"),
    [
        ({"points": 2}, {"left": None, "right": None}),
        ({"points": 3}, {"left": None, "tie": None, "right": None}),
        ({"points": 7, "allow_tie": False}, {"left": 3, "right": 1}),
    ],
)
def test_scales(question: dict[str, Any], choices: dict[str, int | None]) -> None:
    from annotator.selectors.tasks import question_scale
    from annotator.services.answer_checks import form_check, questions_dump

    form = questions_dump(form_check([{"type": "pairwise", **question}]))
    for choice, strength in choices.items():
        assert answers_check(form, answer(choice, strength), a_is_left=True).preference_strength == strength
    if "tie" not in choices:
        with pytest.raises(InvalidInput, match="does not offer tie"):
            answers_check(form, answer("tie", None), a_is_left=True)
    points = question_scale(form[0])
    assert len(points) == {2: 2, 3: 3, 7: 6}[question["points"]]
    assert [p["key"] for p in points] == [str(n + 1) for n in range(len(points))]


def test_required_justification() -> None:
    queue = queue_of(1, form=[{"type": "pairwise", "points": 3, "justification": "required"}])
    assignment = held(queue, raters(1)[0])
    with pytest.raises(InvalidInput, match="why"):
        submit(assignment, answer("left", None, justification="  "))
    judgement = submit(assignment, answer("left", None, justification=" It is right. "))
    assert judgement.answers["preference"]["justification"] == "It is right."


def test_submit_is_idempotent_by_key() -> None:
    queue, (rater,) = queue_of(3), raters(1)
    assignment = held(queue, rater)
    first = submit(assignment, key="k1")
    assert submit(assignment, answer("right"), key="k1").pk == first.pk
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


def test_reopened_answer_gets_a_new_version_and_keeps_the_old_row() -> None:
    queue, (rater,) = queue_of(3), raters(1)
    assignment = held(queue, rater)
    first = submit(assignment, answer("left", 1), now=NOW)
    waiting = held(queue, rater)
    reopened = judgement_reopen(assignment=assignment, now=NOW + timedelta(minutes=1), window=WINDOW)
    assert reopened.draft == answer("left", 1, reasons=[], justification="")
    assert held(queue, rater, now=NOW + timedelta(minutes=2)).pk == assignment.pk
    with pytest.raises(DomainError) as caught:
        assignment_skip(assignment=assignment, reason="unclear", now=NOW)
    assert caught.value.code == "already_answered"
    second = submit(assignment, answer("right", 3), now=NOW + timedelta(minutes=3))
    first.refresh_from_db()
    assert (first.version, first.is_current, second.version, second.is_current) == (1, False, 2, True)
    assert QueueRater.objects.get(rater=rater).n_submitted == 1
    assert held(queue, rater).pk == waiting.pk


def test_a_reopened_answer_left_alone_counts_again_as_it_was() -> None:
    queue, (rater, other) = queue_of(1), raters(2)
    assignment = held(queue, rater)
    first = submit(assignment)
    judgement_reopen(assignment=assignment, now=NOW, window=WINDOW)
    assert leases_expire(now=LATER) == 1
    assignment.refresh_from_db()
    first.refresh_from_db()
    assert (assignment.state, first.is_current) == (Assignment.State.SUBMITTED, True)
    assert claim(queue, other, now=LATER) is None


@pytest.mark.parametrize("does_page_wake", [False, True])
def test_a_correction_outlives_its_lease(does_page_wake: bool) -> None:
    queue, (rater,) = queue_of(1), raters(1)
    assignment = held(queue, rater)
    submit(assignment, answer("left", 1))
    judgement_reopen(assignment=assignment, now=NOW, window=WINDOW)
    draft_save(assignment=assignment, answers=answer("right", 3), now=NOW)
    leases_expire(now=LATER)
    if does_page_wake:
        assert assignment_renew(assignment=assignment, now=LATER) == LATER + timedelta(minutes=10)
    second = submit(assignment, answer("right", 3), now=LATER)
    assert (second.version, second.is_surplus, second.preference_strength) == (2, False, 3)
    assert QueueRater.objects.get(rater=rater).n_submitted == 1
    assert [slot.state for slot in Slot.objects.all()] == [Slot.State.SUBMITTED]
    with pytest.raises(DomainError) as caught:
        submit(assignment, now=LATER)
    assert caught.value.code == "already_submitted"


def test_reopening_again_brings_back_an_unfinished_correction() -> None:
    queue, (rater,) = queue_of(1), raters(1)
    assignment = held(queue, rater)
    submit(assignment, answer("left", 1))
    judgement_reopen(assignment=assignment, now=NOW, window=WINDOW)
    draft_save(assignment=assignment, answers=answer("right", 3), now=NOW)
    leases_expire(now=LATER)
    again = judgement_reopen(assignment=assignment, now=LATER, window=2 * WINDOW)
    assert again.draft == answer("right", 3)


def test_what_cannot_be_reopened() -> None:
    queue, (rater,) = queue_of(3), raters(1)
    first = held(queue, rater)
    submit(first)
    Judgement.objects.update(created_at=NOW)
    with pytest.raises(DomainError) as caught:
        judgement_reopen(assignment=first, now=LATER, window=WINDOW)
    assert caught.value.code == "undo_window_over"
    second = held(queue, rater)
    submit(second, now=NOW + timedelta(seconds=5))
    Judgement.objects.update(created_at=NOW)
    with pytest.raises(DomainError) as caught:
        judgement_reopen(assignment=first, now=NOW, window=WINDOW)
    assert caught.value.code == "not_last"


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


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_active_seconds_are_bounded(seconds: float) -> None:
    assignment = held(queue_of(1), raters(1)[0])
    with pytest.raises(InvalidInput):
        submit(assignment, active_seconds=seconds)
    later = assignment.created_at + timedelta(seconds=30)
    assert submit(assignment, active_seconds=9999, now=later).active_s == pytest.approx(30)


def test_what_a_rater_is_sent_names_no_model_and_no_metadata() -> None:
    queue, (rater,) = queue_of(2), raters(1)
    sent = repr(assignment_task(held(queue, rater)).payload())
    assert not [name for name in (*MODELS, "hidden-category", "category", queue.dataset.name, "source") if name in sent]


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
