"""What every kind of question provides."""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict, Field


class Question(BaseModel):
    """One question of a form, as the lead wrote it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: str
    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,39}$", description="Key of the answer; never changes.")
    title: str = Field(default="", max_length=300, description="The question as raters read it.")


@dataclass(frozen=True, slots=True)
class CheckedAnswer:
    """An answer that fits its question, in canonical terms: sides are responses A and B, not left and right."""

    answer: dict[str, Any]
    verdict: str | None = None
    preference_strength: int | None = None


@dataclass(frozen=True, slots=True)
class CheckedAnswers:
    """Answers to a whole form; the verdict is that of its first pairwise question."""

    answers: dict[str, dict[str, Any]]
    verdict: str | None
    preference_strength: int | None


class TaskType(Protocol):
    """A kind of question: its schema, and what turns a rater's answer into a canonical one."""

    name: ClassVar[str]
    schema: ClassVar[type[Question]]

    @staticmethod
    def check(question: Any, answer: object, *, a_is_left: bool, pointer: str) -> CheckedAnswer:
        """The canonical answer. Raises InvalidInput, with pointers below `pointer`, when it does not fit."""

    @staticmethod
    def screen_answer(question: Any, stored: dict[str, Any]) -> dict[str, Any]:
        """The answer as the rater gave it, from the stored one: what a reopened item shows again."""
