"""One number from several attributes: a weighted sum, and the score of a benchmark from its sections."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

HELPSTEER2 = {"helpfulness": 0.65, "correctness": 0.8, "coherence": 0.45}
"""Wang et al. 2024, arXiv 2406.08673. Verbosity and complexity are no merits: they weigh nothing unless stated."""
NO_MERIT = ("complexity", "verbosity")


def goodness_weights(attributes: Sequence[str], stated: Mapping[str, float] | None = None) -> list[float]:
    """The weight of every attribute, in their order.

    What is stated, else HelpSteer2's for those of its attributes that are there, else the first attribute alone that
    is neither verbosity nor complexity. ValueError where nothing is left to go by.
    """
    if stated:
        unknown = sorted(stated.keys() - set(attributes))
        if unknown:
            raise ValueError(f"weights name attributes that are not there: {', '.join(unknown)}")
        if not all(math.isfinite(weight) for weight in stated.values()) or not any(stated.values()):
            raise ValueError("weights must be finite numbers, and one of them not 0")
        return [float(stated.get(name, 0.0)) for name in attributes]
    usual = [HELPSTEER2.get(name, 0.0) for name in attributes]
    if any(usual):
        return usual
    first = next((name for name in attributes if name not in NO_MERIT), None)
    if first is None:
        raise ValueError("state weights: more verbosity or complexity is not better by itself")
    return [float(name == first) for name in attributes]


def goodness(ratings: Mapping[str, float], stated: Mapping[str, float] | None = None) -> float:
    """Weighted sum of ratings: 7.6 for helpfulness, correctness and coherence of 4 each."""
    weights = goodness_weights(list(ratings), stated)
    return sum(weight * value for weight, value in zip(weights, ratings.values(), strict=True))


def section_score(sections: Sequence[float], *, prior: float | None = None, prior_weight: float = 0.5) -> float:
    """Mean of a benchmark's sections; older sets, where given, enter with `prior_weight` (RewardBench's 0.5)."""
    if not sections:
        raise ValueError("there is no section")
    total, weight = sum(sections), float(len(sections))
    if prior is not None:
        total, weight = total + prior_weight * prior, weight + prior_weight
    return total / weight
