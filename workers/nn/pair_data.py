"""Pairs as token ids, read once: what training needs of them and nothing more."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.data.render import Encoded, Renderer
from workers.data.schema import Message, PreferencePair
from workers.objectives.base import Objective, PairTargets

READ_AT_ONCE = 256
N_PROBES = 8


@dataclass
class PairData:
    """Encoded pairs that the objective has a use for, in the order they came."""

    a: list[Encoded]
    b: list[Encoded]
    targets: PairTargets
    prompt_keys: list[str]
    fingerprint: str
    n_read: int
    left_out: dict[str, int]
    """Why pairs were not used, and how many."""
    probes: list[tuple[list[Message], list[Message]]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.a)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of both responses of a pair."""
        return np.array([len(a) + len(b) for a, b in zip(self.a, self.b, strict=True)], dtype=np.int64)

    @property
    def n_truncated(self) -> int:
        return sum(item.n_prompt_dropped > 0 for item in (*self.a, *self.b))

    @property
    def n_response_cut(self) -> int:
        return sum(item.n_response_dropped > 0 for item in (*self.a, *self.b))


def read_pairs(
    pairs: Iterable[PreferencePair], renderer: Renderer, objective: Objective, *, on_read: Callable[[int], None]
) -> PairData:
    """Encode pairs as they stream in; `on_read(n)` after every block."""
    digest, left_out = hashlib.sha256(renderer.fingerprint.encode()), Counter[str]()
    a: list[Encoded] = []
    b: list[Encoded] = []
    targets: list[PairTargets] = []
    keys: list[str] = []
    probes: list[Any] = []
    n_read = 0
    rows = iter(pairs)
    while block := list(islice(rows, READ_AT_ONCE)):
        n_read += len(block)
        aims = objective.targets(block)
        used = np.flatnonzero(aims.is_used & np.array([p.response_a != p.response_b for p in block]))
        left_out.update(_reason(block[i]) for i in range(len(block)) if i not in set(used.tolist()))
        kept = [block[i] for i in used]
        encoded = renderer.encode([(p.prompt, r) for p in kept for r in (p.response_a, p.response_b)])
        a += encoded[0::2]
        b += encoded[1::2]
        targets.append(aims.rows(used))
        keys += [p.prompt_key for p in kept]
        probes += [(p.prompt, p.response_a) for p in kept[: N_PROBES - len(probes)]]
        on_read(n_read)
    for item in (*a, *b):
        digest.update(item.ids.tobytes())
    joined = _joined(targets)
    digest.update(joined.target.tobytes() + joined.weight.tobytes() + joined.offset.tobytes())
    return PairData(a, b, joined, keys, digest.hexdigest(), n_read, dict(left_out), probes)


def _reason(pair: PreferencePair) -> str:
    if pair.verdict in ("tie", "both_bad"):
        return pair.verdict
    return "same response twice" if pair.response_a == pair.response_b else "no weight"


def _joined(parts: Sequence[PairTargets]) -> PairTargets:
    names = ("is_used", "target", "weight", "offset", "is_tie")
    if not parts:
        empty = np.zeros(0)
        return PairTargets(empty.astype(bool), empty, empty, empty, empty.astype(bool))
    return PairTargets(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
