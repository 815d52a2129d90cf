"""Regression on ratings: squared error over the attributes that were rated."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from workers.data.schema import LabelledResponse
from workers.errors import JobError
from workers.objectives import OBJECTIVES
from workers.objectives.base import LabelledObjective, LabelTargets, Rows
from workers.specs import SpecModel
from workers.stats.association import pearson, r_squared

if TYPE_CHECKING:
    from torch import Tensor

    from workers.nn.net import Net
    from workers.nn.units import UnitData


@OBJECTIVES.add("attribute_regression")
class AttributeRegression(LabelledObjective):
    """Mean squared error between predicted and given ratings; an attribute that was not rated asks for nothing."""

    title: ClassVar[str] = "Regression on attributes"
    needs: ClassVar[frozenset[str]] = frozenset({"attributes"})
    is_one_pass: ClassVar[bool] = True

    class Config(SpecModel):
        """Settings of the regression."""

        standardise: bool = Field(
            default=False,
            description="Measure each attribute's error in its own standard deviations, so that ratings on a wide scale"
            " do not rule. Needed where scales differ.",
        )
        missing: float | None = Field(
            default=-100.0, description="A rating of this value counts as none, as HelpSteer2's files have it."
        )

    def __init__(self, config: Config) -> None:
        self.config = config
        self.names: list[str] = []

    def meet(self, config: Any) -> None:
        self.names = list(getattr(config, "attributes", ()))
        if not self.names:
            raise JobError(
                "This reward model names no attributes, so there is nothing to rate.",
                "Name them in its configuration, or train on preferences.",
            )

    def targets(self, rows: Sequence[LabelledResponse]) -> LabelTargets:
        """Weights count ratings: a response with all attributes weighs 1, one with half of them a half."""
        values = np.array([self._values(row) for row in rows], dtype=np.float64).reshape(len(rows), len(self.names))
        share = np.isfinite(values).mean(axis=1) if len(rows) else np.zeros(0)
        weight = share * np.array([row.weight for row in rows], dtype=np.float64)
        return LabelTargets(is_used=weight > 0, values=values, weight=weight)

    def _values(self, row: LabelledResponse) -> list[float]:
        given = (row.ratings.get(name, math.nan) for name in self.names)
        return [math.nan if value == self.config.missing or not math.isfinite(value) else value for value in given]

    def refusal(self, row: LabelledResponse) -> str:
        return "no weight" if row.weight <= 0 else "no rating of the attributes"

    def begin(self, net: "Net", data: "UnitData", rows: Rows, *, budget: int) -> None:
        """A fresh head starts from the mean and spread of the training labels; one that was fitted stays."""
        import torch

        from workers.nn.attribute_heads import AttributeHead

        targets: Any = data.targets
        centre, spread = label_scale(targets.values[rows], self.names)
        if isinstance(net.head, AttributeHead) and not bool(net.head.is_fitted):
            net.head.set_scale(torch.from_numpy(centre).float(), torch.from_numpy(spread).float())

    def finish(self, net: "Net", data: "UnitData", rows: Rows, *, budget: int) -> dict[str, Any]:
        """How many training responses have a rating of each attribute, where not all of them have all."""
        targets: Any = data.targets
        given = {
            n: int(count) for n, count in zip(self.names, np.isfinite(targets.values[rows]).sum(axis=0), strict=True)
        }
        warnings = [
            f"{name} is rated in {n} of {len(rows)} training responses; the others tell nothing about it"
            for name, n in given.items()
            if n < len(rows)
        ]
        return {"ratings": given, "warnings": warnings} if warnings else {}

    def loss(self, outputs: "Tensor", targets: LabelTargets) -> "Tensor":
        return self._loss(outputs, targets, None)

    def batch_loss(self, view: Any) -> "Tensor":
        spread = getattr(view.net.head, "spread", None) if self.config.standardise else None
        return self._loss(view.outputs[0], view.targets, spread)

    def _loss(self, outputs: "Tensor", targets: LabelTargets, spread: "Tensor | None") -> "Tensor":
        import torch

        wanted = torch.as_tensor(targets.values, dtype=torch.float32, device=outputs.device)
        if wanted.shape != outputs.shape:
            raise JobError(
                f"The head gives {outputs.shape[-1]} values a response, and {wanted.shape[-1]} attributes are named.",
                "Train a family that rates attributes.",
            )
        is_there = wanted.isfinite()
        # The missing are replaced before the difference is taken: 0 times nan would still be nan in the gradient.
        error = torch.where(is_there, outputs.float() - torch.nan_to_num(wanted), 0.0)
        if spread is not None:
            error = error / spread
        weight = torch.as_tensor(targets.weight, dtype=torch.float32, device=outputs.device)
        return weight * error.square().sum(dim=1) / is_there.sum(dim=1).clamp(min=1)

    def metrics(self, outputs: NDArray[np.float64], targets: LabelTargets) -> dict[str, float]:
        """R2, mean squared error and Pearson's correlation of every attribute, and their means.

        What is undefined (an attribute that is not rated here, or always alike) is left out; n says of how many.
        """
        told: dict[str, float] = {}
        for j, name in enumerate(self.names):
            rated = np.isfinite(targets.values[:, j])
            told |= _of_one(name, targets.values[rated, j], outputs[rated, j])
        for measure in ("r2", "mse", "pearson"):
            values = [value for key, value in told.items() if key.startswith(f"{measure}_")]
            if values:
                told[measure] = float(np.mean(values))
        return told


def _of_one(name: str, truth: NDArray[np.float64], predicted: NDArray[np.float64]) -> dict[str, float]:
    found = {f"n_{name}": float(len(truth))}
    if len(truth):
        found[f"mse_{name}"] = float(np.square(truth - predicted).mean())
        found[f"r2_{name}"] = r_squared(truth, predicted)
        found[f"pearson_{name}"] = pearson(truth, predicted)
    return {key: value for key, value in found.items() if math.isfinite(value)}


def label_scale(values: NDArray[np.float64], names: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of the ratings of each attribute, values : (n, k) with nan for none.

    JobError names the attribute that nobody rated, or that has the same rating everywhere.
    """
    centre, spread = np.zeros(len(names)), np.ones(len(names))
    for j, name in enumerate(names):
        given = values[np.isfinite(values[:, j]), j]
        if not len(given):
            raise JobError(
                f"No training response has a rating of {name}.",
                "Take it out of the reward model's attributes, or choose a source that rates it.",
            )
        if np.ptp(given) == 0:
            raise JobError(
                f"All {len(given)} training responses have the same rating of {name} ({given[0]:g}).",
                "There is nothing to learn from it: take it out of the attributes, or add responses rated otherwise.",
            )
        centre[j], spread[j] = given.mean(), given.std()
    return centre, spread
