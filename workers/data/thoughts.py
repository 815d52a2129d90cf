"""Labels of reasoning steps from signals that stand in the solution itself, and steps merged into thoughts.

No arithmetic is checked here: a right solution is searched for what it takes back, a wrong one for what it took over
into its answer. After He et al. 2025 (thought-level process rewards); the rules stand in for a judge.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from workers.data.steps import Step, locate_steps

Label = Literal["correct", "incorrect", "matching", "mismatched"]
Similarity = Callable[[str, str], float]

MARKERS = re.compile(
    r"\b(?:wait|hold on|actually|hmm|no,|oops|scratch that|let me (?:re-?check|correct|redo|verify)"
    r"|that(?:'s| is| was) (?:wrong|not right|incorrect)|i made (?:a mistake|an error)|on second thought)",
    re.IGNORECASE,
)
WORD = re.compile(r"\w+")
COMMON_WORDS = (
    "a an and are as at be by do for from has have i in is it its let me my no not now of on or so that the then there "
    "this to was we with wait hold actually hmm oops scratch check recheck wrong right incorrect mistake made verify "
    "again should gives get first next add adding total plus minus times"
)
COMMON = frozenset(COMMON_WORDS.split())
FEWEST_SHARED = 2


@dataclass(frozen=True, slots=True)
class Thought:
    """A maximal run of steps with one label: steps[first : last + 1]."""

    label: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class StepLabels:
    """One label a step, and which steps take back an earlier one."""

    labels: list[Label]
    reflections: list[int]


def split_thinking(text: str) -> list[Step]:
    """Paragraphs of a think block with their places; they cover it up to white space."""
    pieces = [piece.strip() for piece in re.split(r"\n\s*\n", text) if piece.strip()]
    return locate_steps(text, pieces) or []


def merge_thoughts(labels: Sequence[str]) -> list[Thought]:
    """Neighbours of one label are one thought."""
    thoughts, place = [], 0
    for label, run in groupby(labels):
        n = len(list(run))
        thoughts.append(Thought(label, place, place + n - 1))
        place += n
    return thoughts


def content_words(text: str) -> list[str]:
    """Words and numbers that say what a step is about, in their order, lower case."""
    return [word for word in WORD.findall(text.lower()) if word not in COMMON]


def label_right_solution(steps: Sequence[str]) -> StepLabels:
    """Labels correct or incorrect of the steps of a solution whose answer is right.

    A wrong step must have been taken back later, else the answer would be wrong. A step with a marker that shares at
    least two content words with an earlier step takes that step back (the one it shares most with, the later of two).
    From there to the reflection, a step that uses what the wrong one brought up anew is wrong as well.
    """
    words = [content_words(step) for step in steps]
    wrong: set[int] = set()
    reflections = []
    for place, step in enumerate(steps):
        source = _taken_back(words, place, wrong) if MARKERS.search(step) else None
        if source is not None:
            reflections.append(place)
            wrong |= _built_on(words, source, place)
    return StepLabels(["incorrect" if k in wrong else "correct" for k in range(len(steps))], reflections)


def _taken_back(words: Sequence[Sequence[str]], place: int, wrong: set[int]) -> int | None:
    about = set(words[place])
    shared = [(len(about & set(words[k])), k) for k in range(place) if k not in wrong]
    most, source = max(shared, default=(0, 0))
    return source if most >= FEWEST_SHARED else None


def _built_on(words: Sequence[Sequence[str]], source: int, reflection: int) -> set[int]:
    """The wrong step, and those before the reflection that use what a wrong one brought up for the first time."""
    known = {word for step in words[:source] for word in step}
    wrong, tainted = {source}, set(words[source]) - known
    for place in range(source + 1, reflection):
        if tainted & set(words[place]):
            wrong.add(place)
            tainted |= set(words[place]) - known
    return wrong


def token_overlap(step: str, answer: str) -> float:
    """Share of the content words of `step` that are in `answer`, in [0, 1]; 0 for a step without any."""
    about = set(content_words(step))
    return len(about & set(content_words(answer))) / len(about) if about else 0.0


def label_wrong_solution(
    steps: Sequence[str], answer: str, *, similarity: Similarity = token_overlap, threshold: float = 0.5
) -> StepLabels:
    """Labels matching or mismatched of the steps of a solution whose answer is wrong.

    A step matches when one sentence or line of the answer block, or the block as a whole, takes it over. A solution
    that was cut off has no answer block: nothing matches.
    """
    parts = [part for part in re.split(r"(?<=[.!?])\s+|\n", answer) if part.strip()]
    best = [max((similarity(step, part) for part in (*parts, answer)), default=0.0) for step in steps]
    has_answer = bool(answer.strip())
    return StepLabels(["matching" if has_answer and s >= threshold else "mismatched" for s in best], [])
