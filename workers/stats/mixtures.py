"""What a mixture of reward heads shows: how many tastes, who holds which, and whether one reward would do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean with its 95 % normal interval; nan below two values."""

    value: float
    low: float
    high: float
    n: int


def mean_with_interval(values: Array) -> Mean:
    """Mean of independent values, shape (n,)."""
    n = len(values)
    if n < 2:
        return Mean(float(values[0]) if n else math.nan, math.nan, math.nan, n)
    middle, half = float(values.mean()), 1.959964 * float(values.std(ddof=1)) / math.sqrt(n)
    return Mean(middle, middle - half, middle + half, n)


def log_sigmoid(x: Array) -> Array:
    return np.asarray(-np.logaddexp(0.0, -x))


def log_likelihoods(log_weights: Array, margins: Array) -> Array:
    """log sum_k f_k sigmoid(D_k) of each pair, shape (n,); both arguments (n, K), margins towards the preferred."""
    return np.asarray(np.logaddexp.reduce(log_weights + log_sigmoid(margins), axis=1))


def head_correlations(margins: Array) -> Array:
    """Pearson correlation of the heads' margins D of shape (n, K): (K, K). A head that says nothing correlates 0."""
    centred = margins - margins.mean(axis=0)
    size = np.sqrt((centred**2).sum(axis=0))
    scaled = np.divide(centred, size, out=np.zeros_like(centred), where=size > 1e-12)
    found: Array = scaled.T @ scaled
    np.fill_diagonal(found, 1.0)
    return found


def merge_heads(correlations: Array, *, threshold: float = 0.9) -> list[list[int]]:
    """Heads joined where their margins correlate above the threshold, directly or through others. Largest first."""
    left, clusters = set(range(len(correlations))), []
    while left:
        cluster, border = set[int](), {min(left)}
        while border:
            cluster |= border
            border = {j for i in border for j in left - cluster if correlations[i, j] > threshold}
        left -= cluster
        clusters.append(sorted(cluster))
    return sorted(clusters, key=lambda c: (-len(c), c))


@dataclass(frozen=True, slots=True)
class Membership:
    """P(cluster of heads | a rater's pairs), with the 95 % interval of resampling these pairs. An estimate, no fact."""

    rater: str
    n: int
    shares: list[float]
    low: list[float]
    high: list[float]


def memberships(
    margins: Array,
    log_prior: Array,
    raters: Sequence[str],
    clusters: Sequence[Sequence[int]],
    *,
    rng: np.random.Generator,
    n_resamples: int = 200,
) -> list[Membership]:
    """Which heads explain whose pairs: proportional to prior times the product of sigmoid(D_ik) over a rater's pairs.

    Parameters
    ----------
    margins : ndarray of shape (n, K)
        Towards the preferred response.
    log_prior : ndarray of shape (K,)
        Log of the mean router weight of each head.
    raters : sequence of n names
        Pairs without a name are left out.
    clusters : lists of head numbers
        Heads that are one taste (merge_heads); their probabilities are added up.

    Returns
    -------
    list of Membership
        Most pairs first.
    """
    log_p, names = log_sigmoid(margins), np.array(raters, dtype=object)
    found = []
    for name in sorted({r for r in raters if r}):
        own = log_p[names == name]
        counts = rng.multinomial(len(own), np.full(len(own), 1 / len(own)), size=n_resamples)
        shares = _shares(log_prior + own.sum(axis=0)[None], clusters)[0]
        low, high = np.quantile(_shares(log_prior + counts @ own, clusters), [0.025, 0.975], axis=0)
        found.append(Membership(name, len(own), shares.tolist(), low.tolist(), high.tolist()))
    return sorted(found, key=lambda m: (-m.n, m.rater))


def _shares(log_joint: Array, clusters: Sequence[Sequence[int]]) -> Array:
    p = np.exp(log_joint - log_joint.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return np.stack([p[:, list(cluster)].sum(axis=1) for cluster in clusters], axis=1)


def entropy(p: Array) -> Array:
    """Binary entropy in nats, elementwise, for p in [0, 1]."""
    q = np.clip(p, 1e-300, 1 - 1e-16)
    return np.asarray(-q * np.log(q) - (1 - q) * np.log1p(-q))


@dataclass(frozen=True, slots=True)
class SingleRewardBound:
    """Least cross-entropy, in nats, that any single reward can reach where groups differ.

    oracle: of one who knows the group behind each label; published, pairwise: lower bounds of a single reward's.
    """

    oracle: float
    published: float
    pairwise: float


def single_reward_bound(group_shares: Array, preferences: Array, *, prompt_weights: Array) -> SingleRewardBound:
    """Shen et al. (2025), with the variance taken of the prompt's mean over pairs (published) and pair by pair.

    Parameters
    ----------
    group_shares : ndarray of shape (m, K)
        f_k(x), rows add up to 1; rho is their least entry.
    preferences : ndarray of shape (m, p, K)
        s_k: P(a preferred) of group k on pair p of prompt x. Pairs of a prompt are equally likely.
    prompt_weights : ndarray of shape (m,)
        P(x), adding up to 1.

    Notes
    -----
    CE(q) - sum_k f_k H(s_k) = sum_k f_k KL(s_k || q) >= 2 sum_k f_k (s_k - q)^2 (Pinsker) >= 2 rho K Var_k(s_k).
    """
    n_groups = group_shares.shape[1]
    rho = float(group_shares.min())
    oracle = (group_shares[:, None, :] * entropy(preferences)).sum(axis=2).mean(axis=1) @ prompt_weights
    of_means = preferences.mean(axis=1).var(axis=1) @ prompt_weights
    of_pairs = preferences.var(axis=2).mean(axis=1) @ prompt_weights
    scale = 2 * rho * n_groups
    return SingleRewardBound(float(oracle), float(oracle + scale * of_means), float(oracle + scale * of_pairs))
