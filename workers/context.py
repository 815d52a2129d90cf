"""What a job may ask of the place it runs in, and the plain-file place used offline, in tests and in benchmarks.

The database context lives with the Celery tasks; both are the same to a job.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import numpy as np

from workers.data.schema import LabelledResponse, PreferencePair, ResponseItem, ScoredPairs
from workers.data.spread import says_something, spread
from workers.errors import JobCancelled, JobError


@dataclass(frozen=True, slots=True)
class RewardModelRef:
    uid: str
    family: str
    config: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CheckpointRef:
    """Weights (or a rule, then `path` is None) that give rewards."""

    uid: str
    family: str
    config: dict[str, Any]
    path: Path | None


class JobContext(Protocol):
    """The world of one attempt of one run. Methods may be called as often as a job likes: implementations throttle."""

    run_uid: str
    attempt: int
    work_dir: Path
    """Survives kills: the same folder for every attempt of the run."""

    def progress(self, done: float, total: float, message: str = "") -> None:
        """How far the run is; also the heartbeat."""

    def metric(self, step: int, **values: float) -> None:
        """One point of the charts. After a resume, steps since the last checkpoint are reported again."""

    def log(self, message: str, level: str = "info") -> None: ...

    def checkpoint(self) -> None:
        """Raise JobCancelled when the run was asked to stop. Called several times a second."""

    def open_input(self, name: str, **query: Any) -> Iterator[Any]:
        """Stream an input.

        "pairs", source={"dataset": uid} or {"snapshot": uid}  -> PreferencePair, in a stable order
        "labelled", source=...                                 -> LabelledResponse, in a stable order
        "responses", checkpoint=uid, source=...                -> ResponseItem that the checkpoint has not yet scored;
        scores may be saved while this is being read; extra=key: that it has not scored under this key.
        "person", source={"dataset"|"snapshot"|"queue": uid}, rater=name, rater_key=..., most=n
                                                               -> PreferencePair that this rater decided, spread evenly
        """

    def count_input(self, name: str, **query: Any) -> int: ...

    def load_reward_model(self, uid: str) -> RewardModelRef: ...

    def make_reward_model(self, *, name: str, family: str, config: dict[str, Any]) -> RewardModelRef:
        """A new reward model that this run's checkpoints belong to; a later attempt gets the one made before."""

    def load_checkpoint(self, uid: str) -> CheckpointRef: ...

    def describe_checkpoint(self, uid: str) -> dict[str, Any]:
        """What a model card states: name, data hash, run, metrics, evaluations, licence."""

    def save_artifact(self, path: Path, *, kind: str, name: str, meta: Mapping[str, Any]) -> str:
        """Keep a file or folder; returns its uid.

        kind="checkpoint" makes it a checkpoint of the reward model that the spec names.
        """

    def save_scores(
        self,
        checkpoint_uid: str,
        rows: Iterable[tuple[int, float]],
        parts: Mapping[int, Any] | None = None,
        *,
        extra: str = "",
    ) -> int:
        """Store (response_id, reward) rows, never twice; how many were new. parts: more to tell, by response id.

        extra: what the reward depends on besides the response, such as the person it is for; empty for nothing.
        """

    def scored_pairs(self, checkpoint_uid: str, source: Mapping[str, str]) -> ScoredPairs:
        """Rewards of the pairs of a source that have a chosen response and both scores."""


@dataclass
class LocalJobContext:
    """A context of plain files and memory. Sources are lists of pairs by uid; scores stay in a dictionary."""

    work_dir: Path
    pairs: Mapping[str, Sequence[PreferencePair]] = field(default_factory=dict)
    labelled: Mapping[str, Sequence[LabelledResponse]] = field(default_factory=dict)
    reward_models: Mapping[str, RewardModelRef] = field(default_factory=dict)
    checkpoints: dict[str, CheckpointRef] = field(default_factory=dict)
    run_uid: str = field(default_factory=lambda: str(uuid4()))
    attempt: int = 1
    is_cancelled: Callable[[], bool] = lambda: False
    echo: Callable[[str], None] = lambda _: None
    reward_model: str = ""
    """uid of the reward model that a saved checkpoint belongs to."""
    metrics: list[dict[str, float]] = field(default_factory=list)
    logs: list[tuple[str, str]] = field(default_factory=list)
    scores: dict[str, dict[int, float]] = field(default_factory=dict)
    parts: dict[str, dict[int, Any]] = field(default_factory=dict)
    fraction_done: float = 0.0
    message: str = ""

    def __post_init__(self) -> None:
        self.work_dir.mkdir(parents=True, exist_ok=True)

    def progress(self, done: float, total: float, message: str = "") -> None:
        self.fraction_done = done / total if total else 0.0
        self.message = message or self.message
        self.echo(f"{self.fraction_done:6.1%} {self.message}")

    def metric(self, step: int, **values: float) -> None:
        row = {"step": step, **values}
        self.metrics.append(row)
        with (self.work_dir / "metrics.jsonl").open("a") as out:
            out.write(json.dumps({**row, "attempt": self.attempt, "at": time.time()}) + "\n")

    def log(self, message: str, level: str = "info") -> None:
        self.logs.append((level, message))
        self.echo(f"{level}: {message}")

    def checkpoint(self) -> None:
        if self.is_cancelled():
            raise JobCancelled

    def open_input(self, name: str, **query: Any) -> Iterator[Any]:
        pairs = self._source(query["source"])
        if name == "pairs":
            return iter(pairs)
        if name == "labelled":
            return iter(self.labelled.get(next(iter(query["source"].values())), ()))
        if name == "responses":
            return self._responses(pairs, self.scores.setdefault(query["checkpoint"] + query.get("extra", ""), {}))
        if name == "person":
            key = query["rater_key"]
            own = [p for p in pairs if (p.meta.get(key) if key else p.rater) == query["rater"] and says_something(p)]
            return iter(spread(own, query["most"]))
        raise JobError(f"There is no input called {name!r}.")

    def count_input(self, name: str, **query: Any) -> int:
        return sum(1 for _ in self.open_input(name, **query))

    def load_reward_model(self, uid: str) -> RewardModelRef:
        return self.reward_models[uid]

    def make_reward_model(self, *, name: str, family: str, config: dict[str, Any]) -> RewardModelRef:
        if name not in self.reward_models:
            self.reward_models = {**self.reward_models, name: RewardModelRef(name, family, config)}
        self.reward_model = name
        return self.reward_models[name]

    def load_checkpoint(self, uid: str) -> CheckpointRef:
        return self.checkpoints[uid]

    def describe_checkpoint(self, uid: str) -> dict[str, Any]:
        found = self.checkpoints[uid]
        told = {"name": found.family, "number": 1, "uid": uid, "family": found.family, "config": found.config}
        return {**told, "sha256": "", "metrics": {}, "licence": "", "data": {}, "run": {}, "evaluations": []}

    def save_artifact(self, path: Path, *, kind: str, name: str, meta: Mapping[str, Any]) -> str:
        uid = str(uuid4())
        kept = self.work_dir / "artifacts" / uid
        kept.parent.mkdir(exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, kept)
        else:
            shutil.copy2(path, kept)
        if kind == "checkpoint":
            model = self.reward_models[self.reward_model] if self.reward_model else RewardModelRef("", "", {})
            self.checkpoints[uid] = CheckpointRef(uid, model.family, model.config, kept)
        return uid

    def save_scores(
        self,
        checkpoint_uid: str,
        rows: Iterable[tuple[int, float]],
        parts: Mapping[int, Any] | None = None,
        *,
        extra: str = "",
    ) -> int:
        """Those with an extra key are kept under the checkpoint's uid with the key behind it."""
        self.parts.setdefault(checkpoint_uid + extra, {}).update(parts or {})
        known = self.scores.setdefault(checkpoint_uid + extra, {})
        new = {response_id: value for response_id, value in rows if response_id not in known}
        known.update(new)
        return len(new)

    def scored_pairs(self, checkpoint_uid: str, source: Mapping[str, str]) -> ScoredPairs:
        known, pairs = self.scores.get(checkpoint_uid, {}), self._source(source)
        decided = [p for p in pairs if p.verdict in ("a", "b")]
        scored = [p for p in decided if p.response_a_id in known and p.response_b_id in known]
        rewards = np.array([_chosen_rejected(p, known) for p in scored], dtype=np.float64).reshape(-1, 2)
        return ScoredPairs(
            reward_chosen=rewards[:, 0],
            reward_rejected=rewards[:, 1],
            pair_ids=[p.pair_id for p in scored],
            prompt_keys=[p.prompt_key for p in scored],
            meta=[p.meta for p in scored],
            n_tie=len(pairs) - len(decided),
            n_unscored=len(decided) - len(scored),
        )

    def _source(self, source: Mapping[str, str]) -> Sequence[PreferencePair]:
        uid = next(iter(source.values()))
        if uid not in self.pairs and uid in self.labelled:
            return ()
        if uid not in self.pairs:
            raise JobError(f"There is no source {uid!r}.", "Name a dataset or a snapshot that exists.")
        return self.pairs[uid]

    @staticmethod
    def _responses(pairs: Sequence[PreferencePair], scored: Mapping[int, float]) -> Iterator[ResponseItem]:
        seen: set[int] = set()
        for pair in pairs:
            for response_id, response in ((pair.response_a_id, pair.response_a), (pair.response_b_id, pair.response_b)):
                if response_id is None or response_id in seen or response_id in scored:
                    continue
                seen.add(response_id)
                extra: dict[str, Any] = {"reference": pair.reference} if pair.reference else {}
                if context := pair.meta.get("context"):
                    extra["context"] = context
                yield ResponseItem(response_id, pair.prompt, response, extra)


def _chosen_rejected(pair: PreferencePair, rewards: Mapping[int, float]) -> tuple[float, float]:
    a, b = rewards[pair.response_a_id or 0], rewards[pair.response_b_id or 0]
    return (a, b) if pair.verdict == "a" else (b, a)
