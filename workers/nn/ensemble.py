"""An ensemble's checkpoint: its members' files, how their rewards are combined, and probes.

member-0/, member-1/, ...   the members' own checkpoints (a rule has none)
reward_model.json           families, settings and scale of the members, eight texts with the rewards they must get
reference.npz               for votes: every member's rewards of the training responses, ascending
"""

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.context import CheckpointRef, JobContext
from workers.data.schema import Scores
from workers.environment import describe_environment, peak_rss_mib
from workers.errors import JobError
from workers.families import FAMILIES
from workers.families.base import Item, Scorer, extra_of, no_report
from workers.nn.checkpoints import ABOUT, read_about, write_about
from workers.nn.folders import write_folder
from workers.specs import parse_spec
from workers.stats.ensembles import pair_votes, standardised, vote_share
from workers.stats.metrics import pairwise_accuracy

REFERENCE = "reference.npz"
MOST_MEASURED = 10_000
"""Responses measured at most: the scale of a member needs no more."""
N_PROBES = 8
SAME_REWARD = 1e-4

Array = NDArray[np.float64]


@dataclass(frozen=True)
class EnsembleScorer:
    """Members and how they are combined. mean, std: (m,), on the training responses; reference: a member, for votes."""

    names: Sequence[str]
    members: Sequence[Scorer]
    combine: str
    mean: Array
    std: Array
    reference: Sequence[Array]

    def score(self, items: Sequence[Item], *, on_batch: Callable[[int], None] = no_report) -> Scores:
        """Progress counts items that the last member has scored."""
        found = [member.score(items, on_batch=lambda _: on_batch(0)) for member in self.members[:-1]]
        found.append(self.members[-1].score(items, on_batch=on_batch))
        rewards = np.stack([scores.values for scores in found], axis=1).reshape(-1, len(found))
        return Scores(
            values=self.combined(rewards),
            n_tokens=np.sum([scores.n_tokens for scores in found], axis=0),
            n_truncated=max(scores.n_truncated for scores in found),
            n_response_cut=max(scores.n_response_cut for scores in found),
            parts=[self._part(row, number, found) for number, row in enumerate(rewards)],
        )

    def combined(self, rewards: Array) -> Array:
        """One reward a response from rewards of shape (n, m)."""
        if self.combine == "vote":
            return vote_share(rewards, self.reference)
        scaled = rewards if self.combine == "mean" else standardised(rewards, self.mean, self.std)
        return np.asarray(scaled.mean(axis=1), dtype=np.float64)

    def _part(self, row: Array, number: int, found: Sequence[Scores]) -> dict[str, Any]:
        """Rewards of the members, and the spread of their standardised rewards."""
        safe = np.where(self.std > 0, self.std, 1.0)
        told: dict[str, Any] = {
            "members": dict(zip(self.names, row.tolist(), strict=True)),
            "spread": float(((row - self.mean) / safe).std()),
        }
        for name, scores in zip(self.names, found, strict=True):
            if scores.parts and "unscored" in scores.parts[number]:
                told["unscored"] = f"{name}: {scores.parts[number]['unscored']}"
        return told


def open_ensemble(path: Path, *, threads: int | None = None) -> EnsembleScorer:
    """JobError says which file is missing."""
    if not (path / ABOUT).is_file():
        raise JobError(f"The folder {path.name} is not an ensemble: {ABOUT} is missing.", "Train the ensemble again.")
    about = read_about(path)
    members = []
    for number, told in enumerate(about["members"]):
        folder = path / f"member-{number}" if told["has_files"] else None
        if folder is not None and not folder.is_dir():
            raise JobError(f"The files of member {number + 1} are missing.", "Train the ensemble again.")
        members.append(_open(CheckpointRef("", told["family"], told["config"], folder), threads))
    reference: list[Array] = []
    if (path / REFERENCE).is_file():
        with np.load(path / REFERENCE) as kept:
            reference = [kept[f"member_{number}"] for number in range(len(members))]
    mean, std = (np.array([told[key] for told in about["members"]]) for key in ("mean", "std"))
    names = [told["name"] for told in about["members"]]
    return EnsembleScorer(names, members, about["config"]["combine"], mean, std, reference)


def _open(reference: CheckpointRef, threads: int | None = None) -> Scorer:
    family: Any = FAMILIES.get(reference.family)
    scorer: Scorer = family.open(parse_spec(family.Config, reference.config), reference.path, threads=threads)
    return scorer


def assemble(ctx: JobContext, spec: Any, config: Any) -> dict[str, Any]:
    """Measure the members on the responses of the source, and store all as one checkpoint; the result as JSON."""
    started = time.monotonic()
    references = [ctx.load_checkpoint(uid) for uid in config.members]
    items, pairs = _responses(ctx, spec)
    names = [f"{number + 1} {reference.family}" for number, reference in enumerate(references)]
    ctx.log(f"{len(items)} responses to measure {len(names)} members on; nothing is trained")
    columns = []
    for number, reference in enumerate(references):
        columns.append(_measured(ctx, reference, items, names[number], place=(number, len(names))))
        _insist_usable(columns[-1], names[number], config.combine)
    rewards = np.stack(columns, axis=1)
    folder = ctx.work_dir / "checkpoint"
    write_folder(folder, lambda draft: _fill(draft, config, references, names, rewards=rewards, items=items))
    difference = _verify(folder)
    told = _report(open_ensemble(folder), names, rewards, pairs)
    uid = ctx.save_artifact(folder, kind="checkpoint", name="checkpoint", meta={"step": 1, "validation": None})
    ctx.progress(1, 1, "Measured")
    return {
        "checkpoint": uid,
        "ended": f"{len(names)} members measured",
        "n_responses": len(items),
        "members": told,
        "probe_difference": difference,
        "seconds": round(time.monotonic() - started, 3),
        "peak_rss_mib": round(peak_rss_mib()),
        "environment": describe_environment(),
    }


def _responses(ctx: JobContext, spec: Any) -> tuple[list[Item], list[tuple[int, int]]]:
    """Responses of the source, each once and at most 10,000, and pairs of them as (chosen, rejected)."""
    query = spec.source.query()
    items: list[Item] = []
    places: dict[str, int] = {}
    pairs: list[tuple[int, int]] = []

    def place(prompt: Any, response: Any, reference: Any) -> int:
        key = hashlib.sha256(repr((prompt, response)).encode("utf-8", "surrogatepass")).hexdigest()
        if key not in places:
            places[key] = len(items)
            items.append((prompt, response, {"reference": reference} if reference else {}))
        return places[key]

    for pair in ctx.open_input("pairs", source=query):
        ctx.checkpoint()
        if len(items) >= MOST_MEASURED:
            break
        a, b = (place(pair.prompt, response, pair.reference) for response in (pair.response_a, pair.response_b))
        if pair.verdict in ("a", "b") and a != b:
            pairs.append((a, b) if pair.verdict == "a" else (b, a))
    for row in _labelled(ctx, query) if not items else ():
        place(row.prompt, row.response, row.reference)
    if len(items) < 2:
        raise JobError(
            f"An ensemble is measured on two responses or more; the source has {len(items)}.", "Choose another source."
        )
    return items, pairs


def _labelled(ctx: JobContext, query: dict[str, str]) -> Iterator[Any]:
    for number, row in enumerate(ctx.open_input("labelled", source=query)):
        ctx.checkpoint()
        if number >= MOST_MEASURED:
            return
        yield row


def _measured(
    ctx: JobContext, reference: CheckpointRef, items: Sequence[Item], name: str, *, place: tuple[int, int]
) -> Array:
    """Rewards of one member, read from the run's folder where an earlier attempt has computed them."""
    digest = hashlib.sha256(f"{reference.uid} {reference.config}".encode())
    for item in items:
        digest.update(repr(item).encode("utf-8", "surrogatepass"))
    saved = ctx.work_dir / f"rewards-{place[0]}-{digest.hexdigest()[:16]}.npy"
    if saved.is_file():
        return np.asarray(np.load(saved), dtype=np.float64)
    done = 0

    def on_batch(n: int) -> None:
        nonlocal done
        done += n
        ctx.checkpoint()
        ctx.progress(place[0] + done / len(items), place[1], f"Member {name}: {done} of {len(items)} responses")

    found = _open(reference).score(items, on_batch=on_batch).values
    draft = saved.with_suffix(".draft.npy")
    np.save(draft, found)
    draft.rename(saved)
    return np.asarray(found, dtype=np.float64)


def _insist_usable(rewards: Array, name: str, combine: str) -> None:
    if not np.isfinite(rewards).all():
        n = int((~np.isfinite(rewards)).sum())
        raise JobError(
            f"The member {name} gives {n} of {len(rewards)} responses no finite reward.",
            "Leave it out, or choose a source whose responses it can score.",
        )
    if combine != "mean" and rewards.std() == 0:
        raise JobError(
            f"The member {name} gives every response the same reward: it has no say in this ensemble.",
            "Leave it out, or choose a source with other responses.",
        )


def _fill(
    draft: Path,
    config: Any,
    references: Sequence[CheckpointRef],
    names: Sequence[str],
    *,
    rewards: Array,
    items: Sequence[Item],
) -> None:
    members = []
    for number, (reference, name) in enumerate(zip(references, names, strict=True)):
        if reference.path is not None:
            shutil.copytree(reference.path, draft / f"member-{number}")
        column = rewards[:, number]
        members.append(
            {
                "name": name,
                "uid": reference.uid,
                "family": reference.family,
                "config": reference.config,
                "has_files": reference.path is not None,
                "mean": float(column.mean()),
                "std": float(column.std()),
            }
        )
    if config.combine == "vote":
        columns = {f"member_{number}": np.sort(rewards[:, number]) for number in range(len(names))}
        np.savez(draft / REFERENCE, **columns)  # type: ignore[arg-type]
    probes = [{"prompt": item[0], "response": item[1], "extra": dict(extra_of(item))} for item in items[:N_PROBES]]
    about = {"format": 1, "family": "ensemble", "config": config.model_dump(mode="json"), "members": members}
    write_about(draft, {**about, "probes": []})
    values = open_ensemble(draft).combined(rewards[: len(probes)])
    told = [{**probe, "reward": float(value)} for probe, value in zip(probes, values, strict=True)]
    write_about(draft, {**about, "probes": told})


def _verify(folder: Path) -> float:
    """Largest difference between rewards of the probes as measured and as the copied members give them."""
    probes = read_about(folder)["probes"]
    found = open_ensemble(folder).score([(p["prompt"], p["response"], p["extra"]) for p in probes]).values
    error = float(np.abs(found - np.array([p["reward"] for p in probes])).max())
    if not error <= SAME_REWARD * max(1.0, float(np.abs(found).max())):
        raise JobError(
            f"The copied members give other rewards than those that were measured (difference {error:.2g}).",
            "The checkpoint was refused. Check the disk, and that the members' files are whole.",
        )
    return error


def _report(
    scorer: EnsembleScorer, names: Sequence[str], rewards: Array, pairs: Sequence[tuple[int, int]]
) -> list[dict[str, Any]]:
    """Scale of each member, and how often it, the ensemble and a vote a pair rank the pairs of the source right."""
    chosen, rejected = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    combined = scorer.combined(rewards)
    rows = [
        {
            "name": name,
            "mean": float(column.mean()),
            "std": float(column.std()),
            "accuracy": _rate(column[chosen] - column[rejected]),
        }
        for name, column in zip(names, rewards.T, strict=True)
    ]
    votes = pair_votes(rewards[chosen], rewards[rejected]) - 0.5
    rows.append({"name": "ensemble", "accuracy": _rate(combined[chosen] - combined[rejected])})
    return [*rows, {"name": "majority of members, pair by pair", "accuracy": _rate(votes)}]


def _rate(margin: Array) -> dict[str, float] | None:
    if not len(margin):
        return None
    found = pairwise_accuracy(margin)
    return {"value": found.accuracy, "low": found.low, "high": found.high, "n": found.n}
