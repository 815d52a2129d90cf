"""A generated task with its truth and candidate responses, and the flaws that make a response worse."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from workers.data.demo.banks import phrases


@dataclass(frozen=True, slots=True)
class Candidate:
    """One possible response. `score` is its quality from 1 to 5, `error` names what is wrong with it."""

    text: str
    score: int
    tags: tuple[str, ...]
    error: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """A prompt whose best response is known. `truth` is the answer that a checker would look for."""

    prompt: str
    truth: str
    candidates: list[Candidate]
    topic: str
    difficulty: str  # easy | medium | hard


def padded(text: str, *, rng: Random) -> str:
    """The text between a preamble and a closing that say nothing."""
    bank = phrases()
    before, after = rng.choice(bank["preambles"]), rng.choice(bank["closings"])
    return rng.choice((f"{before}\n\n{text}\n\n{after}", f"{before}\n\n{text}", f"{text}\n\n{after}"))


def truncated(text: str, *, rng: Random) -> str:
    """The text cut off between a third and two thirds, inside a word where there is one to cut."""
    cut = max(1, int(len(text) * rng.uniform(0.35, 0.65)))
    return text[:cut].rstrip()


def flawed(right: str, *, rng: Random) -> list[Candidate]:
    """Responses that are bad at any task: padded, cut off, refused without need, evasive, rambling."""
    bank = phrases()
    rambling = " ".join(rng.sample(bank["ramblings"], k=rng.choice((1, 2, 2, 3))))
    return [
        Candidate(padded(right, rng=rng), 3, ("correct", "padded"), "padded"),
        Candidate(truncated(right, rng=rng), 2, ("truncated",), "truncated"),
        Candidate(rng.choice(bank["refusals"]), 1, ("refusal",), "refusal"),
        Candidate(rng.choice(bank["evasions"]), 1, ("evasive",), "evasive"),
        Candidate(rambling, 1, ("off_topic",), "off_topic"),
    ]


def answered(*, right: str, wrong: str, short: str, short_wrong: str, error: str, rng: Random) -> list[Candidate]:
    """Candidates for a question with one answer: worked or bare, right or wrong, and the flaws of any task."""
    return [
        Candidate(right, 5, ("correct", "worked")),
        Candidate(short, 4, ("correct", "terse")),
        Candidate(wrong, 2, ("wrong", "worked"), error),
        Candidate(short_wrong, 1, ("wrong", "terse"), "wrong_answer"),
        *flawed(right, rng=rng),
    ]


def number(value: float) -> str:
    """1234.5 -> `1,234.5`: no trailing zeros, at most three decimals."""
    text = f"{round(value, 3):,.3f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def bare(answer: str, *, rng: Random) -> str:
    """An answer with few words around it; the same shapes serve right and wrong ones."""
    shapes = ("{}", "{}.", "The answer is {}.", "Answer: {}", "It is {}.", "That makes {}.", "**{}**")
    return rng.choice(shapes).format(answer)
