"""How often a model puts the chosen response above the rejected one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from workers.stats.clusters import ClusterSums, Method, cluster_sums, share_interval


@dataclass(frozen=True, slots=True)
class PairwiseAccuracy:
    """Accuracy on n non-tie pairs with its interval; all nan with a reason where there are none.

    `interval` says which one it is, `n_prompts` how many prompts the pairs have, `n_effective` how many independent
    pairs they are worth (workers/stats/clusters.py). Without prompts each pair counts as a prompt of its own.
    """

    accuracy: float
    low: float
    high: float
    n: int
    n_correct: int
    n_zero: int
    mean_margin: float
    reason: str = ""
    interval: Method = "wilson"
    n_prompts: int = 0
    n_effective: float = 0.0


def pairwise_accuracy(
    margin: ArrayLike, *, prompts: Sequence[str] | None = None, level: float = 0.95
) -> PairwiseAccuracy:
    """Share of pairs with a margin above zero.

    Parameters
    ----------
    margin : array of shape (n,)
        r(chosen) - r(rejected) in reward units, finite, for pairs with a verdict other than a tie.
    prompts
        Prompt of each pair: pairs of one prompt are not independent, and the interval allows for it. None: all differ.
    level
        Confidence of the interval.

    Returns
    -------
    PairwiseAccuracy
        A zero margin is wrong: a model that cannot tell the two apart earns nothing. `n_zero` says how many there were.
    """
    values = np.asarray(margin, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"margin must have shape (n,), got {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"margin holds {int((~np.isfinite(values)).sum())} values that are not finite numbers")
    n = len(values)
    if n == 0:
        return PairwiseAccuracy(math.nan, math.nan, math.nan, 0, 0, 0, math.nan, "no pairs with a chosen response")
    right = values > 0
    n_correct = int(right.sum())
    sums = ClusterSums(n, n_correct, n, 0, 0, 0) if prompts is None else cluster_sums(right, prompts)
    found = share_interval(sums, level=level)
    return PairwiseAccuracy(
        accuracy=n_correct / n,
        low=found.low,
        high=found.high,
        n=n,
        n_correct=n_correct,
        n_zero=int((values == 0).sum()),
        mean_margin=float(values.mean()),
        interval=found.method,
        n_prompts=found.n_clusters,
        n_effective=found.n_effective,
    )


def accuracy_by_slice(
    margin: ArrayLike, slices: Sequence[str], *, prompts: Sequence[str] | None = None, level: float = 0.95
) -> dict[str, PairwiseAccuracy]:
    """pairwise_accuracy of each group of pairs; `slices` names the group of each margin. Groups come sorted by name."""
    values = np.asarray(margin, dtype=np.float64)
    if len(slices) != len(values):
        raise ValueError(f"{len(slices)} slice names for {len(values)} margins")
    names, inverse = np.unique(np.asarray(slices, dtype=object).astype(str), return_inverse=True)
    keys = None if prompts is None else np.asarray(prompts, dtype=object)
    found = {}
    for place, name in enumerate(names):
        here = inverse == place
        inside = None if keys is None else keys[here].tolist()
        found[str(name)] = pairwise_accuracy(values[here], prompts=inside, level=level)
    return found
