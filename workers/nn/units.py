"""Training units as token ids, read once: a pair is two encoded sequences, a labelled response is one."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.data.render import Encoded, Renderer
from workers.families.base import Item
from workers.objectives.base import Objective, Targets

READ_AT_ONCE = 256
N_PROBES = 8
Encoder = Callable[[Renderer, Sequence[Item]], Sequence[Encoded]]


@dataclass
class UnitData:
    """Encoded units that the objective has a use for, in the order they came."""

    columns: list[list[Encoded]]
    """columns[c][i]: sequence c of unit i. A pair has two, response_a and response_b."""
    targets: Targets
    prompt_keys: list[str]
    fingerprint: str
    n_read: int
    left_out: dict[str, int]
    """Why units were not used, and how many."""
    ids: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    raters: list[str] = field(default_factory=list)
    probes: list[Item] = field(default_factory=list)
    features: "list[Features] | None" = None
    """Of a frozen backbone, one entry a column; the token ids are then not read again."""

    def __len__(self) -> int:
        return len(self.columns[0]) if self.columns else 0

    def kept(self, rows: NDArray[np.int64], reasons: Counter[str]) -> "UnitData":
        """These units only; `reasons` counts why the others were left out. Another choice is another training set."""
        chosen = hashlib.sha256(f"{self.fingerprint} {self.raters}".encode("utf-8", "surrogatepass"))
        chosen.update(np.ascontiguousarray(rows).tobytes())

        def of(values: list[Any]) -> list[Any]:
            return [values[i] for i in rows] if values else []

        return replace(
            self,
            columns=[of(column) for column in self.columns],
            targets=self.targets.rows(rows),
            prompt_keys=of(self.prompt_keys),
            fingerprint=chosen.hexdigest(),
            left_out=dict(Counter(self.left_out) + reasons),
            ids=of(self.ids),
            sources=of(self.sources),
            raters=of(self.raters),
        )

    @property
    def prompts_sha256(self) -> str:
        """Of the set of prompts: equal for ratings and preferences of the same prompts, in any order."""
        told = "\n".join(sorted(set(self.prompt_keys)))
        return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of all sequences of a unit; 1 where only features are read."""
        if self.features is not None:
            return np.ones(len(self), dtype=np.int64)
        return np.array([sum(len(part) for part in unit) for unit in zip(*self.columns, strict=True)], dtype=np.int64)

    @property
    def n_truncated(self) -> int:
        return sum(item.n_prompt_dropped > 0 for column in self.columns for item in column)

    @property
    def n_response_cut(self) -> int:
        return sum(item.n_response_dropped > 0 for column in self.columns for item in column)


@dataclass(frozen=True)
class Features:
    """Vectors of a frozen backbone: `response` of shape (n, width), and `prompt` where the head asks for it."""

    response: NDArray[np.float32]
    prompt: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Keys:
    """Metadata keys that name the rater and the source of a row, where the row itself does not."""

    rater: str | None = None
    source: str | None = None


def read_units(
    rows: Iterable[Any],
    renderer: Renderer,
    objective: Objective,
    *,
    on_read: Callable[[int], None],
    encode: Encoder | None = None,
    unfit: Callable[[Item], str | None] = lambda _: None,
    keys: Keys = Keys(),
) -> UnitData:
    """Encode rows as they stream in; `on_read(n)` after every block. `unfit` says why an item cannot be read."""
    reader = _Reader(renderer, objective, encode or _plain, unfit, keys)
    stream = iter(rows)
    while block := list(islice(stream, READ_AT_ONCE)):
        reader.take(block)
        on_read(reader.n_read)
    return reader.data()


def _plain(renderer: Renderer, items: Sequence[Item]) -> Sequence[Encoded]:
    return renderer.encode([(item[0], item[1]) for item in items])


class _Reader:
    def __init__(
        self,
        renderer: Renderer,
        objective: Objective,
        encode: Encoder,
        unfit: Callable[[Item], str | None],
        keys: Keys,
    ) -> None:
        self.renderer, self.objective, self.encode, self.unfit, self.keys = renderer, objective, encode, unfit, keys
        self.columns: list[list[Encoded]] = []
        self.targets: list[Targets] = []
        self.told: dict[str, list[str]] = {"prompt_key": [], "id": [], "source": [], "rater": []}
        self.left_out = Counter[str]()
        self.probes: list[Item] = []
        self.odd_probes: list[Item] = []
        """Items without a token before the response, which some nets cannot read: taken where there are no others."""
        self.n_read = 0

    def take(self, block: list[Any]) -> None:
        self.n_read += len(block)
        aims = self.objective.targets(block)
        kept = []
        for i, row in enumerate(block):
            reason = self._refusal(row, is_used=bool(aims.is_used[i]))
            if reason:
                self.left_out[reason] += 1
            else:
                kept.append(i)
        units = [self.objective.items(block[i]) for i in kept]
        width = len(units[0]) if units else 0
        encoded = self.encode(self.renderer, [item for unit in units for item in unit])
        if not self.columns:
            self.columns = [[] for _ in range(width)]
        for number in range(width):
            self.columns[number] += encoded[number::width]
        self.targets.append(aims.rows(np.array(kept, dtype=np.int64)))
        for i in kept:
            self._tell(block[i])
        self._probe(units, encoded[::width] if width else [])

    def _refusal(self, row: Any, *, is_used: bool) -> str | None:
        if not is_used:
            return self.objective.refusal(row)
        items = self.objective.items(row)
        if len(items) == 2 and items[0][1] == items[1][1]:
            return "same response twice"
        return next((reason for item in items if (reason := self.unfit(item))), None)

    def _probe(self, units: Sequence[Sequence[Item]], encoded: Sequence[Encoded]) -> None:
        """The first sequence of a few units, to be scored again when the checkpoint is opened."""
        for unit, item in zip(units, encoded, strict=True):
            if len(self.probes) == N_PROBES:
                return
            probes = self.probes if item.n_response < len(item) else self.odd_probes
            probes.append(unit[0])

    def _tell(self, row: Any) -> None:
        self.told["prompt_key"].append(row.prompt_key)
        self.told["id"].append(str(getattr(row, "pair_id", "") or getattr(row, "response_id", "") or ""))
        self.told["rater"].append(_named(row.rater, row.meta, self.keys.rater))
        self.told["source"].append(_named(row.source, row.meta, self.keys.source))

    def data(self) -> UnitData:
        digest = hashlib.sha256(self.renderer.fingerprint.encode())
        for column in self.columns:
            for item in column:
                digest.update(item.ids.tobytes())
        joined = type(self.targets[0]).joined(self.targets) if self.targets else self.objective.targets([])
        joined.digest(digest)
        return UnitData(
            columns=self.columns,
            targets=joined,
            prompt_keys=self.told["prompt_key"],
            fingerprint=digest.hexdigest(),
            n_read=self.n_read,
            left_out=dict(self.left_out),
            ids=self.told["id"],
            sources=self.told["source"],
            raters=self.told["rater"],
            probes=self.probes or self.odd_probes[:N_PROBES],
        )


def _named(own: str, meta: Any, key: str | None) -> str:
    """A key of the metadata, where one is named, says more than what the row itself is called."""
    told = meta.get(key) if key else own
    return "" if told is None else str(told)
