"""Agreement of raters: percent agreement and Krippendorff's alpha at three levels, with bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workers.stats.bootstrap import pattern_draws, percentile_interval
from workers.stats.counts import RatingCounts, rating_counts
from workers.stats.intervals import Interval, undefined_interval

PERCENT = "percent"
LEVELS = ("nominal", "ordinal", "interval")
MIN_ITEMS = 2
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Agreement:
    """One measure of agreement and what it rests on.

    value is nan where undefined, and `reason` says why in words. `n_items` counts items with two or more ratings and
    `n_ratings` their ratings; `n_single` counts items with one, which do not enter.
    """

    measure: str
    value: float
    low: float
    high: float
    n_items: int
    n_ratings: int
    n_raters: int
    n_single: int
    reason: str = ""


def agreement(
    item: ArrayLike,
    rater: ArrayLike,
    value: ArrayLike,
    *,
    measures: Sequence[str] = (PERCENT, *LEVELS),
    n_rounds: int = 1000,
    level: float = 0.95,
    rng: np.random.Generator,
) -> dict[str, Agreement]:
    """Agreement in a long table of ratings, one row a rating.

    Parameters
    ----------
    item, rater : arrays of shape (n,)
        Integers or texts; nobody rates an item twice.
    value : array of shape (n,)
        Finite numbers. `percent` and `nominal` only ask whether two are equal; `ordinal` uses their order, `interval`
        their size.
    measures
        Of percent, nominal, ordinal, interval.
    n_rounds
        Bootstrap rounds; 0 for none.
    level
        Confidence of the intervals.

    Returns
    -------
    dict of Agreement by measure
        percent: the share of agreeing pairs of ratings among all pairs on the same item, in [0, 1]. The others:
        Krippendorff's alpha, 1 for perfect and 0 for chance agreement, below 0 for less.

    Notes
    -----
    Krippendorff (2011), Computing Krippendorff's alpha-reliability. Intervals are percentiles over resampled items,
    each item with all its ratings; items with equal counts are pooled, so a round costs the number of distinct
    patterns, whatever the number of ratings. Tested against krippendorff, evalica and a direct double loop.
    """
    unknown = set(measures) - {PERCENT, *LEVELS}
    if unknown:
        raise ValueError(f"unknown measures {sorted(unknown)}; known: {', '.join((PERCENT, *LEVELS))}")
    counts = rating_counts(item, rater, value)
    reason = _too_little(counts)
    if reason:
        return {name: _result(name, counts, math.nan, undefined_interval(reason, level), reason) for name in measures}
    data = _Prepared(counts)
    values = {name: float(data.measure(name, counts.frequency[None].astype(np.float64))[0]) for name in measures}
    rounds: dict[str, list[Array]] = {name: [] for name in measures}
    for draws in pattern_draws(counts.frequency, n_rounds, rng):
        for name in measures:
            rounds[name].append(data.measure(name, draws))
    return {
        name: _result(name, counts, values[name], _interval(rounds[name], level), _undefined(values[name]))
        for name in measures
    }


def krippendorff_alpha(item: ArrayLike, rater: ArrayLike, value: ArrayLike, *, level: str = "nominal") -> float:
    """Krippendorff's alpha alone; nan where undefined."""
    found = agreement(item, rater, value, measures=[level], n_rounds=0, rng=np.random.default_rng(0))
    return found[level].value


def percent_agreement(item: ArrayLike, rater: ArrayLike, value: ArrayLike) -> float:
    """Share of agreeing pairs of ratings on the same item; nan where no item has two."""
    return krippendorff_alpha(item, rater, value, level=PERCENT)


class _Prepared:
    """Per-pattern sums from which every round is a few matrix products.

    With c[p, v] the counts, m[p] their sum and w[p] how often pattern p was drawn: a pair of ratings on one item is
    weighted 1 / (m - 1), as in Krippendorff's coincidence matrix, so that n_v = sum of w c[:, v].
    """

    def __init__(self, counts: RatingCounts) -> None:
        self.counts = counts.patterns.astype(np.float64)
        m = self.counts.sum(axis=1)
        self.per_pair = 1.0 / (m - 1.0)
        self.m = m
        equal = (self.counts * (self.counts - 1.0)).sum(axis=1)
        self.n_pairs = m * (m - 1.0)
        self.n_equal = equal
        centred = counts.values - counts.values.mean()
        self.interval_scores = centred / (np.abs(centred).max() or 1.0)

    def measure(self, name: str, draws: Array) -> Array:
        """One value a round. draws : (r, p)."""
        if name == PERCENT:
            return np.asarray((draws @ self.n_equal) / (draws @ self.n_pairs))
        margins = draws @ self.counts
        total = margins.sum(axis=1)
        if name == "nominal":
            observed = total - draws @ (self.n_equal * self.per_pair)
            expected = total**2 - (margins**2).sum(axis=1)
            return _alpha(observed, expected, total)
        if name == "ordinal":
            # Ordinal distance is the squared difference of midranks, and midranks follow each round's own margins.
            scores = np.cumsum(margins, axis=1) - margins / 2.0
            scores -= total[:, None] / 2.0
        else:
            scores = np.broadcast_to(self.interval_scores, margins.shape)
        return self._squared(draws, margins, total, scores)

    def _squared(self, draws: Array, margins: Array, total: Array, scores: Array) -> Array:
        """Alpha for squared differences of scores (r, v), by moments: sum of (s - t)^2 = 2 (n sum s^2 - (sum s)^2)."""
        weighted = draws * self.per_pair
        squares = ((weighted * self.m) @ self.counts * scores**2).sum(axis=1)
        shared = scores[0] if scores.strides[0] == 0 else None
        if shared is not None:
            cross = weighted @ (self.counts @ shared) ** 2
        else:
            cross = np.einsum("rp,rp->r", weighted, (scores @ self.counts.T) ** 2)
        first = (margins * scores).sum(axis=1)
        expected = total * (margins * scores**2).sum(axis=1) - first**2
        return _alpha(squares - cross, expected, total)


def _alpha(observed: Array, expected: Array, total: Array) -> Array:
    """1 - D_o / D_e; nan where there is no variation to agree on."""
    floor = 1e-12 * np.maximum(expected.max(initial=0.0), 1e-300)
    is_defined = expected > floor
    ratio = np.divide(observed * (total - 1.0), expected, out=np.full(len(total), np.nan), where=is_defined)
    return np.asarray(1.0 - ratio)


def _too_little(counts: RatingCounts) -> str:
    if counts.n_items >= MIN_ITEMS:
        return ""
    items = "1 item has" if counts.n_items == 1 else "no item has"
    return f"not enough overlap: {items} two or more ratings, at least {MIN_ITEMS} are needed"


def _undefined(value: float) -> str:
    return "every rating is the same value, so agreement beyond chance is undefined" if math.isnan(value) else ""


def _interval(rounds: list[Array], level: float) -> Interval:
    if not rounds:
        return undefined_interval("no bootstrap was asked for", level)
    return percentile_interval(np.concatenate(rounds), level)


def _result(name: str, counts: RatingCounts, value: float, interval: Interval, reason: str) -> Agreement:
    return Agreement(
        measure=name,
        value=value,
        low=interval.low,
        high=interval.high,
        n_items=counts.n_items,
        n_ratings=counts.n_ratings,
        n_raters=counts.n_raters,
        n_single=counts.n_single,
        reason=reason or interval.reason,
    )
