"""Pairwise losses against hand-computed values and their symmetries."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.making import make_pairs, turn
from workers.data.schema import PreferencePair
from workers.nn.losses import pairwise_loss
from workers.objectives import OBJECTIVES

NUMBERS = st.floats(-20, 20)


def loss_of(margin: float, *, target: float = 1.0, weight: float = 1.0, offset: float = 0.0) -> float:
    values = (np.array([v]) for v in (target, weight, offset))
    return pairwise_loss(
        torch.tensor([margin]), **dict(zip(("target", "weight", "offset"), values, strict=True))
    ).item()


def bradley_terry(**config):
    entry = OBJECTIVES.get("bradley_terry")
    return entry(entry.Config(**config))


def pair(verdict: str, **fields) -> PreferencePair:
    return PreferencePair(
        "p", [turn("user", "q")], [turn("assistant", "a")], [turn("assistant", "b")], verdict, **fields
    )


@pytest.mark.parametrize("margin", [-3.0, 0.0, 0.5, 40.0, -200.0])
def test_bradley_terry_by_hand(margin) -> None:
    expected = math.log1p(math.exp(-margin)) if margin > -100 else -margin
    assert loss_of(margin) == pytest.approx(expected, rel=1e-6, abs=1e-12)


@given(margin=NUMBERS, target=st.floats(0, 1), offset=st.floats(-3, 3))
def test_exchanging_the_responses_changes_nothing(margin, target, offset) -> None:
    turned = loss_of(-margin, target=1 - target, offset=-offset)
    assert loss_of(margin, target=target, offset=offset) == pytest.approx(turned, abs=1e-5)


@given(margin=NUMBERS, target=st.floats(0.01, 0.99))
def test_the_loss_is_least_where_the_odds_are_the_target(margin, target) -> None:
    best = math.log(target / (1 - target))
    entropy = -target * math.log(target) - (1 - target) * math.log(1 - target)
    assert loss_of(best, target=target) == pytest.approx(entropy, abs=1e-5)
    assert loss_of(margin, target=target) >= entropy - 1e-5


def test_weight_scales_and_offset_shifts() -> None:
    assert loss_of(1.0, weight=2.5) == pytest.approx(2.5 * loss_of(1.0))
    assert loss_of(1.0, offset=1.0) == pytest.approx(math.log(2))
    assert loss_of(3.0, weight=0.0) == 0.0


def test_targets_from_verdicts() -> None:
    pairs = [pair("a"), pair("b"), pair("tie"), pair("both_bad"), pair("a", weight=0.0), pair("b", weight=2.0)]
    found = bradley_terry().targets(pairs)
    assert found.is_used.tolist() == [True, True, False, False, False, True]
    assert found.target.tolist() == [1.0, 0.0, 0.5, 0.5, 1.0, 0.0]
    assert found.weight.tolist() == [1, 1, 1, 1, 0, 2]
    assert bradley_terry(ties="half").targets(pairs).is_used.tolist() == [True, True, True, False, False, True]
    assert bradley_terry(label_smoothing=0.1).targets(pairs[:2]).target.tolist() == [0.9, 0.1]


def test_centring_pulls_the_sum_of_rewards_to_zero() -> None:
    a, b = torch.tensor([2.0], requires_grad=True), torch.tensor([1.0], requires_grad=True)
    targets = bradley_terry().targets([pair("a", weight=2.0)])
    found = bradley_terry(centre_coefficient=0.5).loss(a, b, targets)
    assert found.item() == pytest.approx(2 * (loss_of(1.0) + 0.5 * 9.0))
    plain = bradley_terry(centre_coefficient=0.0).loss(a, b, targets)
    assert plain.item() == pytest.approx(2 * loss_of(1.0))


def test_rows_of_targets() -> None:
    targets = bradley_terry().targets(make_pairs(6))
    picked = targets.rows(np.array([5, 0]))
    assert picked.target.tolist() == [targets.target[5], targets.target[0]]
