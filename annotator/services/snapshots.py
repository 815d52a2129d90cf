"""Cutting snapshots: one statement reads a queue's state, COPY freezes it, a hash says what was frozen."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import groupby, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson
from django.db import connection, transaction
from django.db.models import Max, Q
from pydantic import ValidationError

from annotator.access import refuse_archived
from annotator.errors import DomainError, FieldError, InvalidInput
from annotator.live import poke
from annotator.models import Judgement, Queue, Rater, Snapshot, User
from annotator.services.projects import audit
from annotator.services.snapshot_rows import (
    AGGREGATIONS,
    CANONICAL_VERSION,
    FrozenRow,
    SnapshotFilter,
    SourceItem,
    Tally,
    canonical_json,
    rater_pseudonym,
    rows_of,
)
from annotator.validation import pydantic_errors

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

logger = logging.getLogger(__name__)
INLINE_MAX_ITEMS = 5_000
BATCH = 1_000
ASK_AGAIN_AFTER = timedelta(minutes=2)

# One statement for all that can change: a cursor reads from the database as it was when it was opened, so this is as
# consistent as REPEATABLE READ. Texts cannot change; sorting them along would only write them to disk once more.
STATE_SQL = """
    SELECT i.id, i.example_id, i.response_a_id, i.response_b_id,
           i.id IN (SELECT flag.item_id FROM annotator_flag flag WHERE flag.resolved_at IS NULL),
           j.uid::text, r.uid::text, r.kind, j.verdict, j.preference_strength, j.is_surplus, j.version, t.a_is_left,
           j.answers, j.active_s, f.number, g.number,
           to_char(j.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    FROM annotator_item i
    JOIN annotator_judgement j ON j.item_id = i.id AND j.is_current
    JOIN annotator_rater r ON r.id = j.rater_id
    JOIN annotator_assignment t ON t.id = j.assignment_id
    JOIN annotator_formversion f ON f.id = j.form_version_id
    LEFT JOIN annotator_guidelinesversion g ON g.id = j.guidelines_version_id
    WHERE i.queue_id = %s
    ORDER BY i.id, j.id
"""
TEXTS_SQL = """
    SELECT i.uid::text, e.uid::text, e.prompt, a.messages, b.messages
    FROM annotator_item i
    JOIN annotator_example e ON e.id = i.example_id
    JOIN annotator_response a ON a.id = i.response_a_id
    JOIN annotator_response b ON b.id = i.response_b_id
    WHERE i.id = ANY(%s)
    ORDER BY i.id
"""
COPY_ROWS = """
    COPY annotator_snapshotrow (snapshot_id, position, item_id, example_id, response_a_id, response_b_id, verdict,
                                preference_strength, shares, judgements) FROM STDIN
"""


def parse_filter(queue: Queue, raw: object) -> SnapshotFilter:
    """The filter a caller sent, or InvalidInput that points at what is wrong in it."""
    try:
        chosen = SnapshotFilter.model_validate(raw if raw is not None else {})
    except ValidationError as error:
        errors = pydantic_errors(error, "/filter")
        detail = "; ".join(f"{e.pointer}: {e.detail}" for e in errors)
        known = ", ".join(SnapshotFilter.model_fields)
        raise InvalidInput(f"{detail} A filter knows: {known}.", errors=errors) from error
    known_raters = set(queue_raters(queue).values())
    unknown = [rater for rater in chosen.raters or [] if rater not in known_raters]
    if unknown:
        detail = f"Nobody with the id {unknown[0]} has judged in this queue. The agreement page lists the ids."
        raise InvalidInput(detail, errors=[FieldError("/filter/raters", "unknown_rater", detail)])
    return chosen


def queue_raters(queue: Queue) -> dict[int, str]:
    """Pseudonyms of everybody who judged in the queue, by rater key."""
    raters = Rater.objects.filter(pk__in=Judgement.objects.filter(queue=queue).values("rater"))
    return {pk: rater_pseudonym(queue.project.uid, uid) for pk, uid in raters.values_list("pk", "uid")}


def check_aggregation(aggregation: str) -> str:
    if aggregation not in AGGREGATIONS:
        detail = f"There is no aggregation {aggregation!r}; known: {', '.join(AGGREGATIONS)}."
        raise InvalidInput(detail, errors=[FieldError("/aggregation", "unknown", detail)])
    return aggregation


@transaction.atomic
def snapshot_create(
    *,
    queue: Queue,
    created_by: User | None,
    now: datetime,
    filter: object = None,
    aggregation: str = "majority",
    idempotency_key: str | None = None,
) -> tuple[Snapshot, bool]:
    """A snapshot that is still to be cut; (the earlier one, False) when the key was used before."""
    refuse_archived(queue.project.archived_at)
    chosen, aggregation = parse_filter(queue, filter), check_aggregation(aggregation)
    Queue.objects.select_for_update(no_key=True).get(pk=queue.pk)  # numbers are given one at a time
    if idempotency_key and (earlier := queue.snapshots.filter(idempotency_key=idempotency_key).first()):
        if (earlier.filter, earlier.aggregation) != (chosen.canonical(), aggregation):
            raise DomainError("This idempotency key was used for another snapshot. Use a new one.", code="key_reused")
        return earlier, False
    last = queue.snapshots.aggregate(last=Max("number"))["last"] or 0
    snapshot = Snapshot.objects.create(
        queue=queue,
        number=last + 1,
        filter=chosen.canonical(),
        aggregation=aggregation,
        created_by=created_by,
        enqueued_at=now,
        idempotency_key=idempotency_key or None,
    )
    audit(queue.project, created_by, "snapshot.create", queue=str(queue.uid), number=snapshot.number)
    poke(f"queue.{queue.uid}", "snapshots")
    return snapshot, True


@transaction.atomic
def snapshot_cut(
    *,
    queue: Queue,
    created_by: User | None,
    now: datetime,
    filter: object = None,
    aggregation: str = "majority",
    idempotency_key: str | None = None,
) -> Snapshot:
    """Freeze the queue's current judgements now, all or nothing. For big queues: snapshot_create, then the task."""
    snapshot, is_new = snapshot_create(
        queue=queue,
        created_by=created_by,
        now=now,
        filter=filter,
        aggregation=aggregation,
        idempotency_key=idempotency_key,
    )
    return snapshot_freeze(snapshot=snapshot) if is_new else snapshot


def is_small(queue: Queue) -> bool:
    """Whether a snapshot of the queue can be cut while the caller waits."""
    return queue.n_items <= INLINE_MAX_ITEMS


@transaction.atomic
def snapshot_freeze(*, snapshot: Snapshot) -> Snapshot:
    """Cut a snapshot that was created. Safe to call twice: a second caller waits, finds it cut and changes nothing."""
    snapshot = Snapshot.objects.select_for_update(of=("self",)).select_related("queue__project").get(pk=snapshot.pk)
    if snapshot.state != Snapshot.State.CUTTING:
        return snapshot
    queue = snapshot.queue
    chosen, tally = SnapshotFilter.model_validate(snapshot.filter), Tally()
    digest = hashlib.sha256(canonical_head(snapshot))
    position = 0
    for items in source_items(queue):
        rows = [row for item in items for row in rows_of(item, chosen, snapshot.aggregation, tally)]  # type: ignore[arg-type]
        freeze_rows(snapshot.pk, position, rows, digest)
        position += len(rows)
    tally.n_items = queue.items.count()
    if never := tally.n_items - tally.n_items_used - sum(tally.items_left_out.values()):
        tally.items_left_out["not_judged"] = never
    if position == 0:
        raise nothing_to_freeze(tally)
    snapshot.state, snapshot.sha256, snapshot.n_rows = Snapshot.State.READY, digest.hexdigest(), position
    snapshot.counts = tally.counts()
    snapshot.save(update_fields=["state", "sha256", "n_rows", "counts"])
    poke(f"queue.{queue.uid}", "snapshots")
    return snapshot


def canonical_head(snapshot: Snapshot) -> bytes:
    """What enters the hash before the rows. Number, date and who cut it change nothing of what is in it."""
    head = {
        "version": CANONICAL_VERSION,
        "queue": str(snapshot.queue.uid),
        "aggregation": snapshot.aggregation,
        "filter": snapshot.filter,
    }
    return orjson.dumps(head, option=orjson.OPT_SORT_KEYS) + b"\n"


def nothing_to_freeze(tally: Tally) -> DomainError:
    why = {**tally.items_left_out, **{f"judgements: {k}": v for k, v in tally.judgements_left_out.items()}}
    reasons = ", ".join(f"{reason.replace('_', ' ')} {n}" for reason, n in sorted(why.items())) or "no items"
    return DomainError(
        f"No judgement of this queue fits, so there is nothing to freeze ({reasons}).", code="empty_snapshot"
    )


def source_items(queue: Queue) -> Iterator[list[SourceItem]]:
    """Judged items in batches, from one server-side cursor: memory stays flat whatever the queue's size."""
    pseudonyms = Pseudonyms(queue.project.uid)
    grouped = groupby(judged_rows(queue), key=itemgetter(0, 1, 2, 3, 4))
    judged = ((ids, [frozen_judgement(pseudonyms, row) for row in rows]) for ids, rows in grouped)
    while batch := list(islice(judged, BATCH)):
        texts = texts_of([ids[0] for ids, _ in batch])
        yield [source_item(ids, found, judgements) for (ids, judgements), found in zip(batch, texts, strict=True)]


def judged_rows(queue: Queue) -> Iterator[tuple[Any, ...]]:
    """One row a current judgement, in the order of the items."""
    with connection.cursor() as cursor:
        # All rows are wanted, so the plan for all of them, not for the first; and joins in the order they are written,
        # because tables that were filled a moment ago look empty to the planner and it would combine all with all.
        cursor.execute("SET LOCAL cursor_tuple_fraction = 1; SET LOCAL join_collapse_limit = 1")
    with connection.connection.cursor(name="snapshot_state") as cursor:
        cursor.execute(STATE_SQL, [queue.pk])
        while batch := cursor.fetchmany(BATCH):
            yield from batch


def texts_of(item_ids: list[int]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(TEXTS_SQL, [item_ids])
        return list(cursor.fetchall())


def source_item(ids: tuple[Any, ...], texts: tuple[Any, ...], judgements: list[dict[str, Any]]) -> SourceItem:
    item_id, example_id, response_a_id, response_b_id, is_flagged = ids
    item_uid, example_uid, prompt, response_a, response_b = texts
    return SourceItem(
        item_id=item_id,
        item_uid=item_uid,
        example_id=example_id,
        example_uid=example_uid,
        response_a_id=response_a_id,
        response_b_id=response_b_id,
        prompt=canonical_json(orjson.loads(prompt)),
        response_a=canonical_json(orjson.loads(response_a)),
        response_b=canonical_json(orjson.loads(response_b)),
        is_flagged=is_flagged,
        judgements=judgements,
    )


class Pseudonyms(dict[str, str]):
    """The pseudonym of a rater by uid, worked out once a cut."""

    def __init__(self, project_uid: UUID) -> None:
        super().__init__()
        self.project_uid = project_uid

    def __missing__(self, rater_uid: str) -> str:
        self[rater_uid] = rater_pseudonym(self.project_uid, UUID(rater_uid))
        return self[rater_uid]


def frozen_judgement(pseudonyms: Pseudonyms, row: tuple[Any, ...]) -> dict[str, Any]:
    """A judgement as it is frozen: pseudonym for the rater, justification and reasons beside the verdict."""
    uid, rater, kind, verdict, strength, is_surplus, version, a_is_left, given, active_s, form, guides, when = row[5:]
    answers = orjson.loads(given)
    first = next((a for a in answers.values() if isinstance(a, dict) and "verdict" in a), {})
    judgement = {
        "uid": uid,
        "rater": pseudonyms[rater],
        "rater_kind": kind,
        "verdict": verdict,
        "preference_strength": strength,
        "is_surplus": is_surplus,
        "version": version,
        "left": "a" if a_is_left else "b",
        "active_s": json_number(active_s),
        "form_version": form,
        "guidelines_version": guides,
        "submitted_at": when,
        "justification": first.get("justification", ""),
        "reasons": first.get("reasons", []),
    }
    if len(answers) > 1 or not first:
        rest = {name: answer for name, answer in answers.items() if answer is not first}
        judgement |= {"answers": rest} if rest else {}
    return judgement


def json_number(value: float) -> float:
    """The number as jsonb gives it back, which knows no 12.0 but 12: a snapshot's hash was always taken over that."""
    return int(value) if value.is_integer() and -(2**63) <= value < 2**64 else value


def freeze_rows(snapshot_id: int, position: int, rows: list[FrozenRow], digest: Hash) -> None:
    """Add the rows to the hash and, by COPY, to the snapshot."""
    lines = []
    for number, row in enumerate(rows, start=position):
        judgements = canonical_json(row.judgements)
        digest.update(row.canonical(judgements))
        lines.append(copy_line(snapshot_id, number, row, judgements))
    if lines:
        with connection.cursor() as cursor, cursor.copy(COPY_ROWS) as copy:
            copy.write(b"".join(lines))


def copy_line(snapshot_id: int, position: int, row: FrozenRow, judgements: bytes) -> bytes:
    source = row.source
    return b"%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%s\n" % (
        snapshot_id,
        position,
        source.item_id,
        source.example_id,
        source.response_a_id,
        source.response_b_id,
        b"\\N" if row.verdict is None else row.verdict.encode(),
        b"\\N" if row.preference_strength is None else b"%d" % row.preference_strength,
        orjson.dumps(row.shares),
        judgements.replace(b"\\", b"\\\\"),
    )


@transaction.atomic
def snapshot_fail(*, snapshot: Snapshot, failure: str) -> None:
    cutting = Snapshot.objects.filter(pk=snapshot.pk, state=Snapshot.State.CUTTING)
    if cutting.update(state=Snapshot.State.FAILED, failure=failure):
        poke(f"queue.{snapshot.queue.uid}", "snapshots")


def snapshot_finish(*, snapshot: Snapshot) -> None:
    """The background half: cut, or say on the page why not."""
    try:
        snapshot_freeze(snapshot=snapshot)
    except DomainError as error:
        snapshot_fail(snapshot=snapshot, failure=error.detail)
    except Exception:
        snapshot_fail(snapshot=snapshot, failure="An unexpected error; the worker's log has it. Cut it again.")
        raise


@transaction.atomic
def sweep_snapshots(*, now: datetime) -> list[Snapshot]:
    """Snapshots whose wake-up call was lost: asked for a while ago, and nobody holds their row."""
    waiting = Q(state=Snapshot.State.CUTTING) & (Q(enqueued_at=None) | Q(enqueued_at__lt=now - ASK_AGAIN_AFTER))
    found = list(Snapshot.objects.select_for_update(skip_locked=True, of=("self",)).filter(waiting)[:100])
    Snapshot.objects.filter(pk__in=[snapshot.pk for snapshot in found]).update(enqueued_at=now)
    return found
