"""AUROC, labels from rollouts, and the advantages of thoughts."""

import numpy as np
import pytest

from workers.data.thoughts import merge_thoughts
from workers.stats.auroc import auroc
from workers.stats.rollouts import rollout_labels
from workers.stats.thought_rewards import outcome_advantages, thought_advantages


def test_auroc_equals_the_count_over_all_pairs() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores = rng.integers(0, 6, 40).astype(np.float64)
        is_positive = rng.random(40) < 0.4
        a, b = scores[is_positive][:, None], scores[~is_positive][None, :]
        expected = ((a > b) + 0.5 * (a == b)).mean()
        assert auroc(scores, is_positive) == pytest.approx(expected)
        assert auroc(-scores, is_positive) == pytest.approx(1 - expected)
    assert np.isnan(auroc(np.array([1.0]), np.array([True])))


def test_labels_from_rollouts() -> None:
    ends = {"a": [1, 0, 0, 0], "b": [0, 0, 0, 0], "c": [1, 1, 1, 1]}

    def labels(how, n=4):
        return rollout_labels(["a", "b", "c"], lambda prefix, k: ends[prefix], bool, n=n, how=how)

    assert labels("hard") == [1.0, 0.0, 1.0]
    assert labels("soft") == [0.25, 0.0, 1.0]
    with pytest.raises(ValueError, match="asked for 5"):
        labels("hard", 5)
    with pytest.raises(ValueError, match="at least 1"):
        labels("hard", 0)


def summed(labels: list[str], outcome: float, r_c: float) -> list[float]:
    """The other way to count: outcome plus the rewards of the thoughts from a step's own on, but for the last one."""
    thoughts = merge_thoughts(labels)
    reward = {"correct": r_c, "incorrect": -r_c, "matching": outcome, "mismatched": -outcome}
    found = []
    for step in range(len(labels)):
        later = [t for t in thoughts[:-1] if t.last >= step]
        found.append(outcome + sum(reward[t.label] for t in later))
    return found


def test_the_sum_over_thoughts_equals_the_closed_form() -> None:
    """The last thought holds the answer: correct in a right solution, matching in a wrong one."""
    rng = np.random.default_rng(0)
    for _ in range(10_000):
        good, bad = ("correct", "incorrect") if rng.random() < 0.5 else ("matching", "mismatched")
        labels = [good if rng.random() < 0.5 else bad for _ in range(int(rng.integers(0, 30)))] + [good]
        accuracy, outcome = float(rng.random()), float(rng.normal())
        closed = thought_advantages(labels, outcome, group_accuracy=accuracy, scale=0.7)
        assert closed == pytest.approx(summed(labels, outcome, 0.7 * accuracy), abs=1e-12)


def test_merged_thoughts_and_the_advantages_of_their_steps() -> None:
    labels = ["correct"] * 2 + ["incorrect"] * 3 + ["correct"]
    assert [(t.label, t.first, t.last) for t in merge_thoughts(labels)] == [
        ("correct", 0, 1),
        ("incorrect", 2, 4),
        ("correct", 5, 5),
    ]
    o, r_c = 0.8, 0.5
    assert thought_advantages(labels, o, group_accuracy=r_c) == pytest.approx([o, o, o - r_c, o - r_c, o - r_c, o])


def test_counting_step_by_step_punishes_a_correct_step_before_five_wrong_ones() -> None:
    labels = ["correct"] + ["incorrect"] * 5 + ["correct"]
    o, r_c = 0.8, 0.5
    signs = [1 if label == "correct" else -1 for label in labels]
    by_step = [o + r_c * sum(signs[k:-1]) for k in range(len(labels))]
    assert by_step[0] < 0
    assert thought_advantages(labels, o, group_accuracy=r_c)[0] == pytest.approx(o)


def test_a_group_of_one_kind_has_no_outcome_and_no_nan() -> None:
    for kind in (True, False):
        assert outcome_advantages(np.full(8, kind)).tolist() == [0.0] * 8
    mixed = outcome_advantages(np.array([True, True, False, True]))
    assert mixed.mean() == pytest.approx(0.0, abs=1e-12)
    assert mixed.std() == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(ValueError, match="unknown label 'good'"):
        thought_advantages(["good"], 1.0, group_accuracy=0.5)
