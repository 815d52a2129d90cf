"""Several judgements of one pair as one verdict."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low

VERDICTS = ("a", "b", "tie", "both_bad")


@dataclass(frozen=True, slots=True)
class Majority:
    """What the raters of one pair say together. Shares are fractions of n_judgements; nan where there is none."""

    verdict: str | None
    preference_strength: int | None
    n_judgements: int
    share_a: float
    share_b: float
    share_tie: float
    share_both_bad: float
    is_unanimous: bool
    reason: str = ""


def majority(verdicts: Sequence[str], strengths: Sequence[int | None] = ()) -> Majority:
    """The verdict given most often, with the strength of those who gave it.

    Parameters
    ----------
    verdicts
        One verdict a judgement. Anything but a, b, tie and both_bad (a skip, cannot judge) is left out.
    strengths
        preference_strength beside each verdict, 1 to 3 or None; may be left empty.

    Returns
    -------
    Majority
        `verdict` is None when no verdict leads alone (which is not what raters mean by a tie) and when nobody judged;
        `reason` says which.
        `preference_strength` is the lower median of the leading side's strengths, so it is one that was said; None for
        tie and both_bad.
    """
    if strengths and len(strengths) != len(verdicts):
        raise ValueError(f"{len(strengths)} strengths for {len(verdicts)} verdicts")
    counts = Counter(verdict for verdict in verdicts if verdict in VERDICTS)
    n = counts.total()
    if n == 0:
        return Majority(None, None, 0, math.nan, math.nan, math.nan, math.nan, False, "no judgement with a verdict")
    most = max(counts.values())
    leaders = [verdict for verdict, count in counts.items() if count == most]
    verdict = leaders[0] if len(leaders) == 1 else None
    said = [
        strength
        for given, strength in zip(verdicts, strengths, strict=False)  # strengths may be left empty
        if given == verdict and given in ("a", "b") and strength is not None
    ]
    share_a, share_b, share_tie, share_both_bad = (counts[name] / n for name in VERDICTS)
    strength = median_low(said) if said else None
    reason = "" if verdict else "no verdict was given more often than every other"
    return Majority(verdict, strength, n, share_a, share_b, share_tie, share_both_bad, most == n, reason)
