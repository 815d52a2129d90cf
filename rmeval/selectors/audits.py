"""Reads behind the page of a label audit: suspects with their texts, edits that stand, which pairs a choice means."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Q, QuerySet

from annotator.errors import FieldError, InvalidInput
from annotator.models import Project, Snapshot
from rmeval.edits import table_rows
from rmeval.models import PairEdit, Run
from rmeval.sources import PairSource

PAGE = 10
MOST_SNAPSHOTS = 50


@dataclass(frozen=True)
class Suspect:
    """A pair that the members doubt, with the edit that stands of it."""

    pair_id: str
    mu: float
    sigma: float
    group: str
    row: Any
    edit: PairEdit | None


@dataclass(frozen=True)
class SuspectPage:
    suspects: list[Suspect]
    number: int
    n_pages: int


def suspect_page(*, run: Run, source: PairSource, number: int) -> SuspectPage:
    """The suspects that the result names, worst first."""
    top = (run.result or {}).get("suspects", {}).get("top", [])
    n_pages = max(1, -(-len(top) // PAGE))
    number = min(max(number, 1), n_pages)
    shown = top[(number - 1) * PAGE : number * PAGE]
    keys = [int(found["id"].rpartition("-")[2]) for found in shown]
    rows = source.pairs().filter(pk__in=keys).select_related("example", "response_a", "response_b").in_bulk()
    edits = {edit.row_id: edit for edit in edits_of_source(source).filter(row_id__in=keys)}
    suspects = [
        Suspect(found["id"], found["mu"], found["sigma"], found["group"], rows[key], edits.get(key))
        for key, found in zip(keys, shown, strict=True)
        if key in rows
    ]
    return SuspectPage(suspects, number, n_pages)


def edits_of_source(source: PairSource) -> "QuerySet[PairEdit]":
    """Edits that stand, whichever audit they came from."""
    rows = PairEdit.objects.filter(**{source.kind: source.row}, reverted_at=None)
    return rows.select_related("created_by", "told_by__queue")


def edits_of_run(run: Run) -> "QuerySet[PairEdit]":
    """Every edit made from an audit, newest first, those taken back as well."""
    return PairEdit.objects.filter(run=run).select_related("created_by", "told_by").order_by("-pk")


def edited_choices(*, project: Project, choices: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Of sources with edits that stand: once more, for training with these."""
    rows = PairEdit.objects.filter(reverted_at=None).filter(
        Q(dataset__project=project) | Q(snapshot__queue__project=project)
    )
    counted = rows.values_list("dataset__uid", "snapshot__uid").annotate(n=Count("pk"))
    n_edits = {f"dataset:{d}" if d else f"snapshot:{s}": n for d, s, n in counted}
    return [
        (f"{value}:edits", f"{label}, {n_edits[value]} labels edited") for value, label in choices if value in n_edits
    ]


def second_looks(*, source: PairSource) -> "QuerySet[Snapshot]":
    """Snapshots that may hold second verdicts: of queues over the same texts, the newest first."""
    found = Snapshot.objects.filter(queue__dataset=source.home, state=Snapshot.State.READY, queue__deleted_at=None)
    if source.snapshot is not None:
        found = found.exclude(pk=source.snapshot.pk)
    return found.select_related("queue").order_by("-pk")[:MOST_SNAPSHOTS]


def chosen_pairs(
    *, run: Run, pairs: Sequence[str] = (), lowest_share: float | None = None, negative: bool = False
) -> list[str]:
    """Pair ids of one choice: named ones, the lowest share by strength, or all of negative strength."""
    if sum((bool(pairs), lowest_share is not None, negative)) != 1:
        detail = "Choose pairs in one way: by name, by the lowest share, or all of negative strength."
        raise InvalidInput(detail, code="no_pairs", errors=[FieldError("/pairs", "choice", detail)])
    if pairs:
        return list(pairs)
    found = sorted((float(row["mu"]), row["pair_id"]) for row in table_rows(run))
    if negative:
        return [pair for mu, pair in found if mu < 0]
    if lowest_share is None or not 0 < lowest_share <= 1:
        detail = "A share is more than 0 and at most 1."
        raise InvalidInput(detail, errors=[FieldError("/lowest_share", "range", detail)])
    return [pair for _, pair in found[: max(1, round(lowest_share * len(found)))]]
