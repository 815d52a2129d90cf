"""Ridge regression in closed form, with the penalty chosen on rows held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ALPHAS: tuple[float, ...] = tuple(10.0**power for power in range(-4, 5))
Array = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RidgeFit:
    """coefficients of shape (d,) and intercept; alpha, and by alpha the mean squared error on rows held out."""

    coefficients: Array
    intercept: float
    alpha: float
    errors: dict[float, float]
    n: int
    """Rows it was fitted on in the end."""

    @property
    def is_at_edge(self) -> bool:
        """The best penalty was the smallest or the largest tried: a better one may lie outside."""
        return len(self.errors) > 1 and self.alpha in (min(self.errors), max(self.errors))


def ridge(x: Array, y: Array, alpha: float, *, weight: Array | None = None, intercept: bool = False) -> RidgeFit:
    """argmin sum w_i (x_i b + c - y_i)^2 + alpha |b|^2.

    Parameters
    ----------
    x : array of shape (n, d)
    y : array of shape (n,)
    alpha
        > 0; the intercept is not penalised.
    weight : array of shape (n,)
        >= 0; None: 1.
    intercept
        False: c is 0 and nothing is centred.
    """
    return RidgePath(x, y, weight=weight, intercept=intercept).at(alpha)


class RidgePath:
    """Solutions for every penalty from one eigendecomposition of X^T X, or of X X^T where rows are fewer."""

    def __init__(self, x: Array, y: Array, *, weight: Array | None = None, intercept: bool = False) -> None:
        if len(x) != len(y) or x.ndim != 2 or not len(x):
            raise ValueError(f"x of shape (n, d) and y of shape (n,) with n > 0 are needed, got {x.shape}, {y.shape}")
        w = np.ones(len(y)) if weight is None else weight
        share = w / w.sum()
        self.n = len(y)
        self.x_mean = share @ x if intercept else np.zeros(x.shape[1])
        self.y_mean = float(share @ y) if intercept else 0.0
        root = np.sqrt(w)[:, None]
        self.centred = (x - self.x_mean) * root
        target = (y - self.y_mean) * root[:, 0]
        self.is_wide = len(x) < x.shape[1]
        gram = self.centred @ self.centred.T if self.is_wide else self.centred.T @ self.centred
        self.values, self.vectors = np.linalg.eigh(gram)
        self.values = np.maximum(self.values, 0.0)
        self.projected = self.vectors.T @ (target if self.is_wide else self.centred.T @ target)

    def at(self, alpha: float) -> RidgeFit:
        if not alpha > 0:
            raise ValueError(f"alpha must be above 0, got {alpha}")
        solved = self.vectors @ (self.projected / (self.values + alpha))
        found = self.centred.T @ solved if self.is_wide else solved
        return RidgeFit(found, self.y_mean - float(self.x_mean @ found), alpha, {}, self.n)


def ridge_search(
    x: Array,
    y: Array,
    fold: NDArray[np.int64],
    *,
    alphas: Sequence[float] = ALPHAS,
    weight: Array | None = None,
    intercept: bool = False,
) -> RidgeFit:
    """Fit for every penalty with each fold held out in turn, choose by squared error there, fit again on all rows.

    fold : array of shape (n,), the fold of each row; two or more. Equal errors: the larger penalty.
    """
    w = np.ones(len(y)) if weight is None else weight
    folds = np.unique(fold)
    if len(folds) < 2:
        raise ValueError("two folds or more are needed")
    errors = dict.fromkeys(alphas, 0.0)
    for left_out in folds:
        inner, outer = fold != left_out, fold == left_out
        path = RidgePath(x[inner], y[inner], weight=w[inner], intercept=intercept)
        for alpha in alphas:
            fit = path.at(alpha)
            residual = x[outer] @ fit.coefficients + fit.intercept - y[outer]
            errors[alpha] += float(w[outer] @ np.square(residual) / w.sum())
    best = min(errors, key=lambda alpha: (errors[alpha], -alpha))
    fit = ridge(x, y, best, weight=w, intercept=intercept)
    return RidgeFit(fit.coefficients, fit.intercept, best, errors, len(y))
