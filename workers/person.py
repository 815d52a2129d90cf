"""Whose reward: a person is known from pairs that this person has labelled."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from workers.context import JobContext
from workers.data.schema import Message, prompt_key
from workers.errors import FieldProblem, JobError, SpecError
from workers.families import FAMILIES
from workers.specs import SpecModel

TAKES_PAIRS = "person_pairs"
"""The capability of families that know a person by pairs: an item brings them as its context."""
LEAST_PAIRS, USUAL_PAIRS, MOST_PAIRS = 2, 16, 64


class Turn(SpecModel):
    """One message."""

    role: Literal["system", "user", "assistant", "tool"] = Field(description="Who speaks.")
    content: str = Field(max_length=100_000, description="What is said.")


def said_by(role: str) -> BeforeValidator:
    """A text by itself is one message of that role."""
    return BeforeValidator(lambda value: [{"role": role, "content": value}] if isinstance(value, str) else value)


Asked = Annotated[list[Turn], said_by("user"), Field(min_length=1, max_length=200)]
Answered = Annotated[list[Turn], said_by("assistant"), Field(min_length=1, max_length=100)]


class OwnPair(SpecModel):
    """A choice of this person."""

    prompt: Asked = Field(description="The conversation before the response: messages, or a text.")
    chosen: Answered = Field(description="The response that this person likes better: messages, or a text.")
    rejected: Answered = Field(description="The other response, likewise.")

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if self.chosen == self.rejected:
            raise ValueError("The two responses are the same, which says nothing of anybody.")
        return self


class RaterSource(SpecModel):
    """Where a rater has judged: a dataset, a snapshot or a queue. Exactly one."""

    dataset: str | None = Field(default=None, description="uid of a dataset whose examples name their rater.")
    snapshot: str | None = Field(default=None, description="uid of a snapshot.")
    queue: str | None = Field(default=None, description="uid of a queue: its judgements as they are now.")

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if sum(bool(uid) for uid in (self.dataset, self.snapshot, self.queue)) != 1:
            raise ValueError("Name a dataset, a snapshot or a queue, one of the three.")
        return self

    def query(self) -> dict[str, str]:
        return {name: str(uid) for name, uid in self.model_dump().items() if uid}


class Person(SpecModel):
    """Whose reward is asked for: pairs as they are given, or a rater whose labelled pairs are taken."""

    pairs: list[OwnPair] = Field(default=[], max_length=MOST_PAIRS, description="Choices of this person.")
    source: RaterSource | None = Field(default=None, description="Where the rater has judged.")
    rater: str = Field(default="", max_length=300, description="The rater as snapshots name it (r-...), or as data do.")
    rater_key: str | None = Field(
        default=None, min_length=1, max_length=100, description="For a dataset: the metadata key that names the rater."
    )
    n_pairs: int = Field(
        default=USUAL_PAIRS,
        ge=LEAST_PAIRS,
        le=MOST_PAIRS,
        description="At most so many pairs of the rater, spread evenly over all.",
    )

    @model_validator(mode="after")
    def _is_one_way(self) -> Self:
        if bool(self.pairs) == bool(self.source or self.rater):
            raise ValueError("Give pairs, or a rater with the source where that rater judged: one of the two.")
        if len(self.pairs) == 1:
            raise ValueError(f"One pair says hardly anything of a person: give {LEAST_PAIRS} or more.")
        if not self.pairs and not (self.source and self.rater):
            raise ValueError("A rater is found by name and source: give both.")
        if self.source and bool(self.source.dataset) != bool(self.rater_key):
            raise ValueError(
                "A dataset names its raters under a key of the metadata: give rater_key."
                if self.source.dataset
                else "rater_key is for datasets alone: snapshots and queues know their raters."
            )
        return self


@dataclass(frozen=True)
class PersonContext:
    """Pairs of one person as items bring them. prompts: of each pair of a rater, so that no item is told its own."""

    pairs: list[dict[str, Any]]
    prompts: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        """What scores of this person are stored under; not that of anybody else, nor of other pairs."""
        told = json.dumps(self.pairs, ensure_ascii=False, sort_keys=True).encode("utf-8", "surrogatepass")
        return f"person:{hashlib.sha256(told).hexdigest()[:32]}"

    def of(self, prompt: Sequence[Message]) -> list[dict[str, Any]]:
        """The context of an item: a pair of the same prompt would hold the answer, so it is left out."""
        own = prompt_key(prompt) if self.prompts else ""
        if own not in self.prompts:
            return self.pairs
        return [pair for pair, key in zip(self.pairs, self.prompts, strict=True) if key != own]


def takes_pairs(family: str) -> bool:
    return TAKES_PAIRS in FAMILIES.get(family).capabilities


def no_context(family: str) -> str:
    return f"A reward model of the family {family} takes no pairs of a person: its reward is the same for everybody."


def check_takes_pairs(family: str, *, at: str = "/person") -> None:
    """SpecError for a family whose reward does not depend on who asks."""
    if not takes_pairs(family):
        raise SpecError([FieldProblem(pointer=at, code="takes_no_context", detail=no_context(family))])


def read_person(ctx: JobContext, person: Person) -> PersonContext:
    """The context that a spec asks for. JobError where the rater has too few pairs."""
    if person.pairs:
        return PersonContext([pair.model_dump() for pair in person.pairs])
    query = {"rater": person.rater, "rater_key": person.rater_key, "most": person.n_pairs}
    found = list(ctx.open_input("person", source=person.source.query() if person.source else {}, **query))
    if len(found) < LEAST_PAIRS:
        raise JobError(
            f"The rater {person.rater} has {len(found)} pairs with a chosen response there; {LEAST_PAIRS} are needed.",
            "Check the name, choose another source, or give the pairs themselves.",
        )
    pairs = [{"prompt": list(p.prompt), "chosen": list(p.chosen), "rejected": list(p.rejected)} for p in found]
    return PersonContext(pairs, [prompt_key(pair.prompt) for pair in found])
