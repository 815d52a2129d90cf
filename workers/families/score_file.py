"""Rewards that were computed elsewhere and come as a file."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from workers.errors import JobError
from workers.families import FAMILIES
from workers.families.base import Scorer
from workers.specs import SpecModel

IMPORT_HINT = "Import them: POST /api/v1/checkpoints/<uid>/scores/ or manage.py scores_import."


@FAMILIES.add("score_file")
class ScoreFile:
    """The rewards of a model that cannot run here, imported from a file into its one checkpoint.

    Nothing is ever computed: what the file has no score for stays unscored, and evaluations say how much that is.
    """

    title: ClassVar[str] = "Scores from a file"
    capabilities: ClassVar[frozenset[str]] = frozenset({"pointwise", "imported"})
    trainable: ClassVar[bool] = False

    class Config(SpecModel):
        """Where the scores come from, in words."""

        origin: str = Field(
            default="", max_length=2000, description="Which model gave the scores, and how: kept with them."
        )

    @classmethod
    def open(cls, config: Config, path: Path | None, *, threads: int | None = None) -> Scorer:
        raise JobError("The scores of this reward model come from a file; none are computed.", IMPORT_HINT)
