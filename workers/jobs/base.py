"""The interface of a job."""

from typing import Any, ClassVar, Literal, Protocol, Self

from pydantic import Field, model_validator

from workers.context import JobContext
from workers.specs import SpecModel


class Source(SpecModel):
    """Where pairs come from: a dataset with known preferences, or a frozen snapshot of judgements. Exactly one."""

    dataset: str | None = Field(default=None, description="uid of a dataset.")
    snapshot: str | None = Field(default=None, description="uid of a snapshot.")

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if bool(self.dataset) == bool(self.snapshot):
            raise ValueError("Name a dataset or a snapshot, one of the two.")
        return self

    def query(self) -> dict[str, Any]:
        """The one key that is set, as `ctx.open_input` takes it."""
        return {"dataset": self.dataset} if self.dataset else {"snapshot": self.snapshot or ""}


class TrainingSource(Source):
    """Pairs to learn from: as they are stored, or with what an audit of their labels has led to."""

    edits: bool = Field(
        default=False, description="Apply the edits of labels that stand: turned, softened, dropped, weighted."
    )
    strengths: str | None = Field(
        default=None, description="uid of a label audit of this source, whose strengths come with the pairs."
    )

    def query(self) -> dict[str, Any]:
        """As of a source, with the options that are set."""
        told = super().query()
        if self.edits:
            told["edits"] = True
        if self.strengths:
            told["strengths"] = self.strengths
        return told


class Job(Protocol):
    """A class with a docstring, registered in JOBS. `queue` names the Celery queue it runs on by default."""

    name: ClassVar[str]
    title: ClassVar[str]
    queue: ClassVar[Literal["default", "gpu"]]
    Spec: ClassVar[type[SpecModel]]

    def run(self, ctx: JobContext, spec: Any) -> dict[str, Any]:
        """Do the work and return a JSON-able result. Raises JobError, JobCancelled or TransientError."""
