"""Pairs without a human label from a pool of policies: two texts of one policy, one of another, after one prefix.

The first stage of a policy discriminator learns from them which two texts have the same author (Dou et al. 2025, arXiv
2507.05197). A policy is anything that goes on with a text; small Markov chains stand in for language models in checks.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from workers.data.schema import Message, PreferencePair

Matrix = NDArray[np.float64]


class Policy(Protocol):
    """Whatever goes on with a text."""

    @property
    def name(self) -> str: ...

    def write(self, prefix: str, n: int, rng: np.random.Generator) -> str:
        """At most n tokens that follow `prefix`, without the prefix itself."""


@dataclass(frozen=True)
class MarkovPolicy:
    """The next letter depends on the last one. transitions: (k, k) over the k letters, rows add up to 1."""

    name: str
    letters: str
    transitions: Matrix

    def write(self, prefix: str, n: int, rng: np.random.Generator) -> str:
        """n letters; the first follows the last letter of the prefix, or any letter where it has none."""
        state = self.letters.find(prefix[-1:]) if prefix else -1
        state = int(rng.integers(len(self.letters))) if state < 0 else state
        bounds, draws, written = self.transitions.cumsum(axis=1), rng.random(n), []
        for draw in draws:
            state = min(int(bounds[state].searchsorted(draw, side="right")), len(self.letters) - 1)
            written.append(self.letters[state])
        return "".join(written)

    def sampled(self, *, temperature: float = 1.0, top_p: float = 0.9, top_k: int = 50) -> "MarkovPolicy":
        """The policy as a sampler with these settings draws from it. Temperature > 0, top_p in (0, 1], top_k >= 1."""
        scaled = np.maximum(self.transitions, 1e-300) ** (1 / temperature)
        kept = np.stack([_nucleus(row / row.sum(), top_p, top_k) for row in scaled])
        return replace(self, transitions=kept)

    def log_likelihood(self, text: str) -> float:
        """Mean log-probability of each letter given the one before it, in nats; texts of two known letters at least."""
        states = [self.letters.index(letter) for letter in text]
        return float(np.log(np.maximum(self.transitions[states[:-1], states[1:]], 1e-12)).mean())


def _nucleus(row: Matrix, top_p: float, top_k: int) -> Matrix:
    order = np.argsort(-row, kind="stable")
    n_kept = min(top_k, int((row[order].cumsum() < top_p - 1e-12).sum()) + 1)
    kept = np.zeros_like(row)
    kept[order[:n_kept]] = row[order[:n_kept]]
    return np.asarray(kept / kept.sum())


def random_policy(
    name: str, rng: np.random.Generator, *, letters: str = "abcdefgh", spread: float = 0.5, own: float = 4.0
) -> MarkovPolicy:
    """Its favourite letters are Dirichlet(spread); every row scatters around them, less so the larger `own` is."""
    favourites = rng.dirichlet(np.full(len(letters), spread))
    rows = rng.dirichlet(own * favourites + 0.05, size=len(letters))
    return MarkovPolicy(name, letters, rows)


def mixed_policy(p: MarkovPolicy, q: MarkovPolicy, share: float) -> MarkovPolicy:
    """At every letter q with probability `share`, else p."""
    mixed = (1 - share) * p.transitions + share * q.transitions
    return MarkovPolicy(f"{p.name}+{share:g}{q.name}", p.letters, mixed)


def jensen_shannon(p: MarkovPolicy, q: MarkovPolicy) -> float:
    """Divergence of next letters in nats, in [0, ln 2], averaged over the letters that p writes in the long run."""
    middle = (p.transitions + q.transitions) / 2
    rows = (_kl(p.transitions, middle) + _kl(q.transitions, middle)) / 2
    return float(_long_run(p.transitions) @ rows)


def _kl(a: Matrix, b: Matrix) -> Matrix:
    ratio = np.where(a > 0, a / np.where(b > 0, b, 1.0), 1.0)
    return np.asarray((a * np.log(ratio)).sum(axis=1))


def _long_run(transitions: Matrix) -> Matrix:
    state: Matrix = np.full(len(transitions), 1 / len(transitions))
    for _ in range(200):
        state = (state + state @ transitions) / 2  # the average also settles where a chain has a period
    return state


def shorten_loops(text: str, *, times: int = 3, longest: int = 40) -> str:
    """A piece of up to `longest` characters that is repeated more than `times` in a row stays `times`."""
    return re.sub(rf"(.{{1,{longest}}}?)\1{{{times},}}", lambda found: found[1] * times, text, flags=re.DOTALL)


def finished(text: str, ends: str = ".!?\n") -> str:
    """Without the sentence that was not ended; the whole where no sentence was."""
    last = max(text.rfind(end) for end in ends)
    return text[: last + 1] if last >= 0 else text


def prefixes_of(
    texts: Sequence[str], n: int, rng: np.random.Generator, *, shortest: int = 1, longest: int = 1024
) -> list[str]:
    """n beginnings, of random length, of random texts."""
    chosen = rng.integers(len(texts), size=n)
    return [texts[i][: int(rng.integers(shortest, longest + 1))] for i in chosen]


@dataclass(frozen=True)
class PoolPairs:
    """Pairs whose preferred response is of the reference's policy, and why others were dropped."""

    pairs: list[PreferencePair]
    dropped: dict[str, int]


def pool_pairs(
    policies: Sequence[Policy],
    prefixes: Sequence[str],
    *,
    length: int,
    rng: np.random.Generator,
    tidy: Callable[[str], str] = lambda text: text,
) -> PoolPairs:
    """One pair a prefix: policy A writes reference and positive, policy B the negative, all drawn independently.

    Dropped and counted: two equal texts among the three, and texts of which `tidy` leaves nothing. The pair's meta
    names the two policies; which response is the positive is drawn by lot.

    Raises
    ------
    ValueError
        Fewer than two policies, or two of one name.
    """
    if len({policy.name for policy in policies}) < max(2, len(policies)):
        raise ValueError("a pool needs two policies at least, each with a name of its own")
    pairs, dropped = [], Counter[str]()
    for number, prefix in enumerate(prefixes):
        own, other = (policies[i] for i in rng.choice(len(policies), size=2, replace=False))
        texts = [tidy(policy.write(prefix, length, rng)) for policy in (own, own, other)]
        if reason := _refusal(*texts):
            dropped[reason] += 1
        else:
            pairs.append(_pair(number, prefix, texts, (own.name, other.name), is_a=bool(rng.random() < 0.5)))
    return PoolPairs(pairs, dict(dropped))


def _refusal(reference: str, positive: str, negative: str) -> str | None:
    if not (reference and positive and negative):
        return "nothing written"
    if positive == reference:
        return "positive is the reference"
    if negative in (reference, positive):
        return "negative is another's text"
    return None


def _pair(number: int, prefix: str, texts: Sequence[str], names: tuple[str, str], *, is_a: bool) -> PreferencePair:
    reference, positive, negative = (_said(text) for text in texts)
    return PreferencePair(
        pair_id=f"pool-{number}",
        prompt=[{"role": "user", "content": prefix}],
        response_a=positive if is_a else negative,
        response_b=negative if is_a else positive,
        verdict="a" if is_a else "b",
        response_a_id=2 * number + 1,
        response_b_id=2 * number + 2,
        reference=reference,
        meta={"policy": names[0], "other": names[1]},
    )


def _said(text: str) -> list[Message]:
    return [{"role": "assistant", "content": text}]


def ranked_pair(pair_id: str, prompt: str, ranked: Sequence[str], *, is_a: bool = True) -> PreferencePair:
    """Three responses, best first, as a row of the second stage: the best is the reference of the other two.

    ValueError where there are not three different responses.
    """
    if len(ranked) != 3 or len(set(ranked)) != 3:
        raise ValueError(f"{pair_id}: a ranking needs three different responses, best first")
    best, second, third = (_said(text) for text in ranked)
    return PreferencePair(
        pair_id=pair_id,
        prompt=[{"role": "user", "content": prompt}],
        response_a=second if is_a else third,
        response_b=third if is_a else second,
        verdict="a" if is_a else "b",
        reference=best,
    )


def shuffled_policies(pairs: Sequence[PreferencePair], rng: np.random.Generator) -> list[PreferencePair]:
    """The control: which response has the reference's policy is drawn by lot."""
    return [
        replace(pair, verdict="a" if toss else "b")
        for pair, toss in zip(pairs, rng.random(len(pairs)) < 0.5, strict=True)
    ]


def length_matched(pairs: Sequence[PreferencePair], *, within: float = 0.1) -> list[PreferencePair]:
    """Pairs whose responses differ in length by at most this share of the longer: length tells nothing there."""

    def size(messages: Sequence[Message]) -> int:
        return sum(len(m["content"]) for m in messages)

    sizes = [(size(pair.response_a), size(pair.response_b)) for pair in pairs]
    return [pair for pair, (a, b) in zip(pairs, sizes, strict=True) if abs(a - b) <= within * max(a, b)]
