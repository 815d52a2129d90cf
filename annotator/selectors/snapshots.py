"""Snapshots as pages list them, and their rows as exporters and trainers read them."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import orjson
from django.db import connection
from django.db.models import QuerySet

from annotator.access import READERS
from annotator.models import Dataset, Membership, Project, Queue, Snapshot, SnapshotRow, User
from annotator.services.snapshot_rows import UNDECIDED
from workers.data.exporters import export_labels, export_named
from workers.data.exporters.record import SnapshotRecord
from workers.data.schema import Message
from workers.stats.majority import VERDICTS

FIRST_BATCH, LARGEST_BATCH = 250, 2_000
BATCH_CHARACTERS = 4_000_000

# In the order of the frozen rows. Texts are joined: they cannot change once a queue used their dataset.
SNAPSHOT_SQL = """
    SELECT s.position, e.uid::text, e.prompt, a.messages, b.messages, s.verdict {judged}
    FROM annotator_snapshotrow s
    JOIN annotator_example e ON e.id = s.example_id
    JOIN annotator_response a ON a.id = s.response_a_id
    JOIN annotator_response b ON b.id = s.response_b_id
    WHERE s.snapshot_id = %s AND s.position > %s
    ORDER BY s.position LIMIT %s
"""
SNAPSHOT_JUDGED = ", a.source_model, b.source_model, s.preference_strength, e.meta, s.shares, s.judgements"
DATASET_SQL = """
    SELECT p.id, e.uid::text, e.prompt, a.messages, b.messages, p.verdict {judged}
    FROM annotator_preference p
    JOIN annotator_example e ON e.id = p.example_id
    JOIN annotator_response a ON a.id = p.response_a_id
    JOIN annotator_response b ON b.id = p.response_b_id
    WHERE p.dataset_id = %s AND p.id > %s
    ORDER BY p.id LIMIT %s
"""
DATASET_JUDGED = ", a.source_model, b.source_model, p.preference_strength, e.meta, NULL, NULL"


def snapshot_records(*, snapshot: Snapshot, with_judgements: bool = True) -> Iterator[SnapshotRecord]:
    """The frozen rows in order, a batch at a time in memory."""
    return records(SNAPSHOT_SQL.format(judged=SNAPSHOT_JUDGED if with_judgements else ""), snapshot.pk)


def dataset_records(*, dataset: Dataset, with_judgements: bool = True) -> Iterator[SnapshotRecord]:
    """The preferences a dataset came with, in the same shape; their one judgement is the source's."""
    return records(DATASET_SQL.format(judged=DATASET_JUDGED if with_judgements else ""), dataset.pk)


def records(sql: str, pk: int) -> Iterator[SnapshotRecord]:
    """Keyset batches. The rows never change, so no transaction and no cursor stays open while a slow client reads.

    A batch is bounded in rows and in text, whichever is reached first: rows may be a hundred bytes or a megabyte.
    """
    after, size = -1, FIRST_BATCH
    while True:
        with connection.cursor() as cursor:
            cursor.execute(sql, [pk, after, size])
            batch = cursor.fetchall()
        for _, *values in batch:
            yield record_of(values)
        if len(batch) < size:
            return
        after = batch[-1][0]
        n_characters = sum(len(prompt) + len(a) + len(b) for _, _, prompt, a, b, *_ in batch)
        size = max(1, min(LARGEST_BATCH, size * BATCH_CHARACTERS // n_characters))


def record_of(values: list[Any]) -> SnapshotRecord:
    uid, prompt, response_a, response_b, verdict, *judged = values
    loads = orjson.loads
    record = SnapshotRecord(uid, loads(prompt), loads(response_a), loads(response_b), verdict)
    if judged:
        add_judgements(record, *judged)
    return record


def add_judgements(
    record: SnapshotRecord,
    model_a: str,
    model_b: str,
    strength: int | None,
    meta: str,
    shares: str | None,
    judgements: str | None,
) -> None:
    record.source_model_a, record.source_model_b, record.preference_strength = model_a, model_b, strength
    record.meta = orjson.loads(meta)
    if shares is None or judgements is None:
        share = {str(record.verdict): 1.0}
        record.judgements = [{"rater": "source", "verdict": record.verdict, "preference_strength": strength}]
    else:
        share, record.judgements = orjson.loads(shares), orjson.loads(judgements)
    record.n_judgements = len(record.judgements)
    record.share_a, record.share_b = share.get("a", 0.0), share.get("b", 0.0)
    record.share_tie, record.share_both_bad = share.get("tie", 0.0), share.get("both_bad", 0.0)


def project_snapshots(*, project: Project) -> QuerySet[Snapshot]:
    live = Snapshot.objects.filter(queue__project=project, queue__deleted_at=None)
    return live.select_related("queue", "created_by").order_by("-pk")


def queue_snapshots(*, queue: Queue) -> QuerySet[Snapshot]:
    return queue.snapshots.select_related("queue", "created_by").order_by("-pk")


def snapshot_page(*, snapshot: Snapshot, after: int = -1, limit: int = 25) -> list[SnapshotRow]:
    """Rows behind a position, for reading on the page."""
    rows = snapshot.rows.filter(position__gt=after).order_by("position")
    return list(rows.select_related("item", "example", "response_a", "response_b")[:limit])


@cache
def rows_per_pair(label: str) -> dict[str, int]:
    """How many rows a layout makes of a pair with each verdict, found by asking it."""
    export, text = export_named(label), [Message(role="user", content="?")]
    verdicts: dict[str, str | None] = {**{v: v for v in VERDICTS}, UNDECIDED: None}
    return {
        name: len(export.rows(SnapshotRecord("", text, text, text, verdict=verdict, judgements=[{"verdict": verdict}])))
        for name, verdict in verdicts.items()
    }


def format_counts(*, snapshot: Snapshot) -> list[dict[str, Any]]:
    """For each layout: how many rows it has, and how many pairs it leaves out by verdict."""
    pairs: dict[str, int] = snapshot.counts.get("rows", {})
    table = []
    for label in export_labels():
        each = rows_per_pair(label)
        n_rows = sum(n * each[verdict] for verdict, n in pairs.items())
        if label == "raw":
            n_rows = snapshot.counts.get("judgements", {}).get("used", 0)
        left_out = {verdict: n for verdict, n in pairs.items() if n and not each[verdict]}
        table.append({"label": label, "title": export_named(label).title, "n_rows": n_rows, "left_out": left_out})
    return table


def readable_snapshots(*, user: User) -> QuerySet[Snapshot]:
    """Snapshots of every project whose results the user may read, newest first."""
    mine = Membership.objects.filter(user=user, role__in=READERS, project__archived_at=None)
    live = Snapshot.objects.filter(queue__project__in=mine.values("project"), queue__deleted_at=None)
    return live.select_related("queue").order_by("-pk")
