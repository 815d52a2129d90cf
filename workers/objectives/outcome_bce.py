"""Cross-entropy of right and wrong responses on one logit: how outcome reward models are trained."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from workers.data.schema import LabelledResponse
from workers.errors import JobError
from workers.objectives import OBJECTIVES
from workers.objectives.base import LabelledObjective, LabelTargets, Rows
from workers.specs import SpecModel

if TYPE_CHECKING:
    from torch import Tensor

    from workers.nn.net import Net
    from workers.nn.units import UnitData
    from workers.nn.validation import ValidationResult
    from workers.nn.view import BatchView

USUAL_ATTRIBUTES = ("correct", "label")


class OutcomeConfig(SpecModel):
    """Where the label of a response stands."""

    attribute: str = Field(
        default="",
        max_length=200,
        description="Rating that says whether a response is right; empty: correct, or else label.",
    )
    threshold: float | None = Field(
        default=None,
        description="A rating of this or more is right, a lower one wrong; empty: the rating itself is 1 or 0.",
    )


@OBJECTIVES.add("outcome_bce")
class OutcomeCrossEntropy(LabelledObjective):
    """-log sigmoid(r) of a right response, -log sigmoid(-r) of a wrong one: the reward is a logit.

    Learned from single responses with a label 0 or 1, without any reference answer.
    """

    title: ClassVar[str] = "Outcome cross-entropy"
    needs: ClassVar[frozenset[str]] = frozenset({"scalar"})
    is_one_pass: ClassVar[bool] = True
    Config: ClassVar[type[SpecModel]] = OutcomeConfig

    def __init__(self, config: OutcomeConfig) -> None:
        self.config = config

    def targets(self, rows: Sequence[LabelledResponse]) -> LabelTargets:
        values = np.array([self._label(row.ratings) for row in rows], dtype=np.float64)
        weight = np.array([row.weight for row in rows], dtype=np.float64)
        return LabelTargets(is_used=np.isin(values, (0.0, 1.0)) & (weight > 0), values=values[:, None], weight=weight)

    def _label(self, ratings: Mapping[str, float]) -> float:
        names = (self.config.attribute,) if self.config.attribute else USUAL_ATTRIBUTES
        found = next((ratings[name] for name in names if name in ratings), float("nan"))
        if self.config.threshold is None or math.isnan(found):
            return found
        return float(found >= self.config.threshold)

    def refusal(self, row: LabelledResponse) -> str:
        label = self._label(row.ratings)
        if math.isnan(label):
            return f"no {self.config.attribute or ' or '.join(USUAL_ATTRIBUTES)}"
        return "label neither 0 nor 1" if label not in (0.0, 1.0) else "no weight"

    def begin(self, net: "Net", data: "UnitData", rows: Rows, *, budget: int) -> None:
        labels: Any = data.targets
        known = labels.values[rows, 0]
        if len(known) and (known == known[0]).all():
            raise JobError(
                f"All {len(known)} responses to train on have the label {known[0]:g}.",
                "Choose a source with right responses (1) and wrong ones (0).",
            )

    def loss(self, outputs: "Tensor", targets: LabelTargets) -> "Tensor":
        from workers.nn.outcomes import outcome_loss

        return outcome_loss(outputs, targets)

    def batch_loss(self, view: "BatchView") -> "Tensor":
        return self.loss(view.rewards[0], view.targets)  # type: ignore[arg-type]

    def validation(self, net: "Net", data: "UnitData", rows: Rows, *, budget: int) -> "ValidationResult":
        from workers.nn.outcomes import validate_outcomes

        return validate_outcomes(net, data, rows, budget=budget)
