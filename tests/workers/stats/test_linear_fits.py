"""Ridge, logistic regression on differences and the verbosity transform, against direct computations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import spearmanr

from workers.stats.debias import PENALTIES, debias
from workers.stats.pair_logistic import PairData, choose_penalty, fit_pairs, pair_loss
from workers.stats.ridge import ALPHAS, ridge, ridge_search


def pair_data(n: int, d: int, *, seed: int = 0, flip: float = 0.0) -> tuple[PairData, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth, x = rng.normal(size=d), rng.normal(size=(n, d))
    target = (rng.random(n) < 1 / (1 + np.exp(-x @ truth))).astype(float)
    target = np.where(rng.random(n) < flip, 1 - target, target)
    return PairData(x, target, rng.uniform(0.5, 2, n), np.zeros(n)), truth


# --- ridge


@pytest.mark.parametrize("shape", [(60, 8), (12, 40)], ids=["tall", "wide"])
def test_ridge_is_the_closed_form(shape) -> None:
    rng = np.random.default_rng(0)
    x, y, w = rng.normal(size=shape), rng.normal(size=shape[0]), rng.uniform(0.1, 3, shape[0])
    for alpha in ALPHAS:
        direct = np.linalg.solve(x.T @ x + alpha * np.eye(shape[1]), x.T @ y)
        found = ridge(x, y, alpha)
        assert found.coefficients == pytest.approx(direct, abs=1e-7)
        assert found.intercept == 0.0
        weighted = np.linalg.solve(x.T @ (w[:, None] * x) + alpha * np.eye(shape[1]), x.T @ (w * y))
        assert ridge(x, y, alpha, weight=w).coefficients == pytest.approx(weighted, abs=1e-7)


def test_an_intercept_is_not_penalised() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(50, 3))
    found = ridge(x, x @ [1.0, 2.0, 3.0] + 7, 1e-9, intercept=True)
    assert found.coefficients == pytest.approx([1, 2, 3])
    assert found.intercept == pytest.approx(7)
    shifted = ridge(x + 5, x @ [1.0, 2.0, 3.0] + 7, 1e4, intercept=True)
    assert (x + 5).mean(axis=0) @ shifted.coefficients + shifted.intercept == pytest.approx(
        float((x @ [1.0, 2.0, 3.0]).mean()) + 7
    )


def test_the_penalty_is_chosen_by_the_held_out_rows_and_the_search_is_reproducible() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(80, 40))
    fold = np.arange(80) % 5
    noisy = ridge_search(x, rng.normal(size=80), fold)
    clean = ridge_search(x, x @ rng.normal(size=40), fold)
    assert noisy.alpha > 10
    assert clean.alpha == 1e-4
    assert clean.is_at_edge
    assert set(clean.errors) == set(ALPHAS)
    again = ridge_search(x, x @ np.random.default_rng(2).normal(size=40), fold)
    assert ridge_search(x, x @ np.random.default_rng(2).normal(size=40), fold).errors == again.errors
    with pytest.raises(ValueError, match="two folds"):
        ridge_search(x, x[:, 0], np.zeros(80, dtype=int))
    with pytest.raises(ValueError, match="above 0"):
        ridge(x, x[:, 0], 0.0)


# --- logistic regression on differences


@pytest.mark.parametrize("shape", [(200, 6), (30, 80)], ids=["tall", "wide"])
def test_newton_finds_what_bfgs_finds(shape) -> None:
    data, _ = pair_data(*shape)
    data = PairData(data.difference, 0.9 * data.target + 0.05, data.weight, np.linspace(-0.3, 0.3, shape[0]))
    found = fit_pairs(data, 0.01)
    direct = minimize(lambda b: pair_loss(data, b) + 0.005 * b @ b, np.zeros(shape[1]), method="BFGS", tol=1e-9)
    assert found.converged
    assert found.gradient <= 1e-8
    assert found.n_iter < 15
    assert found.coefficients == pytest.approx(direct.x, abs=1e-4)
    assert found.loss == pytest.approx(pair_loss(data, found.coefficients))


def test_exchanging_responses_and_doubling_the_data_change_nothing() -> None:
    data, _ = pair_data(100, 5)
    plain = fit_pairs(data, 0.1).coefficients
    turned = PairData(-data.difference, 1 - data.target, data.weight, -data.offset)
    assert fit_pairs(turned, 0.1).coefficients == pytest.approx(plain, abs=1e-9)
    both = data.rows(np.r_[np.arange(100), np.arange(100)])
    assert fit_pairs(both, 0.1).coefficients == pytest.approx(plain, abs=1e-9)


def test_separable_pairs_stay_finite_and_what_did_not_converge_says_so() -> None:
    x = np.random.default_rng(3).normal(size=(40, 10))
    data = PairData(np.abs(x), np.ones(40), np.ones(40), np.zeros(40))
    found = fit_pairs(data, 1e-5)
    assert found.converged
    assert np.isfinite(found.coefficients).all()
    assert not fit_pairs(data, 1e-5, max_iter=2).converged
    with pytest.raises(ValueError, match="weight above 0"):
        fit_pairs(PairData(x, np.ones(40), np.zeros(40), np.zeros(40)), 1.0)


def test_cross_validation_shrinks_noise_and_keeps_signal() -> None:
    fold = np.arange(300) % 5
    clear, truth = pair_data(300, 5)
    noise, _ = pair_data(300, 50, flip=0.5)
    found = choose_penalty(clear, fold)
    assert found.penalty < 0.1
    assert choose_penalty(noise, fold).penalty > 1
    assert found.n_folds == 5
    assert found.n_not_converged == 0
    assert found.losses[found.penalty] == min(found.losses.values()) < math.log(2)
    b = fit_pairs(clear, found.penalty).coefficients
    assert np.corrcoef(b, truth)[0, 1] > 0.97
    with pytest.raises(ValueError, match="two folds"):
        choose_penalty(clear, np.zeros(300, dtype=int))


# --- verbosity


def wordy_world(n: int = 1500, seed: int = 0) -> np.ndarray:
    """Ratings of which all but the last, verbosity, hold half of it and something of their own."""
    rng = np.random.default_rng(seed)
    verbosity = rng.normal(size=n)
    return np.column_stack([rng.normal(size=(n, 4)) + 0.5 * verbosity[:, None], verbosity])


def test_what_every_attribute_owes_to_verbosity_is_taken_out() -> None:
    rewards = wordy_world()
    found = debias(rewards, 4)
    clean = rewards @ found.transform
    assert (found.before[:4] > 0.3).all()
    for i in range(4):
        assert spearmanr(clean[:, i], rewards[:, 4]).statistic <= 0.03
        assert spearmanr(clean[:, i], rewards[:, 4]).statistic == pytest.approx(found.after[i])
        below = [p for p in PENALTIES if p < found.penalties[i]]
        assert all(spearmanr(rewards[:, i] - p * rewards[:, 4], rewards[:, 4]).statistic > 0.03 for p in below)
    assert found.penalties[:4] == pytest.approx(0.5, abs=0.1)
    assert found.penalties[4] == 1
    assert (clean[:, 4] == 0).all()
    assert found.reached.all()


def test_what_never_gets_there_is_reported() -> None:
    rewards = wordy_world()
    rewards[:, 0] = 3 * rewards[:, 4]
    found = debias(rewards, 4)
    assert (found.penalties[0], bool(found.reached[0])) == (1.0, False)
    assert found.after[0] > 0.9


def test_the_limit_is_one_sided() -> None:
    rewards = wordy_world()
    rewards[:, 0] -= 2 * rewards[:, 4]
    found = debias(rewards, 4)
    assert found.penalties[0] == 0
    assert found.before[0] == found.after[0] < -0.5


def test_correlations_are_of_single_responses_not_of_differences() -> None:
    """A prompt that asks for length lifts both of its responses: differences would not show it."""
    rng = np.random.default_rng(4)
    common = np.repeat(rng.normal(size=400), 2)
    verbosity = common + 0.1 * rng.normal(size=800)
    merit = common + 0.1 * rng.normal(size=800)
    found = debias(np.column_stack([merit, verbosity]), 1)
    assert abs(spearmanr(merit[::2] - merit[1::2], verbosity[::2] - verbosity[1::2]).statistic) < 0.2
    assert found.before[0] > 0.9
    assert found.penalties[0] > 0.8


def test_verbosity_that_does_not_vary_is_refused() -> None:
    with pytest.raises(ValueError, match="verbosity that varies"):
        debias(np.ones((5, 2)), 1)


def test_the_grid_is_the_one_of_the_paper() -> None:
    assert PENALTIES[:9] == (0.0, 0.01, 0.025, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2)
    assert PENALTIES[-1] == 0.95
    assert np.diff(PENALTIES[8:]) == pytest.approx(0.05)
