"""What pushing harder on a proxy reward does to the gold reward, where every response can be listed.

A tabular softmax policy has one probability a prompt and response. The maximum of E[reward] - beta KL(policy, base) is
known, base * exp(reward / beta), so no training stands between a reward and what it leads to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PolicyCurve:
    """By strength of optimisation, each of shape (b,): gold_reward, proxy_reward and kl in nats, means over prompts."""

    gold_reward: Array
    proxy_reward: Array
    kl: Array


def tilted_policy(base: Array, reward: Array, beta: float) -> Array:
    """The best policy under a KL penalty beta > 0, (prompts, responses): base * exp(reward / beta), rows of sum 1."""
    logs = np.log(base) + reward / beta
    weights = np.exp(logs - logs.max(axis=1, keepdims=True))
    found: Array = weights / weights.sum(axis=1, keepdims=True)
    return found


def policy_curve(base: Array, proxy: Array, gold: Array, betas: Sequence[float]) -> PolicyCurve:
    """Follow the best policy for a proxy reward as the penalty falls. base, proxy, gold: (prompts, responses)."""
    rows = []
    for beta in betas:
        policy = tilted_policy(base, proxy, beta)
        inside = np.where(policy > 0, policy * np.log(np.maximum(policy, 1e-300) / base), 0.0)
        rows.append([(policy * gold).sum(1).mean(), (policy * proxy).sum(1).mean(), inside.sum(1).mean()])
    gold_reward, proxy_reward, kl = np.array(rows, dtype=np.float64).T
    return PolicyCurve(gold_reward, proxy_reward, kl)


def best_of_n(proxy: Array, gold: Array, n: int) -> float:
    """Expected gold reward of the response of the highest proxy among n drawn evenly with replacement, over prompts.

    proxy, gold: (prompts, responses). Exact: the i-th lowest of m is the best of n with probability
    (i / m)^n - ((i - 1) / m)^n. Equal proxies keep their order.
    """
    m = proxy.shape[1]
    share = (np.arange(m + 1) / m) ** n
    order = np.argsort(proxy, axis=1, kind="stable")
    return float((np.take_along_axis(gold, order, axis=1) * np.diff(share)).sum(axis=1).mean())
