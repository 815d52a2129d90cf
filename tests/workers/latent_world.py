"""Users of two opposite types, each with some labelled pairs of features; and how well a trained head knows them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.workers.feature_training import FeatureNet, pair_data, seeded, train_head
from workers.nn.latent_user import LatentUserHead
from workers.nn.units import UnitData
from workers.nn.user_pairs import UserPairs
from workers.objectives import OBJECTIVES

WIDTH, SHARPNESS, LATENT = 16, 4.0, 8
Array = np.ndarray[Any, Any]


@dataclass
class World:
    """sign (n,): what the user of each pair truly prefers, +1 for a; kind (users,): 0 or 1; user (n,)."""

    data: UnitData
    sign: Array
    kind: Array
    user: Array

    def rows_of(self, users: Array) -> Array:
        return np.flatnonzero(np.isin(self.user, users))


def opposite_users(n_users: int, n_pairs: int, *, seed: int = 0) -> World:
    """Every user is of one of two types whose tastes are w and -w; labels by Bradley-Terry."""
    rng = np.random.default_rng(seed)
    taste = rng.normal(size=WIDTH)
    taste *= SHARPNESS / np.linalg.norm(taste)
    kind = rng.permutation(np.arange(n_users) % 2)
    user = np.repeat(np.arange(n_users), n_pairs)
    a, b = rng.normal(size=(2, len(user), WIDTH))
    margins = (a - b) @ taste * np.where(kind[user], -1, 1)
    is_a = rng.random(len(user)) < 1 / (1 + np.exp(-margins))
    keys = [f"p{i % (len(user) // 2)}" for i in range(len(user))]
    data = pair_data(a, b, is_a, raters=[f"user {u:03d}" for u in user], keys=keys)
    return World(data, np.sign(margins), kind, user)


def train_latent(
    folder: Path,
    data: UnitData,
    rows: Array,
    *,
    beta: float = 0.01,
    n_steps: int = 600,
    seed: int = 0,
    batch: int = 256,
    rate: float = 2e-3,
    hidden: int = 64,
    latent: int = LATENT,
    max_context: int = 8,
) -> FeatureNet:
    entry = OBJECTIVES.get("latent_user_elbo")
    objective = entry(entry.Config(beta=beta, max_context=max_context, anneal_steps=max(1, n_steps // 4)))
    width = data.features[0].response.shape[1]
    head = seeded(seed, lambda: LatentUserHead(width, latent=latent, hidden=hidden))
    return train_head(folder, head, objective, data, rows, n_steps=n_steps, batch=batch, rate=rate, seed=seed)


def right_share(
    net: FeatureNet, world: World, rows: Array, *, n_context: int, flip: float = 0.0, seed: int = 1
) -> float:
    """Share of pairs ordered as their users truly prefer, from contexts of `n_context` other pairs each.

    flip: share of context labels turned round.
    """
    users, rng = UserPairs(world.data), np.random.default_rng(seed)
    index, mask = users.contexts(rows, least=n_context, most=n_context, rng=rng)
    with torch.inference_mode():
        mu = users.posterior(net, index, mask, flipped=rng.random(index.shape) < flip).mu
        a, b = users.rewards(net, rows, mu)
    return float((np.sign((a - b).numpy()) == world.sign[rows]).mean())


def mostly_agreeing_users(
    n_users: int, n_pairs: int, *, controversial: float = 0.2, seed: int = 0
) -> tuple[World, Array]:
    """Two types that share one taste and oppose each other in another; most pairs differ in the first alone.

    Also returned: which pairs (n,) are controversial.
    """
    common, apart = np.linalg.qr(np.random.default_rng(0).normal(size=(WIDTH, 2)))[0].T
    rng = np.random.default_rng(seed)
    kind = rng.permutation(np.arange(n_users) % 2)
    user = np.repeat(np.arange(n_users), n_pairs)
    a, b = rng.normal(size=(2, len(user), WIDTH))
    is_controversial = rng.random(len(user)) < controversial
    dull = np.where(is_controversial[:, None], common, apart)
    b += ((a - b) * dull).sum(axis=1, keepdims=True) * dull  # no difference in that direction
    margins = SHARPNESS * ((a - b) @ common + np.where(kind[user], -1, 1) * ((a - b) @ apart))
    is_a = rng.random(len(user)) < 1 / (1 + np.exp(-margins))
    data = pair_data(a, b, is_a, raters=[f"user {u:03d}" for u in user])
    return World(data, np.sign(margins), kind, user), is_controversial


@dataclass
class Bandit:
    """utilities (2, arms): what each of two types gets of each arm; labels of the second are ten times as sharp."""

    data: UnitData
    arms: Array
    utilities: Array
    kind: Array


def two_scales(n_users: int, n_pairs: int, *, n_arms: int = 40, seed: int = 0) -> Bandit:
    """Users of two types who compare arms; the Bradley-Terry scales of the types are 3 and 30."""
    rng = np.random.default_rng(seed)
    arms = rng.normal(size=(n_arms, WIDTH))
    utilities = np.stack([arms @ taste / np.linalg.norm(taste) for taste in rng.normal(size=(2, WIDTH))])
    kind = rng.permutation(np.arange(n_users) % 2)
    user = np.repeat(np.arange(n_users), n_pairs)
    left = rng.integers(n_arms, size=len(user))
    right = (left + rng.integers(1, n_arms, size=len(user))) % n_arms
    scale = np.array([3.0, 30.0])[kind[user]]
    margins = scale * (utilities[kind[user], left] - utilities[kind[user], right])
    is_a = rng.random(len(user)) < 1 / (1 + np.exp(-margins))
    raters = [f"user {u:03d}" for u in user]
    return Bandit(pair_data(arms[left], arms[right], is_a, raters=raters), arms, utilities, kind)


def policy_regret(rewards: torch.Tensor, utilities: Array, *, temperature: float) -> float:
    """Mean regret over users of the policy pi(arm | z) proportional to exp(reward / temperature).

    This is what advantage-weighted extraction (as in IQL) makes of uniform behaviour. Rewards (users, arms) are brought
    to spread 1 over all users, so that two kinds of reward get the same temperature; utilities run from 0 (worst arm)
    to 1 (best arm) for each user.
    """
    chosen = torch.softmax(rewards / rewards.std() / temperature, dim=1).numpy()
    low, high = utilities.min(axis=1, keepdims=True), utilities.max(axis=1, keepdims=True)
    return float(1 - (chosen * (utilities - low) / (high - low)).sum(axis=1).mean())


def bandit(folder: Path, seed: int) -> tuple[float, float, float]:
    """The lower comparable reward of two types' best arms, and the regret of one policy with raw and with comparable.

    Temperature 0.5, at which a policy takes arms in proportion to exp(reward / 0.5), rewards of spread 1.
    """
    world = two_scales(200, 32, seed=seed)
    rows = np.arange(len(world.data))
    net = train_latent(folder, world.data, rows, n_steps=400, batch=64, rate=5e-3, beta=1e-3, seed=seed)
    users, arms = UserPairs(world.data), torch.from_numpy(world.arms).float()
    _, index, mask = users.of_users(most=8, rng=np.random.default_rng(0))
    head: Any = net.head
    head.set_references(arms)
    with torch.inference_mode():
        mu = users.posterior(net, index, mask).mu
        outputs = [head(arms, torch.cat([z, torch.ones(1)]).expand(len(arms), -1)) for z in mu]
    raw, comparable = (torch.stack([o[:, k] for o in outputs]) for k in (0, 1))
    if comparable.min() < 0 or comparable.max() > 1:
        raise ValueError("comparable rewards lie in [0, 1]")
    of_types = torch.stack([comparable[torch.from_numpy(world.kind == k)].mean(dim=0) for k in (0, 1)])
    utilities = world.utilities[world.kind]
    lost = [policy_regret(rewards, utilities, temperature=0.5) for rewards in (raw, comparable)]
    return float(of_types.max(dim=1).values.min()), lost[0], lost[1]
