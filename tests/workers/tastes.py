"""Makers of people with opposite tastes: their pairs, the contexts they bring, and runs of models that know them."""

from typing import Any

import numpy as np

from tests.workers.making import LocalRun, turn
from workers.data.schema import Message, PreferencePair
from workers.families import FAMILIES
from workers.families.base import Item
from workers.specs import parse_spec

HINTS = ("please ", "now! ")
WORDS = ("short and plain", "long and flowery")


def taste_pairs(
    n: int, *, n_raters: int = 8, seed: int = 0, with_context: bool = False, hint: bool = False
) -> list[PreferencePair]:
    """Every second rater likes good words, every other one bad words; context or prompt says which."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(n):
        rater = int(rng.integers(n_raters))
        good = [turn("assistant", "good " * int(rng.integers(1, 9)))]
        bad = [turn("assistant", "bad " * int(rng.integers(1, 9)))]
        made.append(
            PreferencePair(
                pair_id=f"pair-{i}",
                prompt=[turn("user", HINTS[rater % 2] * 6 if hint else f"question {i // 3}")],
                prompt_key=f"{i // 3}",
                response_a=good,
                response_b=bad,
                verdict="a" if rater % 2 == 0 else "b",
                response_a_id=2 * i + 1,
                response_b_id=2 * i + 2,
                meta={"who": f"rater {rater}", **({"context": WORDS[rater % 2]} if with_context else {})},
            )
        )
    return made


def personal_run(folder: Any, family: str, backbone: str, pairs: list[PreferencePair], **config: Any) -> LocalRun:
    return LocalRun(folder, pairs, model={"backbone": backbone, **config}, family=family)


def scorer_of(local: LocalRun, result: dict[str, Any]) -> Any:
    family = FAMILIES.get(local.family)
    return family.open(parse_spec(family.Config, local.model), local.checkpoints[result["checkpoint"]].path)


def item(text: str, extra: dict[str, Any] | None = None) -> Item:
    return ([turn("user", "question 1")], [turn("assistant", text)], extra or {})


def pair_of(liked: str, other: str, number: int) -> dict[str, list[Message]]:
    said = {"chosen": [turn("assistant", liked)], "rejected": [turn("assistant", other)]}
    return {"prompt": [turn("user", f"question {number}")], **said}
