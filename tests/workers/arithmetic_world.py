"""A small arithmetic world with exact answers: chains of sums modulo 10, solved step by step, with errors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tests.workers.making import turn
from workers.data.schema import LabelledResponse

MODULUS, ADDENDS = 10, (1, 2)


@dataclass(frozen=True)
class Chain:
    """Numbers to be added up modulo 3, one after the other."""

    numbers: tuple[int, ...]

    @property
    def question(self) -> str:
        return "+".join(map(str, self.numbers))

    @property
    def partial(self) -> list[int]:
        """The right value after every step."""
        return [int(v) for v in np.cumsum(self.numbers)[1:] % MODULUS]

    @property
    def answer(self) -> int:
        return self.partial[-1]


def make_chains(n: int, rng: np.random.Generator, n_steps: int = 4) -> list[Chain]:
    starts, addends = rng.integers(0, MODULUS, n), rng.choice(ADDENDS, (n, n_steps))
    return [Chain((int(start), *map(int, row))) for start, row in zip(starts, addends, strict=True)]


def go_on(chain: Chain, values: Sequence[int], rng: np.random.Generator, error_rate: float) -> list[int]:
    """Values after every step, the given first; each further step goes wrong with `error_rate`."""
    found = list(values)
    for number in chain.numbers[1 + len(found) :]:
        before = found[-1] if found else chain.numbers[0]
        slip = int(rng.integers(1, MODULUS)) if rng.random() < error_rate else 0
        found.append((before + number + slip) % MODULUS)
    return found


def step_texts(chain: Chain, values: Sequence[int]) -> list[str]:
    before = [chain.numbers[0], *values[:-1]]
    return [f"{a}+{b}={c}" for a, b, c in zip(before, chain.numbers[1:], values, strict=True)]


def is_so_far_right(chain: Chain, values: Sequence[int]) -> list[bool]:
    """A step is right when its value and those before it are: what follows from a wrong value is wrong."""
    return [list(values[: k + 1]) == chain.partial[: k + 1] for k in range(len(values))]


def completer(chain: Chain, rng: np.random.Generator, error_rate: float) -> Callable[[Sequence[int], int], list[int]]:
    """Final values of n continuations of a prefix."""
    return lambda prefix, n: [go_on(chain, prefix, rng, error_rate)[-1] for _ in range(n)]


def labelled(chain: Chain, values: Sequence[int], labels: Sequence[float]) -> LabelledResponse:
    steps = step_texts(chain, values)
    return LabelledResponse(
        prompt=[turn("user", chain.question)],
        response=[turn("assistant", "\n".join(steps))],
        ratings={"correct": float(values[-1] == chain.answer)},
        steps=steps,
        step_labels=list(labels),
    )
