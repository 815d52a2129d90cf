"""What an audit of labels has led to, applied to pairs as they stream into training. Stored rows stay as they are."""

import csv
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from django.conf import settings

from annotator.errors import DomainError
from rmeval.models import Artifact, PairEdit, Run
from workers.data.schema import PreferencePair, Verdict

STRENGTH, SPREAD = "audit_margin", "audit_spread"
OTHER: dict[str, Verdict] = {"a": "b", "b": "a"}


@dataclass(frozen=True)
class Standing:
    """An edit that stands."""

    kind: str
    value: float | None


@dataclass(frozen=True)
class Strength:
    """Of a pair as it is stored: mean margin towards its label, spread, and the responses it was measured on."""

    mu: float
    sigma: float
    verdict: str


def standing_edits(kind: Literal["dataset", "snapshot"], source_id: int) -> dict[int, Standing]:
    """Edits that stand, by the key of the pair's row."""
    rows = PairEdit.objects.filter(**{f"{kind}_id": source_id}, reverted_at=None)
    return {row: Standing(what, value) for row, what, value in rows.values_list("row_id", "kind", "value")}


def edits_sha256(edits: Mapping[int, Standing]) -> str:
    """The same edits give the same text, whoever made them when; a label that people kept is no change."""
    told = sorted((row, edit.kind, edit.value) for row, edit in edits.items() if edit.kind != PairEdit.Kind.KEEP)
    return hashlib.sha256(repr(told).encode()).hexdigest()


def edit_counts(edits: Mapping[int, Standing]) -> dict[str, int]:
    return dict(sorted(Counter(edit.kind for edit in edits.values()).items()))


def audit_table(run: Run) -> Artifact:
    """The table of strengths that an audit made."""
    found = Artifact.objects.filter(run=run, kind="table").order_by("-pk").first()
    if found is None:
        raise DomainError("This run has no table of strengths; start a label audit.", code="no_strengths")
    return found


def table_path(artifact: Artifact) -> Path:
    """The one file of an artifact that is a file."""
    place = Path(settings.ARTIFACT_DIR) / artifact.path
    path = place / artifact.name
    if not path.is_file():
        raise DomainError(
            f"The table of strengths is not on this machine ({place}). Web and workers share one artifact store.",
            code="artifact_missing",
        )
    return path


def table_rows(run: Run) -> Iterator[dict[str, str]]:
    """Rows of the table as texts, in stored order of the pairs."""
    with table_path(audit_table(run)).open(encoding="utf-8", newline="") as opened:
        yield from csv.DictReader(opened)


def strengths_of(run: Run) -> dict[str, Strength]:
    """By pair id."""
    return {row["pair_id"]: Strength(float(row["mu"]), float(row["sigma"]), row["verdict"]) for row in table_rows(run)}


def edited_pairs(
    pairs: Iterator[tuple[int, PreferencePair]], edits: Mapping[int, Standing], strengths: Mapping[str, Strength]
) -> Iterator[PreferencePair]:
    """Pairs with their row's key, with what stands of them and what was measured. A dropped pair has weight 0."""
    for row, pair in pairs:
        found = with_strength(pair, strengths.get(pair.pair_id))
        edit = edits.get(row)
        yield edited(found, edit) if edit else found


def with_strength(pair: PreferencePair, found: Strength | None) -> PreferencePair:
    """Strength as metadata, towards the label that the pair has now."""
    if found is None or pair.verdict not in OTHER:
        return pair
    mu = found.mu if found.verdict == pair.verdict else -found.mu
    return replace(pair, meta={**pair.meta, STRENGTH: mu, SPREAD: found.sigma})


def edited(pair: PreferencePair, edit: Standing) -> PreferencePair:
    """One pair after one edit. A turned label turns its strength and the shares of raters as well."""
    if edit.kind == PairEdit.Kind.DROP:
        return replace(pair, weight=0.0)
    if edit.kind == PairEdit.Kind.WEIGHT:
        return replace(pair, weight=pair.weight * (edit.value or 0.0))
    if edit.kind == PairEdit.Kind.KEEP or pair.verdict not in OTHER:
        return pair
    if edit.kind == PairEdit.Kind.SOFTEN:
        return replace(pair, flip_chance=edit.value or 0.0)
    meta: dict[str, Any] = dict(pair.meta)
    if STRENGTH in meta:
        meta[STRENGTH] = -meta[STRENGTH]
    soft = None if pair.soft_target is None else 1 - pair.soft_target
    return replace(pair, verdict=OTHER[pair.verdict], soft_target=soft, meta=meta)
