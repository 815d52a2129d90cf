"""Bradley-Terry with soft labels and margins from a table of strengths: what an audit of the labels has measured."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from workers.data.schema import PreferencePair
from workers.errors import JobError
from workers.objectives import OBJECTIVES
from workers.objectives.base import PairTargets, PairwiseObjective, Rows, pair_targets
from workers.specs import SpecModel

if TYPE_CHECKING:
    from torch import Tensor

    from workers.nn.net import Net
    from workers.nn.units import UnitData

STRENGTH = "audit_margin"
"""Metadata key under which the strengths of an audit come."""
WARN_FROM = 0.15
EASY_SHARE = 0.1


@dataclass(frozen=True)
class StrengthTargets(PairTargets):
    """strength: mean margin of several reward models towards the preferred response, nan where it is not known."""

    strength: NDArray[np.float64]


@OBJECTIVES.add("soft_margin_bt")
class SoftMarginBradleyTerry(PairwiseObjective):
    """Soft label for pairs that several reward models doubt, and a margin of the size that they measured.

    -[(1 - a) log p + a log(1 - p)] with p = sigmoid(margin - mu): a for pairs of negative (or of the largest) strength
    mu, 0 for the others. Pairs whose label is to be turned are edits of the data, not part of the loss.
    """

    title: ClassVar[str] = "Bradley-Terry with soft labels and measured margins"
    is_one_pass: ClassVar[bool] = True

    class Config(SpecModel):
        """Settings of soft labels and margins."""

        strength_key: str = Field(
            default=STRENGTH, min_length=1, max_length=200, description="Metadata key of a pair's strength mu."
        )
        soften: Literal["none", "negative", "strongest"] = Field(
            default="negative", description="Pairs with a soft label: of negative strength, or the strongest tenth."
        )
        soft_label: float = Field(
            default=0.1, ge=0, lt=0.5, description="a: how probable it is that such a label is the wrong way round."
        )
        margin_scale: float = Field(
            default=1.0, ge=0, le=100, description="Margin asked for, times the strength; 0: no margin."
        )
        unknown_strength: Literal["drop", "zero"] = Field(
            default="drop", description="Pairs without a strength: leave them out, or take them as 0 (said in the log)."
        )

    def __init__(self, config: Config) -> None:
        self.config = config
        self.warnings: list[str] = []
        self._told: dict[str, Any] = {}

    def targets(self, pairs: Sequence[PreferencePair]) -> StrengthTargets:
        found = pair_targets(pairs)
        strength = np.array([strength_of(pair, self.config.strength_key) for pair in pairs], dtype=np.float64)
        if self.config.unknown_strength == "drop":
            found = replace(found, is_used=found.is_used & np.isfinite(strength))
        return StrengthTargets(**{**found.__dict__, "strength": strength})

    def refusal(self, row: PreferencePair) -> str:
        is_decided = row.verdict in ("a", "b") and row.weight > 0
        return "no strength measured" if is_decided else super().refusal(row)

    def choose(self, data: "UnitData") -> "UnitData":
        """Targets and offsets of all pairs, now that all strengths are known."""
        targets = data.targets
        if not isinstance(targets, StrengthTargets):
            raise TypeError("soft margins need strengths")
        self._judge(targets.strength)
        mu = np.nan_to_num(targets.strength, nan=0.0)
        side = np.sign(targets.target - 0.5)
        doubt = np.where(self._is_soft(mu), self.config.soft_label, 0.0)
        aim = targets.target * (1 - doubt) + (1 - targets.target) * doubt
        changed = replace(targets, target=aim, offset=side * self.config.margin_scale * mu)
        return replace(data, targets=changed)

    def _is_soft(self, mu: NDArray[np.float64]) -> NDArray[np.bool_]:
        if self.config.soften == "negative":
            return mu < 0
        if self.config.soften == "strongest":
            return mu >= np.quantile(mu, 1 - EASY_SHARE)
        return np.zeros(len(mu), dtype=np.bool_)

    def _judge(self, strength: NDArray[np.float64]) -> None:
        known = strength[np.isfinite(strength)]
        if not len(known):
            raise JobError(
                f"No pair has a strength under the metadata key {self.config.strength_key!r}.",
                "Audit the labels first and name that run as source.strengths, or import strengths as metadata.",
            )
        n_unknown, share = len(strength) - len(known), float((known < 0).mean())
        self._told = {"n_without_strength": n_unknown, "negative_strength_share": share}
        self.warnings = []
        if n_unknown:
            self.warnings.append(f"{n_unknown} pairs without a strength were taken to have strength 0")
        if share > WARN_FROM and self.config.margin_scale and self.config.soften != "negative":
            self.warnings.append(
                f"{share:.0%} of the pairs have a negative strength: as margins of hard labels they teach the model to "
                "accept that the preferred response is the worse one. Soften or flip these pairs"
            )

    def loss(self, rewards_a: "Tensor", rewards_b: "Tensor", targets: PairTargets) -> "Tensor":
        from workers.nn.losses import pairwise_loss

        return pairwise_loss(rewards_a - rewards_b, target=targets.target, weight=targets.weight, offset=targets.offset)

    def finish(self, net: "Net", data: "UnitData", rows: Rows, *, budget: int) -> dict[str, Any]:
        return {**self._told, "warnings": self.warnings}


def strength_of(pair: PreferencePair, key: str) -> float:
    """The strength that a pair carries, towards its preferred response; nan where there is none."""
    found = pair.meta.get(key)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return float("nan")
    try:
        value = float(found)
    except OverflowError:  # JSON has whole numbers of any size
        return float("nan")
    return value if np.isfinite(value) else float("nan")
