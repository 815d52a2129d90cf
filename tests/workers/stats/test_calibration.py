"""Calibration against figures worked by hand, independent computations, and models whose calibration is known."""

import json

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from workers.stats.calibration import (
    calibration,
    cross_fitted,
    ece_interval,
    fit_temperature,
    log_loss,
    sigmoid,
    symmetric,
)
from workers.stats.calibration_report import calibration_report


def margins(n: int, rng: np.random.Generator, *, scale: float = 1.0) -> NDArray[np.float64]:
    """Margins of chosen over rejected where sigmoid(margin / scale) is the true probability."""
    margin_ab = rng.normal(0, 1.2, n)
    is_a = rng.random(n) < 1 / (1 + np.exp(-margin_ab))
    return np.asarray(np.where(is_a, margin_ab, -margin_ab) * scale)


def own_prompts(n: int) -> list[str]:
    return [str(i) for i in range(n)]


def test_by_hand() -> None:
    found = calibration([0.9, 0.9, 0.9, 0.1], [1, 1, 0, 0], n_bins=10)
    assert found.ece == pytest.approx(0.2)
    assert found.mce == pytest.approx(0.2333, abs=5e-5)
    assert found.ace == pytest.approx(0.1667, abs=5e-5)
    assert [b.n for b in found.bins] == [0, 1, 0, 0, 0, 0, 0, 0, 0, 3]


def test_one_belongs_to_the_last_bin_and_borders_to_the_upper() -> None:
    found = calibration([0.0, 0.5, 1.0], [0, 1, 1], n_bins=2)
    assert [b.n for b in found.bins] == [1, 2]
    assert found.bins[1].mean_p == pytest.approx(0.75)


def test_against_an_independent_computation() -> None:
    """As scikit-learn's calibration_curve bins: edges by linspace, one bin at a time."""
    rng = np.random.default_rng(5)
    p = rng.random(4000)
    y = (rng.random(4000) < p**1.5).astype(float)
    found, edges = calibration(p, y, n_bins=15), np.linspace(0, 1, 16)
    place = np.searchsorted(edges[1:-1], p, side="right")
    weighted, gaps = 0.0, []
    for i in range(15):
        here = place == i
        gaps.append(abs(p[here].mean() - y[here].mean()))
        weighted += here.mean() * gaps[-1]
        assert (found.bins[i].mean_p, found.bins[i].share) == (
            pytest.approx(p[here].mean()),
            pytest.approx(y[here].mean()),
        )
    assert (found.ece, found.ace, found.mce) == (
        pytest.approx(weighted),
        pytest.approx(np.mean(gaps)),
        pytest.approx(max(gaps)),
    )


def test_calibrated_rewards_and_rewards_times_three() -> None:
    found = margins(20_000, np.random.default_rng(1))
    assert calibration(*symmetric(found)).ece <= 0.02
    assert calibration(*symmetric(3 * found)).ece >= 0.05


def test_the_symmetric_form_does_not_depend_on_the_stored_order() -> None:
    rng = np.random.default_rng(2)
    found = margins(500, rng)
    p, y = symmetric(found)
    flip = rng.random(500) < 0.5  # each pair stored the other way round: p -> 1 - p, y -> 1 - y
    assert sorted(zip(p, y, strict=True)) == sorted(
        zip(
            np.concatenate([np.where(flip, p[500:], p[:500]), np.where(flip, p[:500], p[500:])]),
            np.concatenate([np.where(flip, 0.0, 1.0), np.where(flip, 1.0, 0.0)]),
            strict=True,
        )
    )
    bins = calibration(p, y).bins
    for lower, upper in zip(bins, bins[::-1], strict=True):
        assert (lower.n, lower.mean_p) == (upper.n, pytest.approx(1 - upper.mean_p))


def test_sigmoid_does_not_overflow() -> None:
    assert sigmoid([-1e4, 0.0, 1e4]).tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("scale", [0.2, 1.0, 3.0, 500.0])
def test_the_temperature_against_a_direct_minimiser(scale: float) -> None:
    found = margins(3000, np.random.default_rng(4), scale=scale)
    fit = fit_temperature(found)
    best = minimize_scalar(
        lambda b: log_loss(found / scale * b), bounds=(0.01, 10), method="bounded", options={"xatol": 1e-10}
    )
    assert fit.converged
    assert fit.temperature == pytest.approx(scale / best.x, rel=1e-5)
    assert fit.temperature == pytest.approx(scale, rel=0.1)


@pytest.mark.parametrize(
    ("margin", "reason"),
    [([0.0, 0.0], "zero"), ([1.0, 2.0], "no pair is wrong"), ([-1.0, -2.0, 1.0], "wrong way"), ([], "zero")],
)
def test_where_no_temperature_is_best(margin: list[float], reason: str) -> None:
    fit = fit_temperature(margin)
    assert np.isnan(fit.temperature)
    assert reason in fit.reason


def test_cross_fitting_repairs_rewards_times_three_on_prompts_it_never_saw() -> None:
    found, prompts = margins(20_000, np.random.default_rng(6), scale=3), own_prompts(20_000)
    after = cross_fitted(found, prompts, rng=np.random.default_rng(0))
    assert after.temperatures == (pytest.approx(3, rel=0.05), pytest.approx(3, rel=0.05))
    assert after.temperatures[0] != after.temperatures[1]
    assert after.after is not None
    assert after.after.ece <= 0.02
    alone = cross_fitted([1.0, -1.0], ["p", "p"], rng=np.random.default_rng(0))
    assert (alone.after, "two prompts" in alone.reason) == (None, True)


@pytest.mark.parametrize(("n", "scale"), [(300, 1.0), (300, 3.0), (2000, 1.0), (2000, 3.0)])
def test_coverage_of_the_interval(n: int, scale: float) -> None:
    rng, covered, n_rounds = np.random.default_rng(8), 0, 150
    truth = calibration(*symmetric(margins(1_000_000, rng, scale=scale))).ece
    for _ in range(n_rounds):
        found = ece_interval(margins(n, rng, scale=scale), own_prompts(n), rng=rng, n_rounds=200)
        covered += found.low <= truth <= found.high
    assert covered / n_rounds >= 0.88


def test_pairs_of_one_prompt_widen_the_interval() -> None:
    rng = np.random.default_rng(9)
    found = np.repeat(margins(200, rng, scale=2), 9)
    apart = ece_interval(found, own_prompts(1800), rng=rng)
    together = ece_interval(found, [str(i // 9) for i in range(1800)], rng=rng)
    assert together.high - together.low > 1.5 * (apart.high - apart.low)


def test_the_report_is_json_and_says_when_pairs_are_few() -> None:
    rng = np.random.default_rng(10)
    few, many = margins(60, rng, scale=2), margins(600, rng, scale=2)
    report = calibration_report(few, own_prompts(60), rng=rng)
    assert "Fewer than 500 pairs" in report["remark"]
    assert report["low"] <= report["ece"] <= report["high"]
    assert sum(b["n"] for b in report["bins"]) == 120
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    full = calibration_report(many, own_prompts(600), rng=rng)
    assert full["remark"] == ""
    assert full["after"]["ece"] < full["ece"]
    rule = calibration_report(np.array([5.0, 9.0]), ["p", "q"], rng=rng)
    assert (rule["after"], rule["temperature"], rule["after_reason"] != "") == (None, None, True)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="outside"):
        calibration([1.2], [1])
    with pytest.raises(ValueError, match="other than 0 and 1"):
        calibration([0.2], [0.5])
    with pytest.raises(ValueError, match="one shape"):
        calibration([], [])
    with pytest.raises(ValueError, match="finite"):
        fit_temperature([float("nan")])
