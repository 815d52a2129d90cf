"""What defines the likelihood families, where everything can be listed."""

import itertools

import numpy as np
import pytest
import torch

from workers.nn.losses import pairwise_loss
from workers.stats.tabular_decoding import (
    chain_rule_tokens,
    exact_tokens,
    guided,
    guided_whole,
    optimal_policy,
    sequence_table,
    token_tables,
    total_variation,
)


@pytest.fixture
def world():
    """Four tokens, three places, 64 sequences, beta 0.7."""
    rng = np.random.default_rng(1)
    base = rng.dirichlet(np.ones(64)).reshape(4, 4, 4)
    return base, rng.normal(size=(4, 4, 4)), 0.7


def test_guided_decoding_is_exact_under_the_condition_and_not_by_the_chain_rule(world) -> None:
    base, reward, beta = world
    best = optimal_policy(base, reward, beta)
    exact = guided(base, exact_tokens(base, reward, beta), 1 / beta)
    by_chain = guided(base, chain_rule_tokens(reward), 1 / beta)
    whole = guided_whole(base, chain_rule_tokens(reward), 1 / beta)
    found = [total_variation(best, other) for other in (exact, by_chain, whole)]
    print("total variation: exact {:.2g}, chain rule {:.4f}, renormalised whole {:.2g}".format(*found))
    assert found[0] < 1e-6
    assert found[1] > 0.02
    assert found[2] < 1e-6


def test_the_optimum_is_one(world) -> None:
    """No other policy has more reward less beta times its divergence from the base."""
    base, reward, beta = world
    rng = np.random.default_rng(2)

    def value(policy):
        return (policy * reward).sum() - beta * (policy * np.log(policy / base)).sum()

    best = optimal_policy(base, reward, beta)
    for size in (1e-3, 0.1, 1.0):
        moved = best * np.exp(size * rng.normal(size=best.shape))
        assert value(moved / moved.sum()) < value(best)


def test_tables_and_sequences_are_each_other(world) -> None:
    base, _, _ = world
    assert np.allclose(sequence_table(token_tables(base)), base)
    assert all(np.allclose(table.sum(axis=-1), 1) for table in token_tables(base))
    assert total_variation(base, base) == 0
    assert guided(base, token_tables(np.full((4, 4, 4), 1 / 64)), 3.0) == pytest.approx(base)


def test_with_full_coverage_explicit_and_implicit_reward_agree() -> None:
    """30 prompts, 4 responses with a logit each, soft labels: both are the true reward up to a constant a prompt."""
    rng = np.random.default_rng(0)
    true = rng.normal(size=(30, 4))
    pairs = np.array(list(itertools.combinations(range(4), 2)))
    target = 1 / (1 + np.exp(-(true[:, pairs[:, 0]] - true[:, pairs[:, 1]])))
    reference = torch.log_softmax(torch.from_numpy(rng.normal(size=(30, 4))), dim=1)

    def fitted(reward_of) -> np.ndarray:
        free = torch.zeros(30, 4, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([free], lr=1.0, max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

        def closure():
            optimizer.zero_grad()
            rewards = reward_of(free)
            margin = (rewards[:, pairs[:, 0]] - rewards[:, pairs[:, 1]]).flatten()
            ones = np.ones(len(margin))
            loss = pairwise_loss(margin, target=target.flatten(), weight=ones, offset=0 * ones).mean()
            loss.backward()
            return loss

        optimizer.step(closure)
        found = reward_of(free).detach().numpy()
        return found - found.mean(axis=1, keepdims=True)

    explicit = fitted(lambda free: free)
    implicit = fitted(lambda free: 0.1 * (torch.log_softmax(free, dim=1) - reference))
    centred = true - true.mean(axis=1, keepdims=True)
    for one, other in ((explicit, centred), (implicit, centred), (explicit, implicit)):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] >= 0.99
        assert np.abs(one - other).max() <= 0.05
