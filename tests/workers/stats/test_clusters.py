"""Intervals of a share whose trials come in clusters, against independent computations and in simulation."""

import numpy as np
import pytest
from scipy import stats

from workers.stats.clusters import ClusterSums, cluster_sums, share_interval, student_quantile, widening
from workers.stats.intervals import wilson_interval
from workers.stats.metrics import accuracy_by_slice, pairwise_accuracy


@pytest.mark.parametrize("df", [1, 2, 3, 4, 7, 30, 1000])
def test_student_quantile(df: int) -> None:
    assert student_quantile(0.975, df) == pytest.approx(stats.t.ppf(0.975, df), rel=2e-3)


def test_sums_by_hand() -> None:
    found = cluster_sums([True, False, True, True], ["p", "q", "p", "q"])
    assert found == ClusterSums(n=4, k=3, n_clusters=2, kk=5.0, kn=6.0, nn=8.0)


def test_without_repeated_clusters_it_is_wilsons() -> None:
    found = share_interval(cluster_sums([True] * 7 + [False] * 3, [str(i) for i in range(10)]))
    plain = wilson_interval(7, 10)
    assert (found.low, found.high, found.method, found.n_effective) == (plain.low, plain.high, "wilson", 10.0)


def test_the_effective_number_by_another_way() -> None:
    """The variance of a ratio estimate, as a jackknife over clusters of equal size gives it exactly."""
    rng = np.random.default_rng(3)
    right = rng.random((40, 9)) < rng.beta(2, 1, size=(40, 1))
    names = [str(i) for i in range(40) for _ in range(9)]
    found = share_interval(cluster_sums(right.ravel(), names))
    means = right.mean(axis=1)
    share = means.mean()
    variance = means.var(ddof=1) / 40
    expected = share * (1 - share) / variance * (stats.norm.ppf(0.975) / stats.t.ppf(0.975, 39)) ** 2
    assert found.n_effective == pytest.approx(expected, rel=1e-6)
    assert found.method == "wilson_effective_n"
    assert found.n_clusters == 40


@pytest.mark.parametrize(("n_prompts", "mean"), [(15, 0.7), (60, 0.7), (60, 0.9)])
def test_coverage_with_nine_pairs_a_prompt(n_prompts: int, mean: float) -> None:
    """As RM-Bench has them: the interval holds its 95 %, where the one that takes pairs as independent does not."""
    rng, n_rounds, covered, covered_plain = np.random.default_rng(7), 1500, 0, 0
    for _ in range(n_rounds):
        k = rng.binomial(9, rng.beta(mean * 2, (1 - mean) * 2, size=n_prompts))
        sums = ClusterSums(9 * n_prompts, int(k.sum()), n_prompts, float(k @ k), float(9 * k.sum()), 81.0 * n_prompts)
        found, plain = share_interval(sums), wilson_interval(sums.k, sums.n)
        covered += found.low <= mean <= found.high
        covered_plain += plain.low <= mean <= plain.high
    assert 0.93 <= covered / n_rounds <= 0.97
    assert covered_plain / n_rounds < 0.85


def test_all_right_is_worth_the_number_of_prompts() -> None:
    found = share_interval(cluster_sums([True] * 18, [str(i % 2) for i in range(18)]))
    plain = wilson_interval(2, 2)
    assert (found.low, found.high, found.n_effective) == (plain.low, plain.high, 2.0)
    one = share_interval(cluster_sums([True, False, True], ["p"] * 3))
    assert one.n_effective == 1.0
    assert 0 < one.low < 2 / 3 < one.high < 1


def test_never_narrower_than_independent_pairs() -> None:
    """One right and one wrong in each prompt: the pairs are less alike than by chance."""
    found = share_interval(cluster_sums([True, False] * 10, [str(i // 2) for i in range(20)]))
    plain = wilson_interval(10, 20)
    assert (found.low, found.high) == (pytest.approx(plain.low), pytest.approx(plain.high))


def test_widening() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=50)
    assert widening(values, [str(i) for i in range(50)]) == 1.0
    doubled = widening(np.repeat(values, 4), [str(i) for i in range(50) for _ in range(4)])
    effect = 50 / 49 * 4  # each value four times over
    expected = np.sqrt(effect) * stats.t.ppf(0.975, 49) / stats.norm.ppf(0.975)
    assert doubled == pytest.approx(expected, rel=1e-6)
    assert widening([1.0, 0.0, 1.0, 0.0], ["p"] * 4) == 2.0
    assert widening([0.0] * 4, ["p", "p", "q", "q"]) == 1.0


def test_accuracy_says_which_interval_it_has() -> None:
    margins, prompts = [1.0, 2.0, -1.0, 0.0], ["p", "p", "q", "q"]
    plain, grouped = pairwise_accuracy(margins), pairwise_accuracy(margins, prompts=prompts)
    assert (plain.interval, plain.n_prompts) == ("wilson", 4)
    assert (grouped.interval, grouped.n_prompts, grouped.n_correct) == ("wilson_effective_n", 2, 2)
    assert grouped.high - grouped.low > plain.high - plain.low
    parts = accuracy_by_slice(margins, ["x", "x", "y", "y"], prompts=["p", "q", "p", "q"])
    assert {name: part.interval for name, part in parts.items()} == {"x": "wilson", "y": "wilson"}
