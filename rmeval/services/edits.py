"""Decisions about labels that an audit doubts: made, replaced and taken back, never in place.

A pair has one standing edit at most; a new one ends it. What people said on second sight is not overruled by models.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Any
from uuid import UUID

from django.db import transaction

from annotator.access import refuse_archived
from annotator.errors import DomainError, FieldError, InvalidInput
from annotator.models import AuditEvent, Queue, Snapshot, User
from annotator.services.queues import queue_create
from rmeval.models import PairEdit, Run
from rmeval.sources import PairSource, source_of

AT_ONCE = 5000
#: The plain question of the queue: raters see neither the old label nor why they are asked again.
SECOND_LOOK = [{"type": "pairwise", "name": "preference", "points": 3, "allow_tie": True, "allow_both_bad": True}]
OTHER = {"a": "b", "b": "a"}


@dataclass(frozen=True)
class EditsMade:
    """n_made: new edits, of which n_replaced ended another; n_same: stood already; n_people: left as people said."""

    n_made: int
    n_replaced: int
    n_same: int
    n_people: int

    @property
    def in_words(self) -> str:
        told = [f"{self.n_made} labels edited"]
        told += [f"{self.n_replaced} of them anew"] if self.n_replaced else []
        told += [f"{self.n_same} were so already"] if self.n_same else []
        told += [f"{self.n_people} left as people said on second sight"] if self.n_people else []
        return ", ".join(told) + "."


@dataclass(frozen=True)
class Wanted:
    """One edit to be made."""

    row_id: int
    kind: str
    value: float | None
    reason: str


def audited_source(run: Run) -> PairSource:
    """The source of a finished label audit."""
    if run.kind != "audit_labels" or run.state != Run.State.DONE:
        detail = "Edits of labels are made from a finished label audit; this run is none."
        raise InvalidInput(detail, code="not_an_audit", errors=[FieldError("/run", "not_an_audit", detail)])
    refuse_archived(run.project.archived_at)
    return source_of(run.project, run.spec["source"])


def edits_make(
    *,
    run: Run,
    kind: str,
    pairs: Sequence[str],
    now: datetime,
    user: User | None,
    value: float | None = None,
    reason: str = "",
) -> EditsMade:
    """Edit the labels of `pairs` (their ids in the audit's result) alike."""
    source = audited_source(run)
    check_value(kind, value)
    rows = rows_of(source, pairs)
    said = reason.strip()[:300] or f"label audit {run.uid}"
    wanted = [Wanted(row, kind, value, said) for row in rows]
    return edits_store(source=source, wanted=wanted, run=run, user=user, now=now)


def check_value(kind: str, value: float | None) -> None:
    if kind not in PairEdit.Kind.values:
        known = ", ".join(PairEdit.Kind.values)
        detail = f"There is no edit {kind!r}; known: {known}."
        raise InvalidInput(detail, errors=[FieldError("/kind", "unknown", detail)])
    limits = {"soften": (0.0, 0.5, "more than 0 and less than 0.5"), "weight": (-1e-9, 1000.0, "from 0 to 1000")}
    if kind in limits:
        low, high, words = limits[kind]
        if value is None or not low < value < high:
            detail = f"The value of {kind} is a number {words}."
            raise InvalidInput(detail, errors=[FieldError("/value", "range", detail)])
    elif value is not None:
        detail = f"The edit {kind} takes no value."
        raise InvalidInput(detail, errors=[FieldError("/value", "not_used", detail)])


def rows_of(source: PairSource, pairs: Sequence[str]) -> list[int]:
    """Row keys of pair ids, each once; InvalidInput names the first that is no decided pair of the source."""
    if not pairs:
        raise InvalidInput("No pairs were chosen.", code="no_pairs", errors=[FieldError("/pairs", "empty", "Empty.")])
    keys = {pair: key_of(source, pair) for pair in pairs}
    known: set[int] = set()
    numbers = [key for key in keys.values() if key is not None]
    for start in range(0, len(numbers), AT_ONCE):
        known |= set(source.decided().filter(pk__in=numbers[start : start + AT_ONCE]).values_list("pk", flat=True))
    for place, (pair, key) in enumerate(keys.items()):
        if key not in known:
            detail = f"{pair[:80]!r} is not a pair of {source.name} with a preferred response."
            raise InvalidInput(detail, code="unknown_pair", errors=[FieldError(f"/pairs/{place}", "unknown", detail)])
    return list(dict.fromkeys(numbers))


def key_of(source: PairSource, pair: str) -> int | None:
    kind, _, number = pair.partition("-")
    is_key = kind == source.kind and number.isascii() and number.isdigit() and len(number) < 19
    return int(number) if is_key else None


@transaction.atomic
def edits_store(
    *,
    source: PairSource,
    wanted: Sequence[Wanted],
    run: Run,
    user: User | None,
    now: datetime,
    told_by: Snapshot | None = None,
) -> EditsMade:
    """End what stands of these pairs where it differs, and make the edits. One caller at a time for a source."""
    type(source.row)._default_manager.select_for_update(of=("self",)).get(pk=source.row.pk)
    of_source: dict[str, Any] = {source.kind: source.row}
    standing = {edit.row_id: edit for edit in PairEdit.objects.filter(**of_source, reverted_at=None)}
    new: list[PairEdit] = []
    ended: list[int] = []
    n_same = n_people = 0
    for one in wanted:
        known = standing.get(one.row_id)
        if known and known.told_by_id and told_by is None:
            n_people += 1
            continue
        if known and (known.kind, known.value) == (one.kind, one.value) and (told_by is None or known.told_by_id):
            n_same += 1
            continue
        ended += [known.pk] if known else []
        new.append(
            PairEdit(
                **of_source,
                row_id=one.row_id,
                kind=one.kind,
                value=one.value,
                reason=one.reason,
                run=run,
                told_by=told_by,
                created_by=user,
            )
        )
    PairEdit.objects.filter(pk__in=ended).update(reverted_at=now, reverted_by=user)
    PairEdit.objects.bulk_create(new, batch_size=AT_ONCE)
    made = EditsMade(len(new), len(ended), n_same, n_people)
    note(run, user, "labels.edit", n=len(new), kinds=sorted({one.kind for one in wanted}))
    return made


@transaction.atomic
def edits_undo(*, run: Run, user: User | None, now: datetime, edits: Sequence[UUID] | None = None) -> int:
    """Take back edits that were made from this audit: those named, or all that stand. How many there were."""
    audited_source(run)
    rows = PairEdit.objects.filter(run=run, reverted_at=None)
    if edits is not None:
        rows = rows.filter(uid__in=edits)
    n = rows.update(reverted_at=now, reverted_by=user)
    note(run, user, "labels.undo", n=n)
    return n


def edits_queue(
    *, run: Run, pairs: Sequence[str], name: str, user: User | None, now: datetime, rng: Random, overlap: int = 1
) -> Queue:
    """Ask people about these pairs once more, in a new queue whose raters do not see the old label."""
    source = audited_source(run)
    keys = rows_of(source, pairs)
    found = source.decided().filter(pk__in=keys).order_by("pk").values_list("response_a_id", "response_b_id")
    return queue_create(
        project=run.project,
        dataset=source.home,
        name=name,
        form=SECOND_LOOK,
        created_by=user,
        now=now,
        rng=rng,
        overlap=overlap,
        pairs=list(found),
    )


def edits_from_snapshot(*, run: Run, snapshot: Snapshot, user: User | None, now: datetime) -> EditsMade:
    """What people said on second sight becomes the label: turned, kept, or dropped where they see no difference."""
    source = audited_source(run)
    if snapshot.state != Snapshot.State.READY or snapshot.queue.project_id != run.project_id:
        raise DomainError("This snapshot is not ready, or of another project.", code="snapshot_not_ready")
    if source.snapshot is not None and source.snapshot.pk == snapshot.pk:
        raise InvalidInput("The snapshot that was audited cannot judge itself; choose one of a later queue.")
    said = second_verdicts(snapshot)
    rows = source.decided().values_list("pk", "verdict", "response_a_id", "response_b_id")
    reason = f"people said so on second sight: {snapshot.queue.name}, snapshot {snapshot.number}"[:300]
    wanted = [Wanted(pk, kind_after(verdict, said[a, b]), None, reason) for pk, verdict, a, b in rows if (a, b) in said]
    if not wanted:
        raise InvalidInput(
            "No pair of this snapshot is one of the audited pairs. Choose a snapshot of the queue that was made here.",
            code="no_common_pairs",
        )
    return edits_store(source=source, wanted=wanted, run=run, user=user, now=now, told_by=snapshot)


def second_verdicts(snapshot: Snapshot) -> dict[tuple[int, int], str]:
    """Verdicts of a snapshot by (response_a, response_b), in both orders."""
    found: dict[tuple[int, int], str] = {}
    rows = snapshot.rows.filter(verdict__isnull=False).values_list("response_a_id", "response_b_id", "verdict")
    for a, b, verdict in rows:
        said = str(verdict)
        found[a, b], found[b, a] = said, OTHER.get(said, said)
    return found


def kind_after(old: str, said: str) -> str:
    """keep, flip, or drop for a tie and for both bad."""
    if said not in OTHER:
        return PairEdit.Kind.DROP
    return PairEdit.Kind.KEEP if said == old else PairEdit.Kind.FLIP


def note(run: Run, user: User | None, action: str, **detail: Any) -> None:
    AuditEvent.objects.create(
        project_id=run.project_id, actor=user, action=action, detail={"run": str(run.uid), **detail}
    )
