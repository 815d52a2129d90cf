"""Logistic regression on differences: the linear reward that explains verdicts best, by Newton's method."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
PENALTIES: tuple[float, ...] = tuple(10.0 ** (power / 2) for power in range(4, -11, -1))
"""From 100 down to 1e-5, two a decade: each fit starts from the one before."""


@dataclass(frozen=True, slots=True)
class PairData:
    """difference : (n, d), features of response_a minus those of response_b; target : (n,), P(a is preferred);
    weight : (n,), >= 0; offset : (n,), what the margin has to exceed."""

    difference: Array
    target: Array
    weight: Array
    offset: Array

    def rows(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> PairData:
        return PairData(self.difference[index], self.target[index], self.weight[index], self.offset[index])

    def __len__(self) -> int:
        return len(self.target)


@dataclass(frozen=True, slots=True)
class LogisticFit:
    """coefficients (d,); mean weighted loss in nats without the penalty; how the iteration ended."""

    coefficients: Array
    penalty: float
    loss: float
    converged: bool
    n_iter: int
    gradient: float
    """Largest entry of the gradient where it stopped."""


@dataclass(frozen=True, slots=True)
class PenaltySearch:
    """losses: mean held-out loss in nats by penalty, over all folds; n_folds folds that share no group."""

    penalty: float
    losses: dict[float, float]
    n_folds: int
    n_not_converged: int

    @property
    def is_at_edge(self) -> bool:
        return self.penalty in (min(self.losses), max(self.losses))


def fit_pairs(
    data: PairData, penalty: float, *, start: Array | None = None, tol: float = 1e-8, max_iter: int = 100
) -> LogisticFit:
    """Minimise mean_w[-t log sigmoid(m - o) - (1 - t) log sigmoid(o - m)] + penalty / 2 |b|^2 with m = difference @ b.

    Parameters
    ----------
    penalty
        > 0, so that the minimum exists and is one, whatever the verdicts (also when they are perfectly separable).
        There is no intercept: exchanging the responses of a pair changes nothing.
    start : array of shape (d,)
        Where to begin; None: 0.
    tol
        Converged when no entry of the gradient is larger.

    Notes
    -----
    Newton steps, halved until the loss falls. Tested against scipy's BFGS on the same function.
    """
    if not penalty > 0:
        raise ValueError(f"the penalty must be above 0, got {penalty}")
    if not len(data) or not data.weight.sum() > 0:
        raise ValueError("there is no pair with a weight above 0")
    b = np.zeros(data.difference.shape[1]) if start is None else start.copy()
    value = _objective(data, b, penalty)
    for n_iter in range(max_iter + 1):
        gradient, curvature = _slope(data, b, penalty)
        steepest = float(np.abs(gradient).max(initial=0.0))
        if steepest <= tol:
            return LogisticFit(b, penalty, pair_loss(data, b), True, n_iter, steepest)
        if n_iter == max_iter:
            break
        step = _newton_step(data, gradient, curvature, penalty)
        b, value, moved = _walk(data, b, step, penalty, value=value)
        if not moved:
            break
    return LogisticFit(b, penalty, pair_loss(data, b), False, n_iter, steepest)


def choose_penalty(
    data: PairData,
    fold: NDArray[np.int64],
    *,
    penalties: Sequence[float] = PENALTIES,
    on_fit: Callable[[], None] = lambda: None,
) -> PenaltySearch:
    """The penalty with the lowest loss on folds left out in turn; fold : (n,), the fold of each pair.

    Equal losses: the larger penalty. `on_fit` is called before every fit; what it raises ends the search.
    """
    folds = np.unique(fold)
    if len(folds) < 2:
        raise ValueError("two folds or more are needed")
    ordered = sorted(penalties, reverse=True)
    sums = dict.fromkeys(ordered, 0.0)
    n_failed = 0
    for left_out in folds:
        inner, outer = data.rows(fold != left_out), data.rows(fold == left_out)
        start = None
        for penalty in ordered:
            on_fit()
            fit = fit_pairs(inner, penalty, start=start, tol=1e-6)
            n_failed += not fit.converged
            start = fit.coefficients
            sums[penalty] += pair_loss(outer, fit.coefficients) * float(outer.weight.sum())
    losses = {penalty: total / float(data.weight.sum()) for penalty, total in sums.items()}
    best = min(ordered, key=lambda penalty: (losses[penalty], -penalty))
    return PenaltySearch(best, losses, len(folds), n_failed)


def pair_loss(data: PairData, b: Array) -> float:
    """Mean weighted loss in nats; log 2 for coefficients of 0 without offsets."""
    clear = data.difference @ b - data.offset
    loss = data.target * np.logaddexp(0.0, -clear) + (1.0 - data.target) * np.logaddexp(0.0, clear)
    return float(data.weight @ loss / data.weight.sum())


def _objective(data: PairData, b: Array, penalty: float) -> float:
    return pair_loss(data, b) + 0.5 * penalty * float(b @ b)


def _slope(data: PairData, b: Array, penalty: float) -> tuple[Array, Array]:
    """Gradient (d,), and the curvature of each pair's loss (n,)."""
    share = data.weight / data.weight.sum()
    p = 0.5 * (1.0 + np.tanh(0.5 * (data.difference @ b - data.offset)))
    gradient: Array = data.difference.T @ (share * (p - data.target)) + penalty * b
    return gradient, share * p * (1.0 - p)


def _newton_step(data: PairData, gradient: Array, curvature: Array, penalty: float) -> Array:
    """-(X^T C X + penalty I)^-1 gradient; through the n by n system where pairs are fewer than features."""
    x = data.difference * np.sqrt(curvature)[:, None]
    n, d = x.shape
    if n < d:
        inner = np.linalg.solve(x @ x.T + penalty * np.eye(n), x @ gradient)
        return np.asarray((x.T @ inner - gradient) / penalty, dtype=np.float64)
    return np.asarray(np.linalg.solve(x.T @ x + penalty * np.eye(d), -gradient), dtype=np.float64)


def _walk(data: PairData, b: Array, step: Array, penalty: float, *, value: float) -> tuple[Array, float, bool]:
    """The longest of the step and its halves that lowers the objective; False where none does."""
    length = 1.0
    for _ in range(40):
        candidate = b + length * step
        found = _objective(data, candidate, penalty)
        if math.isfinite(found) and found <= value:
            return candidate, found, True
        length /= 2
    return b, value, False
