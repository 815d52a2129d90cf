"""From votes to labels: when to ask for more votes, which to keep, and which prompts to leave out.

The protocol of HelpSteer2 (Wang et al. 2024, arXiv 2406.08673). One attribute leads (helpfulness): its spread opens
more votes and drops prompts, and the raters who are kept by it are kept for every attribute.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from workers.stats.kappa import Kappa, pooled_kappa

Vote = Mapping[str, int]
"""Level by attribute, of one rater; an attribute that was not rated is absent."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """n_first votes are asked for; a spread above max_spread opens n_extra more; n_kept votes that agree best stay."""

    lead: str = "helpfulness"
    n_first: int = 3
    n_extra: int = 2
    n_kept: int = 3
    max_spread: int = 2


@dataclass(frozen=True, slots=True)
class Label:
    """What the votes on one response come to. kept: places of the votes that stay; values: by attribute."""

    kept: tuple[int, ...]
    values: dict[str, int]
    spread: int
    """Of the kept votes on the leading attribute."""
    n_votes: int


@dataclass(frozen=True, slots=True)
class PromptLabels:
    """The labels of a prompt's responses; is_kept: False where one of them stayed contested."""

    labels: tuple[Label, ...]
    is_kept: bool


@dataclass(frozen=True, slots=True)
class Stages:
    """Agreement on the leading attribute at three stages, always shown together.

    That of kept votes is higher by construction: the votes were chosen because they agree.
    """

    first: Kappa
    """Of the votes that were asked for first."""
    kept: Kappa
    filtered: Kappa
    """Of kept votes, on prompts that stay."""
    votes_per_response: float


def spread(votes: Sequence[int]) -> int:
    """Largest minus smallest; 0 for none."""
    return max(votes) - min(votes) if votes else 0


def n_more_votes(votes: Sequence[int], protocol: Protocol = Protocol()) -> int:
    """How many more votes to ask for, from those on the leading attribute so far."""
    n = len(votes)
    if n < protocol.n_first:
        return protocol.n_first - n
    if spread(votes[: protocol.n_first]) > protocol.max_spread:
        return max(0, protocol.n_first + protocol.n_extra - n)
    return 0


def best_agreeing(votes: Sequence[int], n_kept: int = 3) -> tuple[int, ...]:
    """Places of the `n_kept` votes with the smallest spread; all where there are no more.

    Of several such sets, the one with the least squared deviation from its mean, then the one given first.
    """
    if len(votes) <= n_kept:
        return tuple(range(len(votes)))

    def disagreement(places: tuple[int, ...]) -> tuple[int, int]:
        chosen = [votes[p] for p in places]
        return spread(chosen), n_kept * sum(v * v for v in chosen) - sum(chosen) ** 2

    return min(combinations(range(len(votes)), n_kept), key=disagreement)


def half_up(value: float) -> int:
    """Rounded to a whole number, halves upwards: 2.5 becomes 3 (Python's own round would say 2)."""
    return math.floor(value + 0.5)


def label_of(votes: Sequence[Vote], protocol: Protocol = Protocol()) -> Label:
    """The label of one response: of every attribute the mean of the kept votes, rounded half up.

    Raises
    ------
    ValueError
        A vote lacks the leading attribute, or there is none.
    """
    if not votes or any(protocol.lead not in vote for vote in votes):
        raise ValueError(f"every vote must rate {protocol.lead}, and there must be one")
    leading = [vote[protocol.lead] for vote in votes]
    kept = best_agreeing(leading, protocol.n_kept)
    names = dict.fromkeys(name for p in kept for name in votes[p])
    values = {}
    for name in names:
        given = [votes[p][name] for p in kept if name in votes[p]]
        values[name] = half_up(sum(given) / len(given))
    return Label(kept, values, spread([leading[p] for p in kept]), len(votes))


def label_prompt(responses: Sequence[Sequence[Vote]], protocol: Protocol = Protocol()) -> PromptLabels:
    """Labels of all responses of a prompt, which stays only if the kept votes of each are close enough."""
    labels = tuple(label_of(votes, protocol) for votes in responses)
    return PromptLabels(labels, all(label.spread <= protocol.max_spread for label in labels))


def agreement_by_stage(
    prompts: Sequence[Sequence[Sequence[Vote]]],
    *,
    attribute: str = "helpfulness",
    n_levels: int = 5,
    protocol: Protocol = Protocol(),
) -> Stages:
    """Kappa of `attribute` before, after choosing votes, and after leaving prompts out. prompts[p][r]: votes."""
    first: list[list[int]] = []
    kept: list[list[int]] = []
    filtered: list[list[int]] = []
    for responses in prompts:
        found = label_prompt(responses, protocol)
        for votes, label in zip(responses, found.labels, strict=True):
            first.append([vote[attribute] for vote in votes[: protocol.n_first] if attribute in vote])
            kept.append([votes[p][attribute] for p in label.kept if attribute in votes[p]])
            if found.is_kept:
                filtered.append(kept[-1])
    n_votes = sum(len(votes) for responses in prompts for votes in responses)
    return Stages(
        first=pooled_kappa(first, n_levels=n_levels),
        kept=pooled_kappa(kept, n_levels=n_levels),
        filtered=pooled_kappa(filtered, n_levels=n_levels),
        votes_per_response=n_votes / len(first) if first else math.nan,
    )
