"""Majority voting that stops samples early where the value of a token falls below a threshold.

Nath et al. 2024 (arXiv 2407.13887). The value of a token is the cosine of its state with a goal state, in [-1, 1].
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from workers.stats.student import mean_interval, t_cdf

Ties = Literal["wrong", "right"]
SKIPPED = 5


@dataclass(frozen=True, slots=True)
class Sample:
    """One sampled response: its final response in short (None where it has none) and the value of every token."""

    answer: str | None
    values: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PrunedVoting:
    """What pruning did over n questions. Rates are in [0, 1].

    accuracy, plain_accuracy: of the vote with and without pruning; survivors_correct, all_correct: mean share of right
    samples among those that survive and among all; p_value: of the paired two-sided t-test of these two over questions,
    nan where they never or always differ alike; cut, tokens_saved: shares of all samples and of all tokens; n_all_cut:
    questions where no sample survived, so that all voted and nothing was saved.
    """

    accuracy: float
    plain_accuracy: float
    survivors_correct: float
    all_correct: float
    p_value: float
    cut: float
    tokens_saved: float
    n_all_cut: int
    n: int

    def as_json(self) -> dict[str, Any]:
        told = asdict(self)
        return {name: None if math.isnan(value) else value for name, value in told.items()}


def cut_at(values: NDArray[np.float64], tau: float, *, skipped: int = SKIPPED) -> int | None:
    """The first token from `skipped` on whose value is below tau; None where there is none."""
    below = np.flatnonzero(np.asarray(values)[skipped:] < tau)
    return int(below[0]) + skipped if len(below) else None


def vote_is_right(answers: Sequence[str | None], truth: str, *, ties: Ties = "wrong") -> bool:
    """Is the truth what most say? None does not vote; a tie with another is wrong or right by rule."""
    counts = Counter(answer for answer in answers if answer is not None)
    own = counts.pop(truth, 0)
    most = max(counts.values(), default=0)
    return own > most or (ties == "right" and own == most > 0)


def pruned_voting(
    questions: Sequence[Sequence[Sample]],
    truths: Sequence[str],
    *,
    tau: float = 0.0,
    skipped: int = SKIPPED,
    ties: Ties = "wrong",
) -> PrunedVoting:
    """Vote on every question among the samples that are not cut, and say what that saved.

    A sample is cut at its first token, from `skipped` on, with a value below tau. Where every sample of a question is
    cut, all of them vote and nothing counts as saved. At tau = -1 nothing is ever cut.

    Raises
    ------
    ValueError
        No question, a question without samples, other than one truth a question, or values that are not finite.
    """
    if not questions or len(questions) != len(truths) or not all(questions):
        raise ValueError("voting needs questions with samples, and one truth each")
    if not all(np.isfinite(sample.values).all() for samples in questions for sample in samples):
        raise ValueError("a value that is not finite cannot be held against a threshold")
    n_tokens = sum(len(sample.values) for samples in questions for sample in samples)
    rights, plain, shares, n_cut, n_saved, n_all_cut = [], [], [], 0, 0, 0
    for samples, truth in zip(questions, truths, strict=True):
        cuts = [cut_at(sample.values, tau, skipped=skipped) for sample in samples]
        survivors = [s for s, cut in zip(samples, cuts, strict=True) if cut is None]
        n_cut += len(samples) - len(survivors)
        if survivors:
            n_saved += sum(len(s.values) - cut for s, cut in zip(samples, cuts, strict=True) if cut is not None)
        n_all_cut += not survivors
        voters = survivors or list(samples)
        rights.append(vote_is_right([s.answer for s in voters], truth, ties=ties))
        plain.append(vote_is_right([s.answer for s in samples], truth, ties=ties))
        shares.append((_share_right(voters, truth), _share_right(samples, truth)))
    of_survivors, of_all = zip(*shares, strict=True)
    return PrunedVoting(
        accuracy=float(np.mean(rights)),
        plain_accuracy=float(np.mean(plain)),
        survivors_correct=float(np.mean(of_survivors)),
        all_correct=float(np.mean(of_all)),
        p_value=_p_value(np.subtract(of_survivors, of_all)),
        cut=n_cut / sum(len(samples) for samples in questions),
        tokens_saved=n_saved / n_tokens if n_tokens else 0.0,
        n_all_cut=n_all_cut,
        n=len(questions),
    )


def _share_right(samples: Sequence[Sample], truth: str) -> float:
    return sum(sample.answer == truth for sample in samples) / len(samples)


def _p_value(differences: NDArray[np.float64]) -> float:
    """Two-sided, of Student's t for a mean of zero."""
    found = mean_interval(differences.tolist())
    if not found.sd > 0:
        return math.nan
    t = abs(found.value) / (found.sd / math.sqrt(found.n))
    return 2 * (1 - t_cdf(t, found.n - 1))


def choose_tau(
    questions: Sequence[Sequence[Sample]],
    truths: Sequence[str],
    *,
    taus: Sequence[float],
    most_loss: float = 0.01,
    skipped: int = SKIPPED,
    ties: Ties = "wrong",
) -> float:
    """The threshold that saves most tokens on these questions while losing at most `most_loss` accuracy; else -1."""
    found = [(tau, pruned_voting(questions, truths, tau=tau, skipped=skipped, ties=ties)) for tau in taus]
    fine = [(told.tokens_saved, -tau, tau) for tau, told in found if told.accuracy >= told.plain_accuracy - most_loss]
    return max(fine)[2] if fine else -1.0
