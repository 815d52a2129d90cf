"""Heads that are solved for: ridge regression on ratings, logistic regression on pairs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from workers.context import JobContext
from workers.errors import JobError
from workers.nn.attribute_heads import AttributeHead
from workers.nn.units import UnitData
from workers.objectives.attribute_regression import label_scale
from workers.objectives.base import LabelTargets, PairTargets
from workers.stats.pair_logistic import LogisticFit, PairData, PenaltySearch, choose_penalty, fit_pairs
from workers.stats.ridge import RidgeFit, ridge_search

Array = NDArray[np.float64]
Rows = NDArray[np.int64]
SMALLEST_SCALE = 1e-8


@dataclass(frozen=True)
class Scaling:
    """Features are used as (x - mean) / scale, both of shape (d,)."""

    mean: Array
    scale: Array

    def of(self, x: NDArray[np.float32]) -> Array:
        return (np.asarray(x, dtype=np.float64) - self.mean) / self.scale


def scaling_of(features: Sequence[NDArray[np.float32]], *, standardise: bool) -> Scaling:
    """Mean and standard deviation of training features, or 0 and 1; a feature that does not vary keeps scale 1."""
    width = features[0].shape[1]
    if not standardise:
        return Scaling(np.zeros(width), np.ones(width))
    n = sum(len(part) for part in features)
    mean = sum(part.sum(axis=0, dtype=np.float64) for part in features) / n
    spread = np.sqrt(sum(np.square(part - mean).sum(axis=0) for part in features) / n)
    return Scaling(mean, np.where(spread > SMALLEST_SCALE, spread, 1.0))


def solve_pairs(ctx: JobContext, head: AttributeHead, data: UnitData, rows: Rows, *, config: Any, seed: int) -> str:
    """Logistic regression on feature differences of the training pairs, its penalty chosen by prompt."""
    features, targets = data.features, data.targets
    if features is None or len(features) != 2 or not isinstance(targets, PairTargets):
        raise JobError("The reward is solved for on pairs.", "Choose the objective bradley_terry.")
    _insist_on_verdicts(targets, rows)
    a, b = (part.response[rows] for part in features)
    scaling = scaling_of([a, b], standardise=config.standardise)
    pairs = PairData(scaling.of(a) - scaling.of(b), targets.target[rows], targets.weight[rows], targets.offset[rows])
    if not np.abs(pairs.difference).max(initial=0.0) > 0:
        raise JobError(
            "The backbone reads the same in both responses of every pair: there is nothing to tell them apart by.",
            "Raise max_length, choose another pooling or another backbone.",
        )
    keys = [data.prompt_keys[i] for i in rows]
    search = None if config.l2 else _search(ctx, pairs, keys, folds=config.folds, seed=seed)
    fit = fit_pairs(pairs, config.l2 or search.penalty)  # type: ignore[union-attr]
    _fill(head, scaling, fit.coefficients[None], np.zeros(1), centre=np.zeros(1), spread=np.ones(1))
    head.report = _pair_report(fit, search)
    if not fit.converged:
        ctx.log(f"Newton's method stopped before it converged (gradient {fit.gradient:.2g})", "warning")
    return _pair_words(fit, search, n=len(rows))


def _insist_on_verdicts(targets: PairTargets, rows: Rows) -> None:
    decided = (targets.target[rows] != 0.5) & (targets.weight[rows] > 0)
    if not decided.any():
        raise JobError(
            f"All {len(rows)} training pairs are ties: no response was preferred.",
            "Choose a source with verdicts, or hold out less for validation.",
        )


def _search(ctx: JobContext, pairs: PairData, keys: Sequence[str], *, folds: int, seed: int) -> PenaltySearch:
    fold = _folds(keys, folds, seed)
    if fold is None:
        raise JobError(
            "All training pairs are of one prompt, so the penalty cannot be chosen by cross-validation.",
            "Add prompts, or set l2.",
        )
    return choose_penalty(pairs, fold, on_fit=ctx.checkpoint)


def _pair_report(fit: LogisticFit, search: PenaltySearch | None) -> dict[str, Any]:
    told: dict[str, Any] = {
        "solver": "newton",
        "l2": fit.penalty,
        "converged": fit.converged,
        "n_iter": fit.n_iter,
        "gradient": fit.gradient,
        "loss": fit.loss,
    }
    if search is None:
        return told
    losses = [{"l2": penalty, "loss": loss} for penalty, loss in search.losses.items()]
    return {**told, "n_folds": search.n_folds, "cross_validation": losses, "at_edge": search.is_at_edge}


def _pair_words(fit: LogisticFit, search: PenaltySearch | None, *, n: int) -> str:
    how = "as set"
    if search is not None:
        how = f"chosen by {search.n_folds} folds of prompts, loss {search.losses[fit.penalty]:.3f}"
        how += ", at the edge of what was tried" if search.is_at_edge else ""
    state = "converged" if fit.converged else "not converged"
    return f"Solved for {n} pairs in {fit.n_iter} Newton steps ({state}); L2 {fit.penalty:.2g} {how}"


def solve_ratings(ctx: JobContext, head: AttributeHead, data: UnitData, rows: Rows, *, config: Any, seed: int) -> str:
    """Ridge regression of every attribute on the training responses that rate it."""
    features, targets = data.features, data.targets
    if features is None or not isinstance(targets, LabelTargets):
        raise JobError("Attributes are solved for on ratings.", "Choose the objective attribute_regression.")
    values = targets.values[rows]
    # The objective weighs a response by the share of attributes it rates; here each attribute is on its own.
    weight = targets.weight[rows] / np.isfinite(values).mean(axis=1)
    scaling = scaling_of([features[0].response[rows]], standardise=config.standardise)
    x = scaling.of(features[0].response[rows])
    centre, spread = _label_scale(values, head.names, config)
    keys = np.array([data.prompt_keys[i] for i in rows], dtype=object)
    fits: list[RidgeFit] = []
    for j, name in enumerate(head.names):
        ctx.checkpoint()
        rated = np.isfinite(values[:, j])
        fold = _folds(keys[rated].tolist(), config.folds, seed)
        if fold is None:
            raise JobError(
                f"Only one prompt has responses rated for {name}: alpha cannot be chosen on held-out prompts.",
                "Add rated prompts, or take the attribute out.",
            )
        normalised = (values[rated, j] - centre[j]) / spread[j]
        fits.append(ridge_search(x[rated], normalised, fold, weight=weight[rated], intercept=config.intercept))
    coefficients, bias = np.array([fit.coefficients for fit in fits]), np.array([fit.intercept for fit in fits])
    _fill(head, scaling, coefficients, bias, centre=centre, spread=spread)
    told = {
        name: {"alpha": fit.alpha, "n": fit.n, "at_edge": fit.is_at_edge, "errors": _errors(fit)}
        for name, fit in zip(head.names, fits, strict=True)
    }
    head.report = {"solver": "ridge", "converged": True, "attributes": told}
    chosen = ", ".join(f"{name} {fit.alpha:g}" for name, fit in zip(head.names, fits, strict=True))
    return f"Solved in closed form for {len(rows)} responses; alpha by held-out prompts: {chosen}"


def _label_scale(values: Array, names: Sequence[str], config: Any) -> tuple[Array, Array]:
    """Fitted are (v - low + 1/2) / (high - low + 1) where a range is given, else v in its own standard deviations.

    Without an intercept a rating is not centred either: it is fitted as it is.
    """
    centre, spread = label_scale(values, names)
    if not config.intercept:
        centre, spread = np.zeros(len(names)), np.ones(len(names))
    for j, name in enumerate(names):
        if name not in config.ranges:
            continue
        low, high = config.ranges[name]
        given = values[np.isfinite(values[:, j]), j]
        if given.min() < low or given.max() > high:
            raise JobError(
                f"Ratings of {name} reach from {given.min():g} to {given.max():g}, outside of {low:g} to {high:g}.",
                "Correct the range in the reward model's configuration.",
            )
        centre[j], spread[j] = low - 0.5, high - low + 1.0
    return centre, spread


def _folds(keys: Sequence[str], n_folds: int, seed: int) -> Rows | None:
    """The fold of each row, all rows of a prompt in one; None where there is one prompt only."""
    names = list(dict.fromkeys(keys))
    if len(names) < 2:
        return None
    place = dict(zip(names, np.random.default_rng(seed).permutation(len(names)), strict=True))
    return np.array([int(place[key]) % min(n_folds, len(names)) for key in keys], dtype=np.int64)


def _errors(fit: RidgeFit) -> list[dict[str, float]]:
    return [{"alpha": alpha, "error": error} for alpha, error in fit.errors.items() if math.isfinite(error)]


@torch.no_grad()
def _fill(
    head: AttributeHead, scaling: Scaling, coefficients: Array, bias: Array, *, centre: Array, spread: Array
) -> None:
    for tensor, values in (
        (head.weight, coefficients),
        (head.bias, bias),
        (head.feature_mean, scaling.mean),
        (head.feature_scale, scaling.scale),
    ):
        tensor.copy_(torch.from_numpy(np.ascontiguousarray(values)))
    head.set_scale(torch.from_numpy(centre), torch.from_numpy(spread))
