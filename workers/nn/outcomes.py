"""One logit against right or wrong: the loss, and how it does on responses it was not trained on."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from workers.nn.net import Net
from workers.nn.units import UnitData
from workers.nn.view import BatchView
from workers.objectives.base import LabelTargets
from workers.stats.auroc import auroc
from workers.stats.intervals import wilson_interval

Rows = NDArray[np.int64]


def outcome_loss(logits: Tensor, targets: LabelTargets) -> Tensor:
    """-[y log sigmoid(r) + (1 - y) log sigmoid(-r)] of each response, shape (n,), float32, times its weight."""
    labels, weight = (
        torch.as_tensor(values, dtype=torch.float32, device=logits.device)
        for values in (targets.values[:, 0], targets.weight)
    )
    return weight * binary_cross_entropy_with_logits(logits.float(), labels, reduction="none")


@dataclass(frozen=True, slots=True)
class OutcomeValidation:
    """Accuracy at probability 1/2 with Wilson's interval, AUROC, and the mean squared error of the probability."""

    loss: float
    accuracy: float
    low: float
    high: float
    n: int
    auroc: float
    brier: float
    share_right: float
    """Share of responses labelled 1: saying the more frequent label always is right as often as that."""

    def as_metrics(self) -> dict[str, float]:
        return {
            "validation_loss": self.loss,
            "validation_accuracy": self.accuracy,
            "validation_low": self.low,
            "validation_high": self.high,
            "validation_n": float(self.n),
            "validation_auroc": self.auroc,
            "validation_brier": self.brier,
        }

    def as_json(self, step: int) -> dict[str, Any]:
        return {
            "accuracy": {"value": self.accuracy, "low": self.low, "high": self.high, "n": self.n},
            "loss": self.loss,
            "auroc": None if np.isnan(self.auroc) else self.auroc,
            "brier": self.brier,
            "share_right": self.share_right,
            "step": step,
        }


def validate_outcomes(net: Net, data: UnitData, rows: Rows, *, budget: int) -> OutcomeValidation:
    """Rewards of the responses of `rows` as logits, without gradients, against their labels."""
    net.eval()
    view = BatchView(net, data, rows, budget=budget)
    targets: LabelTargets = view.targets  # type: ignore[assignment]
    with torch.inference_mode():
        loss = float(outcome_loss(view.rewards[0], targets).sum()) / float(targets.weight.sum())
        logits = view.rewards[0].double().cpu().numpy()
    return outcome_validation(logits, targets.values[:, 0], loss=loss)


def outcome_validation(logits: NDArray[np.float64], labels: NDArray[np.float64], *, loss: float) -> OutcomeValidation:
    """From logits and labels (0 or 1), shape (n,). A logit of exactly 0 says wrong."""
    is_right = labels > 0.5
    n_hit = int(((logits > 0) == is_right).sum())
    interval = wilson_interval(n_hit, len(labels))
    probability = 1 / (1 + np.exp(-np.clip(logits, -700, 700)))
    return OutcomeValidation(
        loss=loss,
        accuracy=n_hit / len(labels),
        low=interval.low,
        high=interval.high,
        n=len(labels),
        auroc=auroc(logits, is_right),
        brier=float(np.square(probability - labels).mean()),
        share_right=float(is_right.mean()),
    )
