"""One preference strength from several raters' votes.

The three most similar votes are kept and averaged (Wang et al. 2024, arXiv 2410.01257, HelpSteer2-Preference). The
rounding rule, the order of ties between sets, and the limit on their spread are ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from workers.stats.votes import best_agreeing, half_up, spread

NEITHER = -100
"""Stored for "neither response is valid"; it never enters a mean."""
STRONGEST = 3


@dataclass(frozen=True, slots=True)
class StrengthLabel:
    """What the votes on a pair come to.

    strength: -3..3, negative where response_a is better, 0 about the same; None where the pair is left out, and then
    `reason` says why. kept: the votes behind it.
    """

    strength: int | None
    kept: tuple[int, ...]
    reason: Literal["", "not enough votes", "votes too far apart"] = ""


def strength_of_votes(votes: Sequence[int], *, n_kept: int = 3, max_spread: int = 2) -> StrengthLabel:
    """Reduce votes in -3..3 (or -100: neither is valid) to one strength; a mean of x.5 is rounded away from 0.

    Raises
    ------
    ValueError
        A vote is neither in -3..3 nor -100.
    """
    odd = [vote for vote in votes if vote != NEITHER and abs(vote) > STRONGEST]
    if odd:
        raise ValueError(f"a vote is a whole number from -3 to 3, or -100 for neither; not {odd[0]}")
    valid = [vote for vote in votes if vote != NEITHER]
    if len(valid) < n_kept:
        return StrengthLabel(None, tuple(valid), "not enough votes")
    kept = tuple(valid[place] for place in best_agreeing(valid, n_kept))
    if spread(kept) > max_spread:
        return StrengthLabel(None, kept, "votes too far apart")
    mean = sum(kept) / len(kept)
    return StrengthLabel(half_up(abs(mean)) * (1 if mean > 0 else -1) if mean else 0, kept)
