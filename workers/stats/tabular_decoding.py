"""Guided decoding where every sequence can be listed: when does multiplying token by token give the optimal policy?

Sequences of length T over a vocabulary of V tokens are cells of an array of shape (V,) * T. With base policy pi, reward
r and strength beta, the optimum is pi*(y) ~ pi(y) exp(r(y) / beta). Decoding token by token with p(v | prefix) ~
pi(v | prefix) pi_r(v | prefix)^(1 / beta) gives pi* exactly when, at every prefix, pi_r(v | prefix) ~
(pi*(v | prefix) / pi(v | prefix))^beta (Xu et al. 2025, arXiv 2410.08193, worked out again).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.float64]


def token_tables(sequences: Table) -> list[Table]:
    """p(v | prefix) of a distribution over sequences, shape (V,) * T: one table of shape (V,) * (t + 1) a position."""
    tables = []
    for t in range(sequences.ndim):
        marginal = sequences.sum(axis=tuple(range(t + 1, sequences.ndim)))
        tables.append(marginal / marginal.sum(axis=-1, keepdims=True))
    return tables


def sequence_table(tables: list[Table]) -> Table:
    """The distribution over sequences that sampling token by token from `tables` gives."""
    found = tables[0]
    for table in tables[1:]:
        found = found[..., None] * table
    return found


def optimal_policy(base: Table, reward: Table, beta: float) -> Table:
    """pi*(y) ~ base(y) exp(reward(y) / beta), the maximum of E[reward] - beta KL(policy, base)."""
    return _normalised(np.log(base) + reward / beta)


def exact_tokens(base: Table, reward: Table, beta: float) -> list[Table]:
    """The autoregressive reward model that makes guided decoding exact, as tables p(v | prefix).

    base: > 0 everywhere, sums to 1; reward: of the same shape, finite; beta > 0.
    """
    best = zip(token_tables(optimal_policy(base, reward, beta)), token_tables(base), strict=True)
    powers = [(star / own) ** beta for star, own in best]
    return [power / power.sum(axis=-1, keepdims=True) for power in powers]


def chain_rule_tokens(reward: Table) -> list[Table]:
    """The tables of softmax(reward) over whole sequences: normalised as well, but not those that are exact."""
    return token_tables(_normalised(reward))


def guided(base: Table, arm: list[Table], alpha: float) -> Table:
    """What decoding token by token from base * arm^alpha gives, renormalised at every token."""
    mixed = [own * power**alpha for own, power in zip(token_tables(base), arm, strict=True)]
    return sequence_table([table / table.sum(axis=-1, keepdims=True) for table in mixed])


def guided_whole(base: Table, arm: list[Table], alpha: float) -> Table:
    """The same product renormalised once over whole sequences, which no decoder can do."""
    return _normalised(np.log(base) + alpha * np.log(sequence_table(arm)))


def total_variation(left: Table, right: Table) -> float:
    """Half the sum of absolute differences, in [0, 1]."""
    return float(np.abs(left - right).sum() / 2)


def _normalised(logs: Table) -> Table:
    weights = np.exp(logs - logs.max())
    found: Table = weights / weights.sum()
    return found
