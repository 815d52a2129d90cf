"""How a net does on pairs it was not trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from workers.data.collate import length_batches
from workers.data.render import Encoded
from workers.nn.pair_data import PairData
from workers.nn.reward_net import RewardNet
from workers.objectives.base import Objective
from workers.stats.intervals import wilson_interval

Rewards = NDArray[np.float64]


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
        return {
            "accuracy": {"value": self.accuracy, "low": self.low, "high": self.high, "n": self.n},
            "loss": self.loss,
            "mean_margin": self.mean_margin,
            "n_zero_margin": self.n_zero_margin,
            "step": step,
        }


def validate(
    net: RewardNet, objective: Objective, data: PairData, rows: NDArray[np.int64], *, budget: int
) -> Validation:
    """Score the pairs of `rows` without gradients and compare with their verdicts."""
    net.eval()
    rewards = _rewards(net, [data.a[i] for i in rows] + [data.b[i] for i in rows], budget)
    targets = data.targets.rows(rows)
    with torch.inference_mode():
        rewards_a, rewards_b = rewards.chunk(2)
        losses = objective.loss(rewards_a, rewards_b, targets)
    a, b = np.split(rewards.double().cpu().numpy(), 2)
    decided = ~targets.is_tie
    n_right, n_zero = count_right(a[decided], b[decided], targets.target[decided])
    n_swapped, _ = count_right(b[decided], a[decided], targets.target[decided])
    n = int(decided.sum())
    interval = wilson_interval(n_right, n)
    margin = np.sign(targets.target[decided] - 0.5) * (a - b)[decided]
    return Validation(
        loss=float(losses.sum()) / float(targets.weight.sum()),
        accuracy=n_right / n if n else float("nan"),
        low=interval.low,
        high=interval.high,
        n=n,
        n_zero_margin=n_zero,
        swapped_accuracy=n_swapped / n if n else float("nan"),
        mean_margin=float(margin.mean()) if n else float("nan"),
    )


def count_right(a: Rewards, b: Rewards, target: Rewards) -> tuple[int, int]:
    """Pairs whose preferred response has the higher reward, and pairs with equal rewards."""
    right = np.where(target > 0.5, a > b, b > a)
    return int(right.sum()), int((a == b).sum())


def _rewards(net: RewardNet, encoded: Sequence[Encoded], budget: int) -> torch.Tensor:
    rewards = torch.empty(len(encoded), device=net.device)
    with torch.inference_mode():
        for batch in length_batches([len(item) for item in encoded], budget, is_padded=not net.is_packed()):
            rewards[torch.from_numpy(batch)] = net([encoded[i] for i in batch])
    return rewards
