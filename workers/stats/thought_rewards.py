"""Advantages of thoughts: what labels of steps do to the group-standardised outcome."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def outcome_advantages(is_right: NDArray[np.bool_], eps: float = 1e-6) -> NDArray[np.float64]:
    """Outcome rewards +1 and -1 of the solutions of one group, standardised; 0 where all are alike.

    Parameters
    ----------
    is_right : bool ndarray of shape (g,)
    """
    outcome = np.where(is_right, 1.0, -1.0)
    return (outcome - outcome.mean()) / (outcome.std() + eps)


def thought_advantages(
    labels: Sequence[str], outcome: float, *, group_accuracy: float, scale: float = 1.0
) -> list[float]:
    """Advantage of every step of one solution, by the label of its thought.

    correct, matching: the outcome's own; incorrect: outcome - scale * group_accuracy; mismatched: 0.

    Parameters
    ----------
    labels
        One a step: correct or incorrect (right solution), matching or mismatched (wrong one).
    outcome
        The solution's standardised outcome, as from `outcome_advantages`.
    group_accuracy
        Share of right solutions in its group, in [0, 1], when it was sampled.
    scale
        a > 0; 1 by default, which the source does not fix.

    Raises
    ------
    ValueError
        An unknown label.

    Notes
    -----
    Closed form of He et al. 2025 (thought-level process rewards). It equals outcome + sum of the rewards of the
    thoughts from a step's own on when the last thought carries none (reconstructed from the source's propositions).
    """
    cost = {"correct": outcome, "matching": outcome, "incorrect": outcome - scale * group_accuracy, "mismatched": 0.0}
    unknown = set(labels) - cost.keys()
    if unknown:
        raise ValueError(f"unknown label {sorted(unknown)[0]!r}; use {', '.join(cost)}")
    return [cost[label] for label in labels]
