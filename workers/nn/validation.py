"""How a net does on units it was not trained on."""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from workers.nn.net import Net
from workers.nn.units import UnitData
from workers.nn.view import BatchView
from workers.stats.calibration import calibration, symmetric
from workers.stats.intervals import wilson_interval

if TYPE_CHECKING:
    from workers.objectives.base import LabelledObjective, LabelTargets, PairTargets, PairwiseObjective

Rows = NDArray[np.int64]
Rewards = NDArray[np.float64]


class ValidationResult(Protocol):
    """What validation tells. The weights with the lowest `loss` are the best."""

    @property
    def loss(self) -> float: ...

    def as_metrics(self) -> dict[str, float]:
        """Points of the charts, their names beginning with validation_."""

    def as_json(self, step: int) -> dict[str, Any]:
        """For the result of the run; `accuracy` with interval and n where there is one."""


@dataclass(frozen=True, slots=True)
class Validation:
    """Accuracy on n non-tie pairs with Wilson's interval; the loss is the objective's, over ties too.

    swapped_accuracy: the same count with the responses of every pair exchanged. Accuracy, swapped accuracy and the
    share of zero margins add up to 1, or the measure itself is broken.
    """

    loss: float
    accuracy: float
    low: float
    high: float
    n: int
    n_zero_margin: int
    swapped_accuracy: float
    mean_margin: float
    by_group: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    """{"source" | "rater": {name: {value, low, high, n, ece}}}, the twenty largest of each; empty where there is but
    one."""
    ece: float = float("nan")
    """Expected calibration error of sigmoid(margin), both orders of each pair; few pairs alone raise it."""

    def as_metrics(self) -> dict[str, float]:
        return {
            "validation_loss": self.loss,
            "validation_accuracy": self.accuracy,
            "validation_low": self.low,
            "validation_high": self.high,
            "validation_n": float(self.n),
            "validation_swapped_accuracy": self.swapped_accuracy,
            "validation_margin": self.mean_margin,
        }

    def as_json(self, step: int) -> dict[str, Any]:
        """Where ties alone were held out there is no accuracy: JSON has no word for nan."""
        rate = {"value": self.accuracy, "low": self.low, "high": self.high, "n": self.n}
        found: dict[str, Any] = {
            "accuracy": rate if self.n else None,
            "loss": self.loss,
            "mean_margin": self.mean_margin if self.n else None,
            "ece": self.ece if self.n else None,
            "n_zero_margin": self.n_zero_margin,
            "step": step,
        }
        return {**found, **{f"by_{name}": groups for name, groups in self.by_group.items()}}


@dataclass(frozen=True, slots=True)
class LabelledValidation:
    """The objective's loss and its own metrics on n labelled responses."""

    loss: float
    n: int
    metrics: dict[str, float]

    def as_metrics(self) -> dict[str, float]:
        told = {f"validation_{name}": value for name, value in self.metrics.items()}
        return {"validation_loss": self.loss, "validation_n": float(self.n), **told}

    def as_json(self, step: int) -> dict[str, Any]:
        """A metric that is not defined here (nan) is left out: JSON has no word for it."""
        known = {name: value for name, value in self.metrics.items() if math.isfinite(value)}
        return {"loss": self.loss, "n": self.n, **known, "step": step}


def validate_pairs(net: Net, objective: "PairwiseObjective", data: UnitData, rows: Rows, *, budget: int) -> Validation:
    """Score the pairs of `rows` without gradients and compare with their verdicts."""
    net.eval()
    view = BatchView(net, data, rows, budget=budget)
    with torch.inference_mode():
        losses = objective.validation_loss(view)
        rewards_a, rewards_b = view.rewards
    return pair_validation(
        rewards_a.double().cpu().numpy(),
        rewards_b.double().cpu().numpy(),
        view.targets,  # type: ignore[arg-type]
        loss=float(losses.sum()) / float(view.targets.weight.sum()),
        groups={"source": view.sources, "rater": view.raters},
    )


def pair_validation(
    a: Rewards, b: Rewards, targets: "PairTargets", *, loss: float, groups: dict[str, list[str]]
) -> Validation:
    """Count from rewards r_a and r_b, shape (n,)."""
    decided = ~targets.is_tie & (targets.target != 0.5)  # even shares of raters prefer neither
    n_right, n_zero = count_right(a[decided], b[decided], targets.target[decided])
    n_swapped, _ = count_right(b[decided], a[decided], targets.target[decided])
    n = int(decided.sum())
    interval = wilson_interval(n_right, n)
    margin = np.sign(targets.target[decided] - 0.5) * (a - b)[decided]
    told = {name: _by_group(margin, np.array(names, dtype=object)[decided]) for name, names in groups.items()}
    return Validation(
        loss=loss,
        accuracy=n_right / n if n else float("nan"),
        low=interval.low,
        high=interval.high,
        n=n,
        n_zero_margin=n_zero,
        swapped_accuracy=n_swapped / n if n else float("nan"),
        mean_margin=float(margin.mean()) if n else float("nan"),
        by_group={name: found for name, found in told.items() if len(found) > 1},
        ece=_ece(margin) if n else float("nan"),
    )


def validate_labelled(
    net: Net, objective: "LabelledObjective", data: UnitData, rows: Rows, *, budget: int
) -> LabelledValidation:
    """Outputs on the labelled responses of `rows`, judged by the objective."""
    net.eval()
    view = BatchView(net, data, rows, budget=budget)
    targets: LabelTargets = view.targets  # type: ignore[assignment]
    with torch.inference_mode():
        losses = objective.batch_loss(view)
        outputs = view.outputs[0].double().cpu().numpy()
    return LabelledValidation(
        loss=float(losses.sum()) / float(targets.weight.sum()),
        n=len(rows),
        metrics=objective.metrics(outputs, targets),
    )


def count_right(a: Rewards, b: Rewards, target: Rewards) -> tuple[int, int]:
    """Pairs whose preferred response has the higher reward, and pairs with equal rewards."""
    right = np.where(target > 0.5, a > b, b > a)
    return int(right.sum()), int((a == b).sum())


def _ece(margin: Rewards) -> float:
    return calibration(*symmetric(margin)).ece if np.isfinite(margin).all() else float("nan")


def _by_group(margin: Rewards, names: NDArray[np.object_], most: int = 20) -> dict[str, dict[str, float]]:
    found, counts = np.unique(names.astype(str), return_counts=True)
    largest = found[np.argsort(-counts, kind="stable")][:most]
    told = {}
    for name in largest:
        own = margin[names == name]
        chosen = own > 0
        interval = wilson_interval(int(chosen.sum()), len(chosen))
        told[str(name)] = {
            "value": float(chosen.mean()),
            "low": interval.low,
            "high": interval.high,
            "n": float(len(chosen)),
            "ece": _ece(own),
        }
    return told
