"""From judgements to frozen rows: filter, aggregation and the canonical form that is hashed. Pure; no database."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal
from uuid import UUID

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator

from workers.stats.majority import VERDICTS, majority

CANONICAL_VERSION = 1
UNDECIDED = "undecided"
Aggregation = Literal["majority", "each"]
AGGREGATIONS: tuple[Aggregation, ...] = ("majority", "each")
AGGREGATION_MEANINGS = {
    "majority": "one row an item, with the verdict given most often; undecided where no verdict leads alone",
    "each": "one row a judgement, so that a trainer sees every disagreement",
}


class SnapshotFilter(BaseModel):
    """Which judgements and items go into a snapshot."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    verdicts: list[Literal["a", "b", "tie", "both_bad"]] | None = Field(
        default=None, min_length=1, description="Keep rows with one of these verdicts; all when left out."
    )
    min_judgements: int = Field(default=1, ge=1, le=50, description="Keep items with at least this many judgements.")
    raters: list[str] | None = Field(
        default=None, min_length=1, max_length=1000, description="Use judgements of these raters (their r-… ids) alone."
    )
    since: AwareDatetime | None = Field(default=None, description="Use judgements submitted at or after this time.")
    exclude_flagged: bool = Field(default=False, description="Leave out items with an open flag.")

    @field_validator("verdicts", "raters")
    @classmethod
    def sort_once(cls, values: list[str] | None) -> list[str] | None:
        """Order and repeats mean nothing, so they must not change the hash."""
        return None if values is None else sorted(set(values))

    @field_validator("since")
    @classmethod
    def is_near(cls, value: datetime | None) -> datetime | None:
        """At the ends of the calendar a time has no counterpart in UTC, or no year of four digits."""
        if value is not None and not 1900 <= value.year <= 9000:
            raise ValueError("a time between the years 1900 and 9000")
        return value

    def canonical(self) -> dict[str, Any]:
        """What is stored and hashed: only what was set, times in UTC."""
        values = self.model_dump(exclude_defaults=True)
        if self.since is not None:
            values["since"] = utc_text(self)
        return values


def utc_text(chosen: SnapshotFilter) -> str:
    """The time in the same form as the frozen judgements have it, so that texts compare as times do."""
    if chosen.since is None:
        return ""
    return chosen.since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@lru_cache(maxsize=10_000)
def rater_pseudonym(project_uid: UUID, rater_uid: UUID) -> str:
    """The same in every export of a project, different in another; leads nowhere without the database."""
    digest = hashlib.blake2b(rater_uid.bytes, key=project_uid.bytes, digest_size=5)
    return f"r-{digest.hexdigest()}"


def canonical_json(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


@dataclass(slots=True)
class SourceItem:
    """One item with its texts (canonical JSON) and its current judgements, as they were at one moment."""

    item_id: int
    item_uid: str
    example_id: int
    example_uid: str
    response_a_id: int
    response_b_id: int
    prompt: bytes
    response_a: bytes
    response_b: bytes
    is_flagged: bool
    judgements: list[dict[str, Any]]


@dataclass(slots=True)
class FrozenRow:
    """One row of a snapshot."""

    source: SourceItem
    verdict: str | None
    preference_strength: int | None
    shares: dict[str, float]
    judgements: list[dict[str, Any]]

    def canonical(self, judgements: bytes) -> bytes:
        """The bytes of this row that enter the hash: identity, texts, verdict and every judgement behind it.

        `judgements` are this row's own as canonical JSON, which the caller needs too.
        """
        source = self.source
        body = {
            "item": source.item_uid,
            "example": source.example_uid,
            "prompt": orjson.Fragment(source.prompt),
            "response_a": orjson.Fragment(source.response_a),
            "response_b": orjson.Fragment(source.response_b),
            "verdict": self.verdict,
            "preference_strength": self.preference_strength,
            "shares": self.shares,
            "judgements": orjson.Fragment(judgements),
        }
        return orjson.dumps(body, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)


@dataclass(slots=True)
class Tally:
    """What was used and what was left out, with reasons."""

    n_items: int = 0
    n_items_used: int = 0
    n_judgements: int = 0
    n_judgements_used: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    items_left_out: Counter[str] = field(default_factory=Counter)
    judgements_left_out: Counter[str] = field(default_factory=Counter)

    def counts(self) -> dict[str, Any]:
        return {
            "rows": {verdict: self.rows[verdict] for verdict in (*VERDICTS, UNDECIDED)},
            "items": {
                "total": self.n_items,
                "used": self.n_items_used,
                "left_out": dict(sorted(self.items_left_out.items())),
            },
            "judgements": {
                "total": self.n_judgements,
                "used": self.n_judgements_used,
                "left_out": dict(sorted(self.judgements_left_out.items())),
            },
        }


def rows_of(item: SourceItem, chosen: SnapshotFilter, aggregation: Aggregation, tally: Tally) -> Iterator[FrozenRow]:
    """The frozen rows of one item; every judgement and item that makes none is counted with its reason."""
    usable = []
    since = utc_text(chosen)
    for judgement in item.judgements:
        reason = left_out(judgement, chosen, since)
        tally.n_judgements += 1
        if reason:
            tally.judgements_left_out[reason] += 1
        else:
            usable.append(judgement)
    reason = item_left_out(item, usable, chosen)
    rows = [] if reason else list(AGGREGATE[aggregation](item, usable))
    kept = [row for row in rows if chosen.verdicts is None or row.verdict in chosen.verdicts]
    if not kept:
        tally.items_left_out[reason or "other_verdict"] += 1
        if usable:
            tally.judgements_left_out["item_left_out"] += len(usable)
        return
    if dropped := sum(len(row.judgements) for row in rows) - sum(len(row.judgements) for row in kept):
        tally.judgements_left_out["other_verdict"] += dropped
    tally.n_items_used += 1
    for row in kept:
        tally.rows[row.verdict or UNDECIDED] += 1
        tally.n_judgements_used += len(row.judgements)
        yield row


def left_out(judgement: dict[str, Any], chosen: SnapshotFilter, since: str) -> str:
    if judgement["is_surplus"]:
        return "surplus"
    if judgement["verdict"] is None:
        return "cannot_judge"
    if chosen.raters is not None and judgement["rater"] not in chosen.raters:
        return "other_rater"
    return "before_since" if since and judgement["submitted_at"] < since else ""


def item_left_out(item: SourceItem, usable: list[dict[str, Any]], chosen: SnapshotFilter) -> str:
    if not usable:
        return "no_usable_judgement"
    if chosen.exclude_flagged and item.is_flagged:
        return "flagged"
    return "too_few_judgements" if len(usable) < chosen.min_judgements else ""


def frozen(judgement: dict[str, Any]) -> dict[str, Any]:
    kept = judgement.copy()
    del kept["is_surplus"]
    return kept


def by_majority(item: SourceItem, judgements: list[dict[str, Any]]) -> Iterator[FrozenRow]:
    """One row; without a single most frequent verdict it is kept as undecided, so that no judgement is lost."""
    if len(judgements) == 1:  # most queues ask one rater; what one says is the majority
        yield from each(item, judgements)
        return
    found = majority([j["verdict"] for j in judgements], [j["preference_strength"] for j in judgements])
    shares = zip(VERDICTS, (found.share_a, found.share_b, found.share_tie, found.share_both_bad), strict=True)
    yield FrozenRow(
        source=item,
        verdict=found.verdict,
        preference_strength=found.preference_strength,
        shares={verdict: share for verdict, share in shares if share},
        judgements=[frozen(judgement) for judgement in judgements],
    )


def each(item: SourceItem, judgements: list[dict[str, Any]]) -> Iterator[FrozenRow]:
    for judgement in judgements:
        yield FrozenRow(
            source=item,
            verdict=judgement["verdict"],
            preference_strength=judgement["preference_strength"],
            shares={judgement["verdict"]: 1.0},
            judgements=[frozen(judgement)],
        )


AGGREGATE: dict[str, Callable[[SourceItem, list[dict[str, Any]]], Iterator[FrozenRow]]] = {
    "majority": by_majority,
    "each": each,
}
