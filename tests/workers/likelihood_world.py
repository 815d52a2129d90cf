"""Synthetic worlds for likelihood families: preferences whose rule is known."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from tests.workers.making import turn
from workers.data.schema import PreferencePair

VOWELS, CONSONANTS = "aeiou", "bcdfghjklm"
ANIMALS = (
    *["horse", "tiger", "eagle", "whale", "moose", "otter", "sheep", "zebra", "koala", "camel"],
    *["shark", "snake", "mouse", "llama", "bison", "hyena", "gecko", "robin", "raven", "finch"],
)
TOOLS = (
    *["drill", "crane", "knife", "lathe", "clamp", "spade", "anvil", "brush", "blade", "wedge"],
    *["lever", "ruler", "scale", "torch", "razor", "cable", "screw", "hinge", "motor", "bolts"],
)
"""All of five letters, so that length tells nothing."""


def make_pair(number: int, texts: tuple[str, str], *, is_first_better: bool, prompt: str = "q") -> PreferencePair:
    chosen, rejected = ([turn("assistant", text)] for text in texts)
    a, b = (chosen, rejected) if is_first_better else (rejected, chosen)
    return PreferencePair(
        pair_id=f"pair-{number}",
        prompt=[turn("user", f"{prompt}{number}")],
        response_a=a,
        response_b=b,
        verdict="a" if is_first_better else "b",
        response_a_id=2 * number + 1,
        response_b_id=2 * number + 2,
    )


def vowel_pairs(n: int, *, seed: int = 0, length: int = 12) -> list[PreferencePair]:
    """Of two strings of equal length the one with more vowels is preferred; the number of vowels is uniform."""
    rng = np.random.default_rng(seed)
    pairs = []
    for number in range(n):
        counts = rng.choice(length + 1, size=2, replace=False)
        texts = [_letters(rng, int(count), length) for count in sorted(counts, reverse=True)]
        pairs.append(make_pair(number, (texts[0], texts[1]), is_first_better=bool(rng.random() < 0.5)))
    return pairs


def _letters(rng: np.random.Generator, n_vowels: int, length: int) -> str:
    letters = [*rng.choice(list(VOWELS), n_vowels), *rng.choice(list(CONSONANTS), length - n_vowels)]
    return "".join(rng.permutation(letters))


def class_pairs(
    words: Iterable[tuple[str, str]], *, seed: int = 0, first: int = 0, source: str = ""
) -> list[PreferencePair]:
    """Pairs of a word of the liked and one of the disliked class in the same sentence, in the order they come."""
    rng = np.random.default_rng(seed)
    pairs = []
    for number, (liked, disliked) in enumerate(words, start=first):
        texts = (f"It is a {liked}.", f"It is a {disliked}.")
        found = make_pair(number, texts, is_first_better=bool(rng.random() < 0.5), prompt="What is it? ")
        pairs.append(replace(found, pair_id=f"{source}{number}"))
    return pairs


def drawn(n: int, liked: Sequence[str], disliked: Sequence[str], *, seed: int) -> list[tuple[str, str]]:
    rng = np.random.default_rng(seed)
    return [(str(rng.choice(list(liked))), str(rng.choice(list(disliked)))) for _ in range(n)]
