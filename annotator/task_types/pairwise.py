"""Which of two responses is better, on two, three or seven points; tie, both bad and cannot judge kept apart."""

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from annotator.errors import FieldError, InvalidInput
from annotator.task_types import TASK_TYPES
from annotator.task_types.base import CheckedAnswer, Question
from annotator.validation import pydantic_errors

SIDES = ("left", "right")
MAX_REASON = 60
STRENGTHS = ((3, "much better"), (2, "clearly better"), (1, "slightly better"))


class PairwiseQuestion(Question):
    """Settings of a pairwise question."""

    type: Literal["pairwise"] = "pairwise"
    name: str = Field(
        default="preference", pattern=r"^[a-z][a-z0-9_]{0,39}$", description="Key of the answer; never changes."
    )
    title: str = Field(default="Which response is better?", max_length=300, description="The question raters read.")
    points: Literal[2, 3, 7] = Field(
        default=7, description="2: left or right. 3: with a tie between. 7: slightly, clearly or much better."
    )
    allow_tie: bool = Field(default=True, description="Offer a tie; 7 points without it are 6.")
    allow_both_bad: bool = Field(default=False, description="Offer 'both bad', kept apart from a tie.")
    allow_cannot_judge: bool = Field(default=True, description="Offer 'cannot judge', which gives no verdict.")
    justification: Literal["off", "optional", "required"] = Field(
        default="optional", description="Whether raters write why."
    )
    reasons: list[str] = Field(default_factory=list, max_length=20, description="Reason chips to pick from.")
    reason_first: bool = Field(default=False, description="The justification is written before the choice opens.")

    @model_validator(mode="before")
    @classmethod
    def two_points_have_no_tie(cls, values: Any) -> Any:
        """Two points mean left or right; whoever wants a tie beside them says so."""
        if isinstance(values, dict) and values.get("points") == 2:
            return {"allow_tie": False, **values}
        return values

    @field_validator("reasons")
    @classmethod
    def reasons_differ(cls, reasons: list[str]) -> list[str]:
        clean = [reason.strip() for reason in reasons]
        if "" in clean:
            raise ValueError("a reason is empty")
        if too_long := [reason for reason in clean if len(reason) > MAX_REASON]:
            raise ValueError(f"a reason is at most {MAX_REASON} characters; shorten “{too_long[0][:MAX_REASON]}…”")
        if twice := [reason for reason in clean if clean.count(reason) > 1]:
            raise ValueError(f"two reasons are the same: “{twice[0]}”")
        return clean

    @model_validator(mode="after")
    def reason_first_needs_justification(self) -> "PairwiseQuestion":
        if self.reason_first and self.justification == "off":
            raise ValueError("a reason written first (reason_first) needs a justification that is optional or required")
        return self

    @property
    def has_strength(self) -> bool:
        return self.points == 7

    @property
    def scale(self) -> list[dict[str, Any]]:
        """The buttons from left to right: choice, strength and their words."""
        strengths: tuple[tuple[int | None, str], ...] = STRENGTHS if self.has_strength else ((None, "better"),)
        left = [{"choice": "left", "strength": s, "label": f"Left is {words}"} for s, words in strengths]
        right = [{"choice": "right", "strength": s, "label": f"Right is {words}"} for s, words in reversed(strengths)]
        tie: list[dict[str, Any]] = (
            [{"choice": "tie", "strength": None, "label": "Equally good"}] if self.allow_tie else []
        )
        points: list[dict[str, Any]] = [*left, *tie, *right]
        return [{**point, "key": str(number)} for number, point in enumerate(points, start=1)]


class PairwiseAnswer(BaseModel):
    """What a rater sends: screen terms, because raters never learn which response is A."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    choice: Literal["left", "right", "tie", "both_bad", "cannot_judge"]
    strength: int | None = Field(default=None, ge=1, le=3)
    reasons: list[str] = Field(default_factory=list, max_length=20)
    justification: str = Field(default="", max_length=20_000)


@TASK_TYPES.add("pairwise")
class Pairwise:
    """A comparison of two responses to one prompt."""

    name: ClassVar[str]
    schema: ClassVar[type[Question]] = PairwiseQuestion

    @staticmethod
    def check(question: PairwiseQuestion, answer: object, *, a_is_left: bool, pointer: str) -> CheckedAnswer:
        given = parse_answer(answer, pointer)
        problems = list(answer_problems(question, given, pointer))
        if problems:
            raise InvalidInput(problems[0].detail, errors=problems)
        verdict = canonical_verdict(given.choice, a_is_left=a_is_left)
        return CheckedAnswer(
            answer={
                "verdict": verdict,
                "preference_strength": given.strength,
                "pressed": given.choice,
                "reasons": given.reasons,
                "justification": given.justification.strip(),
            },
            verdict=verdict,
            preference_strength=given.strength,
        )

    @staticmethod
    def screen_answer(question: PairwiseQuestion, stored: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG004
        return {
            "choice": stored["pressed"],
            "strength": stored["preference_strength"],
            "reasons": stored["reasons"],
            "justification": stored["justification"],
        }


def parse_answer(answer: object, pointer: str) -> PairwiseAnswer:
    if isinstance(answer, dict) and "verdict" in answer:
        raise InvalidInput(
            "Say what was chosen on screen: choice left, right, tie, both_bad or cannot_judge. "
            "Which response is A or B is not for raters to know.",
            errors=[FieldError(f"{pointer}/verdict", "unknown_field", "Send choice instead of verdict.")],
        )
    try:
        return PairwiseAnswer.model_validate(answer)
    except ValidationError as error:
        errors = pydantic_errors(error, pointer)
        raise InvalidInput("; ".join(e.detail for e in errors), errors=errors) from error


def canonical_verdict(choice: str, *, a_is_left: bool) -> str | None:
    """The verdict in stored order. Swapping the sides of the screen swaps `left` and `right` and nothing else."""
    if choice in SIDES:
        return "a" if (choice == "left") == a_is_left else "b"
    return None if choice == "cannot_judge" else choice


def answer_problems(question: PairwiseQuestion, given: PairwiseAnswer, pointer: str) -> list[FieldError]:
    """Everything about an answer that its question does not allow."""
    offered = {
        "left": True,
        "right": True,
        "tie": question.allow_tie,
        "both_bad": question.allow_both_bad,
        "cannot_judge": question.allow_cannot_judge,
    }
    problems = []
    if not offered[given.choice]:
        problems.append(FieldError(f"{pointer}/choice", "not_offered", f"This form does not offer {given.choice}."))
    wants_strength = question.has_strength and given.choice in SIDES
    if wants_strength and given.strength is None:
        problems.append(FieldError(f"{pointer}/strength", "required", "Say how much better: 1, 2 or 3."))
    if not wants_strength and given.strength is not None:
        problems.append(FieldError(f"{pointer}/strength", "not_offered", "This answer takes no strength."))
    unknown = sorted(set(given.reasons) - set(question.reasons))
    if unknown:
        problems.append(FieldError(f"{pointer}/reasons", "not_offered", f"Not a reason of this form: {unknown[0]}"))
    if question.justification == "required" and not given.justification.strip():
        problems.append(FieldError(f"{pointer}/justification", "required", "Write why in a sentence or two."))
    if question.justification == "off" and given.choice != "cannot_judge" and given.justification.strip():
        problems.append(FieldError(f"{pointer}/justification", "not_offered", "This form asks for no justification."))
    return problems
