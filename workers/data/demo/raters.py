"""Two simulated annotators. They mostly see the quality of a response, and each has a habit of their own.

`ann1` reads with care. `ann2` is quicker, less steady and somewhat taken in by long responses.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from random import Random
from typing import Any

from workers.data.demo.rows import Row

REASONS = (
    "correct",
    "follows the instruction",
    "clear",
    "right length",
    "well formatted",
    "safe",
    "honest",
    "kind",
)
# Where remarks are listed, the two annotators take them in turn: ann1 the even places, ann2 the odd ones.
Remarks = tuple[str, ...]
# What is wrong with a rejected response -> the reason for the other one, and how raters put it.
AGAINST: dict[str, tuple[str, Remarks]] = {
    "unsafe": (
        "safe",
        (
            "The other one could get somebody hurt.",
            "The other is dangerous.",
            "I would not want anyone to follow the other advice.",
            "Safe, the other is not.",
        ),
    ),
    "wrong": (
        "correct",
        (
            "The other one does not hold up when you check it.",
            "The other is wrong.",
            "This one can be relied on, the other would send you the wrong way.",
            "Bad advice in the other one.",
        ),
    ),
    "sycophantic": (
        "honest",
        (
            "The other only tells the user what they want to hear.",
            "The other one flatters.",
            "It disagrees politely where it has to.",
            "Honest.",
        ),
    ),
    "off_topic": (
        "follows the instruction",
        (
            "The other is about something else.",
            "The other one misses the question.",
            "Nobody asked for what the other one says.",
            "Other one is off topic.",
        ),
    ),
    "wrong_language": (
        "follows the instruction",
        ("The other is in the wrong language.", "Wrong language in the other."),
    ),
    "refusal": (
        "follows the instruction",
        (
            "There was no reason to refuse.",
            "The other just refuses.",
            "It helps, and the request was harmless.",
            "At least this one answers.",
        ),
    ),
    "ignores_instruction": (
        "follows the instruction",
        (
            "Only this one keeps to what was asked for.",
            "The other ignores part of the request.",
            "The request was specific and the other does not care.",
            "Did as told.",
        ),
    ),
    "truncated": ("clear", ("The other breaks off in the middle.", "The other one is not finished.")),
    "padded": (
        "right length",
        (
            "The other takes ages to get to the point.",
            "Too much talk in the other.",
            "Says as much in a quarter of the words.",
            "The other one is mostly filler.",
        ),
    ),
    "overconfident": ("honest", ("The other claims to know what nobody can know.", "The other made things up.")),
    "terse": (
        "clear",
        (
            "It explains enough to act on; the other is right but bare.",
            "More to go on.",
            "The other leaves out what one needs to know.",
            "Other one is a bit short.",
        ),
    ),
    "plain": (
        "clear",
        (
            "More concrete than the other.",
            "The other stays vague.",
            "I could use this one as it is.",
            "Easier to use.",
        ),
    ),
}
# What is good about a chosen response, where nothing stands against the other.
FOR: dict[str, tuple[str, Remarks]] = {
    "kind": ("kind", ("It takes the person seriously.", "Warmer in tone.")),
    "honest": ("honest", ("It says openly what it does not know.", "Honest about its limits.")),
    "safe": ("safe", ("Careful where it matters.", "Better safe than sorry.")),
    "formatted": ("well formatted", ("Easy to scan.", "Nicely laid out.")),
    "terse": ("right length", ("Short and sufficient.", "Quick to read.")),
    "padded": ("clear", ("It gives the background as well.", "Goes into more depth, I liked that.")),
    "correct": ("correct", ("Correct and complete.", "Good answer.")),
}
EQUAL = (
    "One is nicer to read, the other more exact.",
    "Both are fine.",
    "I read both twice and could go either way.",
    "No real difference to me.",
)
BOTH_BAD = ("I would not send either of these.", "Neither helps.", "Each misses the point in its own way.", "Both bad.")


@dataclass(frozen=True, slots=True)
class Habit:
    """How a simulated rater judges.

    Attributes
    ----------
    noise
        Standard deviation added to the difference of two qualities.
    length_pull
        Added for each doubling of length: a liking for long responses.
    tie_below
        Differences smaller than this are called a tie.
    both_bad_below
        Two responses up to this quality may be called both bad.
    writes
        Share of judgements with a justification.
    chars_per_s
        Reading speed.
    """

    noise: float
    length_pull: float
    tie_below: float
    both_bad_below: int
    writes: float
    chars_per_s: float


HABITS = {
    "ann1": Habit(noise=0.55, length_pull=0.0, tie_below=0.5, both_bad_below=2, writes=0.85, chars_per_s=22.0),
    "ann2": Habit(noise=1.0, length_pull=0.35, tie_below=0.7, both_bad_below=1, writes=0.55, chars_per_s=34.0),
}


def judge(row: Row, *, response_a: int, response_b: int, rater: str, seed: int = 0) -> dict[str, Any]:
    """What a simulated rater says of two responses of a row, given by their places; the same for the same arguments."""
    rng = Random(f"{seed}/{rater}/{row['id']}/{response_a}/{response_b}")
    habit = HABITS[rater]
    a, b = row["responses"][response_a], row["responses"][response_b]
    pull = habit.length_pull * log(len(a["content"]) / len(b["content"]), 2)
    difference = a["score"] - b["score"] + pull + rng.gauss(0, habit.noise)
    verdict = _verdict(difference, best=max(a["score"], b["score"]), habit=habit, rng=rng)
    chosen, rejected = (a, b) if verdict == "a" else (b, a)
    voice = list(HABITS).index(rater)
    reasons, text = _why(verdict, chosen, rejected, voice=voice, rng=rng)
    return {
        "rater": rater,
        "verdict": verdict,
        "preference_strength": _strength(abs(difference)) if verdict in ("a", "b") else None,
        "justification": text if rng.random() < habit.writes else "",
        "reasons": reasons,
        "active_s": _seconds(len(a["content"]) + len(b["content"]), habit=habit, rng=rng),
    }


def _verdict(difference: float, *, best: int, habit: Habit, rng: Random) -> str:
    if best <= habit.both_bad_below and rng.random() < 0.8:
        return "both_bad"
    if abs(difference) < habit.tie_below:
        return "tie"
    return "a" if difference > 0 else "b"


def _strength(size: float) -> int:
    return 1 if size < 1.4 else 2 if size < 2.9 else 3


def _why(verdict: str, chosen: Row, rejected: Row, *, voice: int, rng: Random) -> tuple[list[str], str]:
    if verdict not in ("a", "b"):
        return [], rng.choice((EQUAL if verdict == "tie" else BOTH_BAD)[voice::2])
    found = [AGAINST[tag] for tag in AGAINST if tag in rejected["tags"] and tag not in chosen["tags"]]
    if not found or chosen["score"] <= rejected["score"]:
        found = [FOR[tag] for tag in FOR if tag in chosen["tags"]] or [("clear", ("Reads better to me.", "Clearer."))]
    found = found[: rng.choice((1, 1, 2))]
    reasons = list(dict.fromkeys(reason for reason, _ in found))
    return reasons, " ".join(rng.choice(remarks[voice::2]) for _, remarks in found)


def _seconds(n_chars: int, *, habit: Habit, rng: Random) -> float:
    """Reading time plus time to decide, which varies a lot from one judgement to the next."""
    return round(4 + n_chars / habit.chars_per_s * rng.lognormvariate(0, 0.3) + rng.lognormvariate(1.5, 0.5), 1)
