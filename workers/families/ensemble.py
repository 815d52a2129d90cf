"""Several trained reward models as one."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from workers.errors import JobError
from workers.families import FAMILIES
from workers.families.base import Scorer
from workers.specs import SpecModel

if TYPE_CHECKING:
    from workers.context import JobContext


@FAMILIES.add("ensemble")
class EnsembleFamily:
    """Existing checkpoints of any families, combined: standardised mean, plain mean, or votes.

    Its training run trains nothing: it scores the responses of the source with every member, keeps what puts them on
    one scale, and copies the members' files, so that the checkpoint stands on its own.
    """

    title: ClassVar[str] = "Ensemble of checkpoints"
    capabilities: ClassVar[frozenset[str]] = frozenset({"pointwise", "trainable", "tokens"})
    trainable: ClassVar[bool] = True
    frozen: ClassVar[bool] = False
    default_objective: ClassVar[str] = "bradley_terry"
    """What the form of a training names; nothing of it is used."""

    class Config(SpecModel):
        """Which checkpoints, and how they become one reward."""

        members: list[str] = Field(
            min_length=2, max_length=16, description="uids of the checkpoints, two or more of this project."
        )
        combine: Literal["standardised_mean", "mean", "vote"] = Field(
            default="standardised_mean",
            description="Mean of standardised rewards, mean of rewards as they are, or the share of votes that a"
            " response gets against the training responses.",
        )

        @field_validator("members")
        @classmethod
        def _each_once(cls, value: list[str]) -> list[str]:
            if len(set(value)) != len(value):
                raise ValueError("A checkpoint is named twice.")
            return value

    @classmethod
    def assemble(cls, ctx: "JobContext", spec: Any, config: Any) -> dict[str, Any]:
        """What train_rm does for this family: measure the members and store them as one checkpoint."""
        from workers.nn.ensemble import assemble

        return assemble(ctx, spec, config)

    @classmethod
    def open(cls, config: Any, path: Path | None, *, threads: int | None = None) -> Scorer:
        """A scorer of the members in `path`."""
        if path is None:
            raise JobError("This ensemble has not been measured yet.", "Train it once, then score with its checkpoint.")
        from workers.nn.ensemble import open_ensemble

        return open_ensemble(path, threads=threads)
