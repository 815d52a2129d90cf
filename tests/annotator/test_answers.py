"""Answers: sides and verdicts, what a form asks for, and what a rater is shown."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotator.errors import InvalidInput
from annotator.models import Assignment, Judgement
from annotator.selectors.tasks import assignment_task
from annotator.services.answer_checks import answers_check, answers_on_screen
from tests.annotator.queue_helpers import FORM, MODELS, answer, held, queue_of, raters, submit

pytestmark = pytest.mark.django_db


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
