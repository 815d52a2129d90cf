"""The shortest combination of gradients, against hand cases and a grid."""

import numpy as np
import pytest

from workers.stats.min_norm import is_full_conflict, min_norm_weights, normalised, two_vector_weight
from workers.stats.source_weights import WeightWatch
from workers.stats.study_sources import source_differences

STEPS = 100
GRID = np.array([(i, j, STEPS - i - j) for i in range(STEPS + 1) for j in range(STEPS + 1 - i)]) / STEPS


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("vectors", "weights", "squared"),
    [
        ([[1, 0], [0, 1]], [0.5, 0.5], 0.5),
        ([[1, 0], [0, 2]], [0.8, 0.2], 0.8),
        ([[1, 0], [3, 1]], [1, 0], 1),
        ([[3, 1], [1, 0]], [0, 1], 1),
        ([[2, 0]], [1], 4),
        ([[1, 0], [0, 1], [5, 5]], [0.5, 0.5, 0], 0.5),
    ],
)
def test_hand_cases(vectors, weights, squared) -> None:
    found = min_norm_weights(vectors)
    assert found.weights == pytest.approx(weights, abs=1e-6)
    assert found.squared_norm == pytest.approx(squared, abs=1e-6)


def test_on_one_scale_orthogonal_gradients_count_alike() -> None:
    scaled = normalised(np.array([[1.0, 0.0], [0.0, 2.0]]), np.ones(2), "l2")
    assert min_norm_weights(scaled).weights == pytest.approx([0.5, 0.5])


def test_scales() -> None:
    vectors, losses = np.array([[3.0, 4.0], [0.0, 2.0]]), np.array([1.0, 3.0])
    assert normalised(vectors, losses, "none") is vectors
    assert normalised(vectors, losses, "loss") == pytest.approx(vectors / np.array([[2 / 6], [4 / 6]]))
    assert normalised(vectors, losses, "loss+") == pytest.approx(np.array([[0.6, 0.8], [0, 1 / 3]]))


@pytest.mark.parametrize("width", [2, 3, 8])
def test_never_longer_than_the_best_of_a_grid(width) -> None:
    rng = np.random.default_rng(width)
    for _ in range(200):
        vectors = rng.normal(size=(3, width))
        found = min_norm_weights(vectors)
        assert found.squared_norm <= ((GRID @ vectors) ** 2).sum(axis=1).min() + 1e-3
        assert found.weights.min() >= 0
        assert found.weights.sum() == pytest.approx(1)
        assert found.converged


@pytest.mark.parametrize("k", [2, 3, 5, 10])
def test_no_source_is_made_worse(k) -> None:
    """v_k . g >= |g|^2 for every source."""
    rng = np.random.default_rng(k)
    for _ in range(100):
        vectors = unit(rng.normal(size=(k, 20)))
        shortest = min_norm_weights(vectors).weights @ vectors
        assert (vectors @ shortest).min() >= shortest @ shortest - 1e-3


def test_opposite_gradients_conflict_fully() -> None:
    vectors = unit(np.array([[1.0, 2.0], [-1.0, -2.0]]))
    found = min_norm_weights(vectors)
    assert found.squared_norm**0.5 < 1e-3
    assert is_full_conflict(found, vectors)
    assert not is_full_conflict(min_norm_weights([[1.0, 0], [0, 1.0]]), [[1.0, 0], [0, 1.0]])


def test_the_weight_of_two_is_that_of_a_line_search() -> None:
    rng = np.random.default_rng(5)
    shares = np.linspace(0, 1, 10_001)[:, None]
    for _ in range(50):
        v1, v2 = rng.normal(size=(2, 4))
        best = shares[((shares * v1 + (1 - shares) * v2) ** 2).sum(axis=1).argmin(), 0]
        assert two_vector_weight(v1 @ v1, v1 @ v2, v2 @ v2) == pytest.approx(best, abs=1e-4)


@pytest.mark.parametrize("bad", [[], [1.0, 2.0], [[np.nan, 1.0]]])
def test_bad_vectors(bad) -> None:
    with pytest.raises(ValueError, match="finite and of shape"):
        min_norm_weights(bad)


def test_a_source_that_holds_most_for_long_is_named() -> None:
    watch = WeightWatch(("big", "small"))
    for step in range(60):
        watch.note(step, {"big": 0.1, "small": 0.9} if step >= 10 else {"big": 0.5, "small": 0.5}, share=8,
                   is_conflict=False)  # fmt: skip
    assert ["The source small held more than 0.8" in line for line in watch.report()["warnings"]] == [True]
    assert watch.report()["mean_weights"]["small"] == pytest.approx((10 * 0.5 + 50 * 0.9) / 60)
    broken = WeightWatch(("big", "small"))
    for step in range(98):
        weight = 0.5 if step == 49 else 0.9
        broken.note(step, {"big": 1 - weight, "small": weight}, share=8, is_conflict=False)
    assert broken.report()["warnings"] == []


def test_what_was_watched_survives_and_absent_sources_are_told_once() -> None:
    watch = WeightWatch(("a", "b"))
    for step in range(4):
        watch.note(step, {"a": 1.0} if step % 2 else {"a": 0.5, "b": 0.5}, share=4, is_conflict=step == 2)
    found = WeightWatch.load(watch.dump()).report()
    assert found == watch.report()
    assert found["n_conflict"] == 1
    assert any("full conflict at 1 of 4 steps, first at step 2" in line for line in found["warnings"])
    assert [line for line in found["warnings"] if "no pair" in line] == [
        "The source b had no pair in 2 of 4 steps and was left out there"
    ]


def test_differences_by_source_may_show_nothing() -> None:
    def row(arm, seed, value, ece):
        return {"arm": arm, "seed": seed, "by_source": {"s": {"value": value, "ece": ece}}}

    rows = [row("one", s, 0.6 + s / 100, 0.10 + s / 100) for s in range(5)]
    rows += [row("two", s, 0.6 + s / 100 + (-1) ** s / 50, 0.04 + s / 100 + s * s / 1000) for s in range(5)]
    found = source_differences(rows, ["one", "two"])["s"]
    assert found["accuracy"]["differences"]["two"]["answer"] == "no difference shown"
    assert found["ece"]["differences"]["two"]["answer"] == "better"
    assert found["ece"]["differences"]["two"]["value"] == pytest.approx(-0.054)
    assert source_differences([{"arm": "one", "seed": 0}], ["one", "two"]) == {}


def test_two_sources_on_one_scale_always_share_evenly() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        assert min_norm_weights(unit(rng.normal(size=(2, 6)))).weights == pytest.approx([0.5, 0.5])
