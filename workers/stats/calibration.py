"""Do margins mean what they say? A calibrated reward model prefers a response with probability sigmoid(margin)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workers.stats.bootstrap import percentile_interval
from workers.stats.intervals import Interval, undefined_interval

N_BINS = 10
FEW_PAIRS = 500
MAX_NEWTON = 100
TOLERANCE = 1e-10
MAX_CELLS = 4_000_000
MANY_PROMPTS = 100_000


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Predictions in [low, high), the last bin with its upper end. Means are nan in an empty bin."""

    low: float
    high: float
    n: int
    mean_p: float
    share: float
    """Part of the outcomes that came true."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Errors in [0, 1] over n predictions; lower is better calibrated."""

    ece: float
    ace: float
    mce: float
    n: int
    bins: tuple[ReliabilityBin, ...]


@dataclass(frozen=True, slots=True)
class TemperatureFit:
    """P(a preferred) = sigmoid(margin / temperature). nan with a reason where no positive temperature is best."""

    temperature: float
    converged: bool
    n_iter: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CrossFit:
    """Each half of the prompts measured with the temperature of the other; None with a reason where a half has none."""

    after: Calibration | None
    temperatures: tuple[float, float]
    reason: str = ""


def sigmoid(x: ArrayLike) -> NDArray[np.float64]:
    """1 / (1 + exp(-x)) without overflow."""
    values = np.asarray(x, dtype=np.float64)
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1.0, small) / (1.0 + small)


def symmetric(margin: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(p, y) of both orders of each pair: sigmoid(margin) with outcome 1, and sigmoid(-margin) with outcome 0.

    `margin` is r(chosen) - r(rejected) of shape (n,); p and y have shape (2n,). Which response is stored first then
    makes no difference: the symmetric form of Zeng et al. (2023), arXiv 2312.07401.
    """
    values = finite(margin)
    p = np.concatenate([sigmoid(values), sigmoid(-values)])
    return p, np.concatenate([np.ones(len(values)), np.zeros(len(values))])


def calibration(p: ArrayLike, y: ArrayLike, *, n_bins: int = N_BINS) -> Calibration:
    """Expected, average and maximal calibration error over uniform bins.

    Parameters
    ----------
    p : array of shape (n,)
        Predicted probabilities in [0, 1], n >= 1.
    y : array of shape (n,)
        Outcomes, 0 or 1.
    n_bins
        Bins of equal width; a prediction on a border belongs to the upper one, 1 to the last.

    Returns
    -------
    Calibration
        ECE = sum over bins of |sum p - sum y| / n; ACE = mean over bins that hold something of |mean p - mean y|; MCE
        is the largest of these.

    Notes
    -----
    ECE and reliability diagram: Guo, Pleiss, Sun and Weinberger (2017), arXiv 1706.04599.
    """
    predicted, outcome = np.asarray(p, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if predicted.ndim != 1 or predicted.shape != outcome.shape or not len(predicted):
        raise ValueError(f"p and y must have one shape (n,) with n >= 1, got {predicted.shape} and {outcome.shape}")
    if not ((predicted >= 0) & (predicted <= 1)).all():
        raise ValueError("p holds values outside [0, 1]")
    if not np.isin(outcome, (0.0, 1.0)).all():
        raise ValueError("y holds values other than 0 and 1")
    place = bin_of(predicted, n_bins)
    n = np.bincount(place, minlength=n_bins)
    sum_p = np.bincount(place, weights=predicted, minlength=n_bins)
    sum_y = np.bincount(place, weights=outcome, minlength=n_bins)
    used = n > 0
    gaps = np.abs(sum_p - sum_y)[used] / n[used]
    mean_p, share = np.full((2, n_bins), np.nan)
    mean_p[used], share[used] = sum_p[used] / n[used], sum_y[used] / n[used]
    bins = tuple(
        ReliabilityBin(i / n_bins, (i + 1) / n_bins, int(n[i]), float(mean_p[i]), float(share[i]))
        for i in range(n_bins)
    )
    ece = float(np.abs(sum_p - sum_y).sum() / len(predicted))
    return Calibration(ece, float(gaps.mean()), float(gaps.max()), len(predicted), bins)


def bin_of(p: NDArray[np.float64], n_bins: int) -> NDArray[np.int64]:
    return np.minimum((p * n_bins).astype(np.int64), n_bins - 1)


def fit_temperature(margin: ArrayLike) -> TemperatureFit:
    """The temperature with the lowest log-loss on margins of shape (n,), by Newton's method with step halving.

    The loss mean log(1 + exp(-margin * b)) is convex in b = 1 / temperature. No temperature is best when every margin
    is on the right side (the colder the better), or when the margins point the wrong way on balance (b <= 0).

    Notes
    -----
    Temperature scaling: Guo et al. (2017), arXiv 1706.04599. Tested against a direct minimiser.
    """
    values = finite(margin)
    scale = float(np.abs(values).max()) if len(values) else 0.0
    if scale == 0:
        return TemperatureFit(math.nan, False, 0, "all margins are zero")
    if values.mean() <= 0:
        return TemperatureFit(math.nan, False, 0, "the margins point the wrong way on balance")
    if (values >= 0).all():
        return TemperatureFit(math.nan, False, 0, "no pair is wrong, so the colder the better")
    unit, b = values / scale, 0.0
    for n_iter in range(1, MAX_NEWTON + 1):
        wrong = sigmoid(-b * unit)
        slope, curve = float(-(unit * wrong).mean()), float((unit**2 * wrong * (1 - wrong)).mean())
        step = -slope / curve if curve > 0 else -slope
        loss = log_loss(b * unit)
        while log_loss((b + step) * unit) > loss + 1e-15 and abs(step) > TOLERANCE * (1 + abs(b)):
            step /= 2
        b += step
        if abs(step) <= TOLERANCE * (1 + abs(b)):
            return TemperatureFit(scale / b, True, n_iter)
    return TemperatureFit(scale / b, False, MAX_NEWTON, "Newton's method did not settle")


def log_loss(margin: ArrayLike) -> float:
    """Mean of -log sigmoid(margin), in nats."""
    return float(np.logaddexp(0.0, -np.asarray(margin, dtype=np.float64)).mean())


def cross_fitted(
    margin: ArrayLike, prompts: Sequence[str], *, rng: np.random.Generator, n_bins: int = N_BINS
) -> CrossFit:
    """Calibration after a temperature that never saw the prompts it is measured on: each half fits the other."""
    values, place = finite(margin), prompt_places(prompts)
    n_prompts = int(place.max()) + 1 if len(place) else 0
    if n_prompts < 2:
        return CrossFit(None, (math.nan, math.nan), "fitting and measuring need two prompts or more")
    half = np.zeros(n_prompts, dtype=np.int64)
    half[rng.permutation(n_prompts)[: n_prompts // 2]] = 1
    side = half[place]
    fits = [fit_temperature(values[side == number]) for number in (0, 1)]
    temperatures = (fits[0].temperature, fits[1].temperature)
    if reason := fits[0].reason or fits[1].reason:
        return CrossFit(None, temperatures, reason)
    scaled = np.where(side == 0, values / temperatures[1], values / temperatures[0])
    return CrossFit(calibration(*symmetric(scaled), n_bins=n_bins), temperatures)


def ece_interval(
    margin: ArrayLike,
    prompts: Sequence[str],
    *,
    rng: np.random.Generator,
    n_bins: int = N_BINS,
    n_rounds: int = 1000,
    level: float = 0.95,
) -> Interval:
    """Bootstrap interval of the symmetric ECE, resampling prompts.

    An ECE cannot be negative, so chance alone raises it, and raises it once more in every resample. Rounds are
    therefore moved down by that second rise (their mean less the estimate). The lower end is 0 where chance alone, the
    same rounds about their own centre, gives a calibrated model as large an ECE.
    """
    values, place = finite(margin), prompt_places(prompts)
    n_prompts = int(place.max()) + 1 if len(place) else 0
    if n_prompts < 2:
        return undefined_interval("a bootstrap needs two or more prompts", level)
    p, y = symmetric(values)
    cell = np.concatenate([place, place]) * n_bins + bin_of(p, n_bins)
    gap = np.bincount(cell, weights=p - y, minlength=n_prompts * n_bins).astype(np.float64)
    gap = gap.reshape(n_prompts, n_bins)
    size = 2 * np.bincount(place, minlength=n_prompts).astype(np.float64)
    n_rounds = n_rounds if n_prompts <= MANY_PROMPTS else n_rounds // 5
    rounds, chance = resampled_ece(gap, size, n_rounds, rng)
    estimate = float(np.abs(gap.sum(axis=0)).sum() / size.sum())
    found = percentile_interval(np.maximum(rounds - max(0.0, float(rounds.mean()) - estimate), 0.0), level)
    by_chance = estimate <= float(np.quantile(chance, 0.5 + level / 2))
    return Interval(0.0 if by_chance else min(found.low, estimate), max(found.high, estimate), level, found.reason)


def resampled_ece(
    gap: NDArray[np.float64], size: NDArray[np.float64], n_rounds: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """ECE of resampled prompts, and the part of it that is chance: both of shape (n_rounds,).

    `gap` (prompts, bins) holds sum p - sum y, `size` the predictions of each prompt.
    """
    n, rounds, chance = len(size), [], []
    rates = gap.sum(axis=0) / size.sum()
    block = max(1, MAX_CELLS // n)
    for start in range(0, n_rounds, block):
        rows = min(block, n_rounds - start)
        picked = rng.integers(n, size=(rows, n)) + np.arange(rows)[:, None] * n
        counts = np.bincount(picked.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)
        drawn = counts @ gap / (counts @ size)[:, None]
        rounds.append(np.abs(drawn).sum(axis=1))
        chance.append(np.abs(drawn - rates).sum(axis=1))
    return np.concatenate(rounds), np.concatenate(chance)


def prompt_places(prompts: Sequence[str]) -> NDArray[np.int64]:
    """Number of each pair's prompt, from 0."""
    number = {name: place for place, name in enumerate(dict.fromkeys(prompts))}
    return np.fromiter((number[name] for name in prompts), dtype=np.int64, count=len(prompts))


def finite(margin: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(margin, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError("margin must have shape (n,) and hold finite numbers only")
    return values
