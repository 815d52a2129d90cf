"""Taking the last answer back, correcting it, and leaving it alone."""

from datetime import timedelta

import pytest

from annotator.errors import DomainError
from annotator.models import Assignment, Judgement, QueueRater, Slot
from annotator.services.assignments import assignment_renew, assignment_skip, draft_save
from annotator.services.judgements import judgement_reopen
from annotator.services.sweep import leases_expire
from tests.annotator.queue_helpers import NOW, answer, claim, held, queue_of, raters, submit

pytestmark = pytest.mark.django_db
LATER = NOW + timedelta(minutes=11)
WINDOW = timedelta(minutes=10)


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
