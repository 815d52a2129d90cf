"""Forms and answers against their task types."""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from annotator.errors import FieldError, InvalidInput
from annotator.task_types import TASK_TYPES, CheckedAnswer, CheckedAnswers, Question
from annotator.validation import escape, invalid, pydantic_errors, require_storable


def form_check(questions: object, *, pointer: str = "/form") -> list[Question]:
    """The questions of a form, parsed. Raises InvalidInput that points at every wrong field."""
    if not isinstance(questions, list) or not questions:
        raise invalid(pointer, "required", "A form is a list of at least one question.")
    if len(questions) > 1:
        raise invalid(f"{pointer}/1", "too_many_questions", "A form holds one question.")
    require_storable(questions, pointer)
    return [question_parse(question, f"{pointer}/{number}") for number, question in enumerate(questions)]


def question_parse(question: object, pointer: str) -> Question:
    if not isinstance(question, dict):
        raise invalid(pointer, "type", "A question is an object with a type.")
    kind = question.get("type", "pairwise")
    if not isinstance(kind, str) or kind not in TASK_TYPES:
        raise invalid(f"{pointer}/type", "unknown_type", f"Known types of question: {', '.join(TASK_TYPES.names())}.")
    try:
        return TASK_TYPES.get(kind).schema.model_validate(question)
    except ValidationError as error:
        errors = pydantic_errors(error, pointer)
        raise InvalidInput("; ".join(f"{e.pointer}: {e.detail}" for e in errors), errors=errors) from error


def questions_dump(questions: Sequence[Question]) -> list[dict[str, Any]]:
    """As stored: every default written out, so that a later change of defaults changes no form."""
    return [question.model_dump(mode="json") for question in questions]


def answers_check(questions: list[dict[str, Any]], answers: object, *, a_is_left: bool) -> CheckedAnswers:
    """Answers in canonical terms. Raises InvalidInput when one is missing, unknown or does not fit."""
    if not isinstance(answers, dict):
        raise invalid("/answers", "type", "Answers are an object: question name to answer.")
    require_storable(answers, "/answers")
    parsed = [question_parse(question, "/form") for question in questions]
    names = [question.name for question in parsed]
    unknown = [
        FieldError(f"/answers/{escape(n)}", "unknown_field", "No such question.") for n in set(answers) - set(names)
    ]
    missing = [
        FieldError(f"/answers/{n}", "required", "This question is not answered.") for n in names if n not in answers
    ]
    if unknown or missing:
        problems = [*missing, *unknown]
        raise InvalidInput(" ".join(f"{p.pointer}: {p.detail}" for p in problems), errors=problems)
    checked = [answer_check(question, answers[question.name], a_is_left) for question in parsed]
    return CheckedAnswers(
        answers={question.name: found.answer for question, found in zip(parsed, checked, strict=True)},
        verdict=checked[0].verdict,
        preference_strength=checked[0].preference_strength,
    )


def answer_check(question: Question, answer: object, a_is_left: bool) -> CheckedAnswer:
    task_type = TASK_TYPES.get(question.type)
    return task_type.check(question, answer, a_is_left=a_is_left, pointer=f"/answers/{question.name}")


def answers_on_screen(questions: list[dict[str, Any]], answers: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Stored answers as the rater gave them."""
    parsed = [question_parse(question, "/form") for question in questions]
    return {q.name: TASK_TYPES.get(q.type).screen_answer(q, answers[q.name]) for q in parsed if q.name in answers}
