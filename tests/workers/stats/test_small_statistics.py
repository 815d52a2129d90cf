"""Intervals, McNemar, accuracy, majority and the general bootstrap, against other packages and by hand."""

from __future__ import annotations

import gzip
import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from tests.shared import shared_data
from workers.stats.bootstrap import bootstrap_interval, percentile_interval
from workers.stats.intervals import wilson_interval
from workers.stats.majority import VERDICTS, majority
from workers.stats.metrics import accuracy_by_slice, pairwise_accuracy
from workers.stats.paired import mcnemar_exact, sign_flip_exact

COUNTS = st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(COUNTS, st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_as_statsmodels(counts: tuple[int, int], level: float) -> None:
    k, n = counts
    found = wilson_interval(k, n, level)
    low, high = proportion_confint(k, n, alpha=1 - level, method="wilson")
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))
    assert 0 <= found.low <= k / n <= found.high <= 1
    mirrored = wilson_interval(n - k, n, level)
    assert (1 - mirrored.high, 1 - mirrored.low) == (pytest.approx(found.low), pytest.approx(found.high))


def test_wilson_borders_and_bad_input() -> None:
    assert math.isnan(wilson_interval(0, 0).low)
    assert wilson_interval(0, 0).reason == "no trials"
    assert not wilson_interval(0, 0).is_defined
    assert wilson_interval(0, 5).low == 0.0
    assert wilson_interval(5, 5).high == 1.0
    for k, n, level in ((3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0)):
        with pytest.raises(ValueError, match="must lie between"):
            wilson_interval(k, n, level)


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_as_statsmodels_and_scipy(a: int, b: int) -> None:
    found = mcnemar_exact(a, b)
    assert found.p_value == mcnemar_exact(b, a).p_value
    assert found.p_value == pytest.approx(mcnemar([[0, a], [b, 0]], exact=True).pvalue, rel=1e-9)
    if a + b:
        assert found.p_value == pytest.approx(binomtest(a, a + b).pvalue, rel=1e-9)
        mid = mcnemar_exact(a, b, mid_p=True).p_value
        expected = 2 * binom.cdf(min(a, b), a + b, 0.5) - binom.pmf(min(a, b), a + b, 0.5)
        if a == b:  # Fagerland, Lydersen and Laake: then half the observed outcome comes off once, not twice
            expected = 1 - binom.pmf(a, a + b, 0.5) / 2
        assert mid == pytest.approx(min(1.0, expected), rel=1e-8)


@pytest.mark.parametrize(("a", "b"), [(0, 1), (3, 9), (40, 61), (700, 520), (5000, 4700)])
def test_flipping_signs_of_single_pairs_is_mcnemar(a: int, b: int) -> None:
    difference = [-1] * a + [1] * b + [0] * 7
    found = sign_flip_exact(difference, [str(i) for i in range(len(difference))])
    assert found.p_value == pytest.approx(mcnemar_exact(a, b).p_value, rel=1e-9)
    assert (found.n_prompts, found.n_informative) == (a + b + 7, a + b)


def test_flipping_signs_of_prompts_as_by_counting_all() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        difference = rng.integers(-1, 2, size=24)
        prompts = [f"p{i}" for i in rng.integers(0, 8, size=24)]
        sums = np.array([difference[[p == name for p in prompts]].sum() for name in sorted(set(prompts))])
        signs = np.array(list(itertools.product((-1, 1), repeat=len(sums))))
        exact = np.mean(np.abs(signs @ sums) >= abs(sums.sum()))
        assert sign_flip_exact(difference, prompts).p_value == pytest.approx(exact, abs=1e-12)
    assert sign_flip_exact([1, -1], ["p", "p"]).p_value == 1.0
    with pytest.raises(ValueError, match="1 cluster names for 2 pairs"):
        sign_flip_exact([1, -1], ["p"])


def test_a_copied_pair_makes_mcnemar_surer_and_not_the_test_by_prompt() -> None:
    once, prompts = [1] * 6 + [-1] * 2, [str(i) for i in range(8)]
    assert sign_flip_exact(once * 3, prompts * 3).p_value == pytest.approx(sign_flip_exact(once, prompts).p_value)
    assert mcnemar_exact(6, 18).p_value < mcnemar_exact(2, 6).p_value / 10


def test_mcnemar_borders() -> None:
    assert mcnemar_exact(0, 0).p_value == 1.0
    assert mcnemar_exact(0, 5).p_value == pytest.approx(2 / 32)
    assert mcnemar_exact(100_000, 101_000).p_value == pytest.approx(binomtest(100_000, 201_000).pvalue, rel=1e-6)
    with pytest.raises(ValueError, match="negative"):
        mcnemar_exact(-1, 2)


def test_accuracy_counts_a_zero_margin_as_wrong() -> None:
    found = pairwise_accuracy([1.0, 0.0, -1.0, 2.0])
    assert (found.accuracy, found.n, found.n_correct, found.n_zero, found.mean_margin) == (0.5, 4, 2, 1, 0.5)
    assert (found.low, found.high) == (wilson_interval(2, 4).low, wilson_interval(2, 4).high)
    nothing = pairwise_accuracy([])
    assert math.isnan(nothing.accuracy)
    assert nothing.reason
    with pytest.raises(ValueError, match="not finite"):
        pairwise_accuracy([1.0, math.nan])
    with pytest.raises(ValueError, match="shape"):
        pairwise_accuracy([[1.0]])


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=50))
def test_swapping_chosen_and_rejected_mirrors_accuracy(margins: list[int]) -> None:
    forward, backward = pairwise_accuracy(margins), pairwise_accuracy([-value for value in margins])
    assert forward.n_correct + backward.n_correct + forward.n_zero == len(margins)
    assert forward.mean_margin == -backward.mean_margin


def test_accuracy_by_slice() -> None:
    found = accuracy_by_slice([1.0, -1.0, 2.0], ["b", "a", "b"])
    assert list(found) == ["a", "b"]
    assert (found["a"].accuracy, found["b"].accuracy) == (0.0, 1.0)
    assert accuracy_by_slice([], []) == {}
    with pytest.raises(ValueError, match="slice names"):
        accuracy_by_slice([1.0], [])


def test_accuracy_of_real_reward_models() -> None:
    """JudgeBench's stored scores give the published accuracies."""
    reference = json.loads(shared_data("reference_figures.json").read_text())["judgebench_reward_models"]
    raw = gzip.decompress(shared_data("judgebench/reward_model_scores.part.jsonl.gz").read_bytes())
    margins: dict[str, list[float]] = {}
    for row in map(json.loads, raw.splitlines()):
        sign = 1.0 if row["label"] == "A>B" else -1.0
        scores = row["judgments"][0]["scores"]
        margins.setdefault(row["judge_model"], []).append(sign * (scores[0] - scores[1]))
    assert margins.keys() == reference.keys()
    for model, values in margins.items():
        found = pairwise_accuracy(values)
        assert found.n == reference[model]["n"]
        assert found.accuracy == pytest.approx(reference[model]["accuracy"], abs=1e-6)


@pytest.mark.parametrize(
    ("verdicts", "strengths", "verdict", "strength"),
    [
        (["a"], [2], "a", 2),
        (["a", "a", "b"], [1, 3, 2], "a", 1),
        (["a", "a", "a", "b"], [1, 3, None, 2], "a", 1),
        (["a", "b"], [3, 3], None, None),
        (["a", "tie"], [3, None], None, None),
        (["both_bad", "a"], [None, 1], None, None),
        (["both_bad", "both_bad", "a"], [None, None, 1], "both_bad", None),
        (["b", "cannot_judge", "skip"], [2, None, None], "b", 2),
        (["a", "b", "tie", "both_bad"], [], None, None),
        (["a", "a"], [], "a", None),
    ],
)
def test_majority(verdicts: list[str], strengths: list[int | None], verdict: str | None, strength: int | None) -> None:
    found = majority(verdicts, strengths)
    assert (found.verdict, found.preference_strength) == (verdict, strength)
    total = found.share_a + found.share_b + found.share_tie + found.share_both_bad
    assert total == pytest.approx(1.0)


def test_nobody_judged() -> None:
    found = majority(["cannot_judge"])
    assert found.verdict is None
    assert math.isnan(found.share_a)
    assert found.reason
    with pytest.raises(ValueError, match="strengths"):
        majority(["a"], [1, 2])


@given(
    st.lists(st.tuples(st.sampled_from(VERDICTS), st.none() | st.integers(1, 3)), min_size=1, max_size=9), st.randoms()
)
def test_majority_knows_no_order_and_no_side(said: list[tuple[str, int | None]], shuffler: object) -> None:
    found = majority(*zip(*said, strict=True))
    shuffler.shuffle(said)  # type: ignore[attr-defined]
    assert majority(*zip(*said, strict=True)) == found
    assert majority(*zip(*(said * 2), strict=True)).verdict == found.verdict
    swap = {"a": "b", "b": "a"}
    swapped = majority([swap.get(verdict, verdict) for verdict, _ in said], [strength for _, strength in said])
    assert swapped.verdict == swap.get(found.verdict or "", found.verdict)
    assert (swapped.share_a, swapped.share_b) == (found.share_b, found.share_a)
    assert found.is_unanimous == (len({verdict for verdict, _ in said}) == 1)


def test_bootstrap_of_a_mean_is_near_its_normal_interval() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=400)
    found = bootstrap_interval(values, lambda sample: float(sample.mean()), rng=rng)
    half = 1.96 * values.std(ddof=1) / math.sqrt(400)
    assert found.low == pytest.approx(values.mean() - half, abs=0.2 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.2 * half)
    assert "two or more" in bootstrap_interval([1.0], lambda sample: 0.0, rng=rng).reason
    assert "undefined" in percentile_interval(np.array([1.0, math.nan])).reason
