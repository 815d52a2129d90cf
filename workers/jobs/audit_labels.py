"""Find the labels that are probably wrong."""

from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from workers.context import JobContext
from workers.errors import FieldProblem, SpecError
from workers.families import FAMILIES
from workers.jobs import JOBS
from workers.jobs.base import Source
from workers.specs import SpecModel

MIN_MEMBERS = 3
MIN_PAIRS = 20
"""Pairs with a preferred response; fewer tell nothing."""
MAX_EPOCHS = 3


@JOBS.add("audit_labels")
class AuditLabels:
    """Train several small heads apart on frozen features and let them vote on every label of a source.

    The mean margin of a pair is its strength: clearly negative where the label is probably wrong, near zero where it is
    open. No label is changed; edits are made from the result, and can be taken back.
    """

    title: ClassVar[str] = "Audit labels"
    queue: ClassVar[Literal["default", "gpu"]] = "gpu"
    least_decided: ClassVar[int] = MIN_PAIRS

    class Spec(SpecModel):
        """What to audit, and how."""

        source: Source = Field(description="Where the pairs come from.")
        reward_model: str | None = Field(
            default=None,
            description="uid of a reward model whose backbone and kind of head are used; empty: the built-in MiniLM.",
        )
        members: int = Field(
            default=10,
            ge=MIN_MEMBERS,
            le=100,
            description="Heads that vote, each with first weights and order of its own.",
        )
        seeds: list[int] = Field(
            default=[],
            max_length=100,
            description="Seeds of the members, all different; empty: seed, seed + 1 and so on, for so many members.",
        )
        seed: int = Field(default=0, ge=0, lt=2**31, description="Of the first member.")
        epochs: int = Field(
            default=MAX_EPOCHS,
            ge=1,
            le=MAX_EPOCHS,
            description="After more epochs on the same pairs heads memorise what is wrong.",
        )
        folds: int = Field(
            default=1,
            ge=1,
            le=20,
            description="From 2 on: each member is a head a fold, and votes on pairs that it has not learnt from.",
        )
        head_depth: int | None = Field(
            default=None, ge=1, le=5, description="Linear layers of each head; empty: as the reward model, else 2."
        )
        learning_rate: float = Field(default=1e-3, gt=0, le=1, description="Of the heads, constant.")
        batch_pairs: int = Field(default=32, ge=1, le=4096, description="Pairs in a batch.")
        weight_decay: float = Field(default=0.01, ge=0, le=1, description="AdamW.")
        standardise: bool = Field(
            default=False, description="Divide each member's margins by their standard deviation before averaging."
        )
        wrong_share: float = Field(default=0.2, ge=0, le=0.5, description="Lowest share by strength, called wrong.")
        ambiguous_share: float = Field(default=0.2, ge=0, le=0.5, description="Next share by strength.")
        suspect_share: float = Field(default=0.1, gt=0, le=0.5, description="Lowest share that is listed as suspects.")
        noise_rate: float | None = Field(
            default=None, ge=0, lt=0.5, description="Share of wrong labels where it is known already."
        )
        reannotated: Source | None = Field(
            default=None, description="The same pairs judged once more, a random sample of them: gives the noise rate."
        )
        token_budget: int = Field(default=2048, ge=16, description="Tokens computed at once.")

        @field_validator("seeds")
        @classmethod
        def _seeds_differ(cls, value: list[int]) -> list[int]:
            if value and (len(set(value)) < len(value) or len(value) < MIN_MEMBERS):
                raise ValueError(
                    f"Give at least {MIN_MEMBERS} different seeds, or none: heads of one seed are one head, and their "
                    "spread says nothing."
                )
            if any(not 0 <= seed < 2**31 for seed in value):
                raise ValueError("A seed is a whole number from 0 to below 2^31.")
            return value

        def all_seeds(self) -> list[int]:
            return self.seeds or [self.seed + number for number in range(self.members)]

    @staticmethod
    def check(_: Any, family: str, *_more: Any) -> None:
        """SpecError where the family has no head that can be trained on stored features."""
        entry: Any = FAMILIES.get(family)
        if not {"features", "tokens"} <= entry.capabilities:
            detail = f"A label audit trains heads on the features of a backbone, and the family {family} has none."
            raise SpecError([FieldProblem(pointer="/reward_model", code="does_not_fit", detail=detail)])

    def run(self, ctx: JobContext, spec: Spec) -> dict[str, Any]:
        from workers.nn.audit_job import audit

        return audit(ctx, spec)
