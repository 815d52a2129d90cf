"""The full-text index of examples: filled after an import, in batches, so that COPY stays fast."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import F, Q

from annotator.live import poke
from annotator.models import Dataset

BATCH = 1000
ASK_AGAIN_AFTER = timedelta(seconds=60)
MAX_CHARACTERS = 60_000  # of one example; a tsvector holds 1 MiB
#: Scripts written without spaces, which the parser would take for one long word: each character is made a word.
UNSPACED = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff"

NEXT_TEXTS = f"""
SELECT example.id, left(concat_ws(' ', prompt.body, responses.body), {MAX_CHARACTERS}) AS body
FROM (
    SELECT id, prompt FROM annotator_example
    WHERE dataset_id = %(dataset)s AND id > %(after)s ORDER BY id LIMIT %(limit)s
) example
CROSS JOIN LATERAL (
    SELECT string_agg(message ->> 'content', ' ') AS body FROM jsonb_array_elements(example.prompt) message
) prompt
CROSS JOIN LATERAL (
    SELECT string_agg(message ->> 'content', ' ' ORDER BY response.number) AS body
    FROM annotator_response response, jsonb_array_elements(response.messages) message
    WHERE response.example_id = example.id
) responses
"""  # noqa: S608 - a constant
FILL = f"""
WITH texts AS ({NEXT_TEXTS}), added AS (
    INSERT INTO annotator_examplesearch (example_id, vector)
    SELECT id, to_tsvector('simple', CASE
        WHEN octet_length(body) = length(body) THEN body
        ELSE regexp_replace(body, %(unspaced)s, ' \\1 ', 'g') END)
    FROM texts
    ON CONFLICT DO NOTHING
)
SELECT count(*), max(id) FROM texts
"""  # noqa: S608 - constants; values are parameters


def index_fill(*, dataset: Dataset, on_batch: Callable[[], None] | None = None) -> int:
    """Index what is missing, one short transaction a batch. Returns how many examples were added. Safe to run twice."""
    n_added = 0
    while n := index_fill_batch(dataset=dataset):
        n_added += n
        if on_batch:
            on_batch()
    dataset.refresh_from_db(fields=["n_indexed", "indexed_to"])
    if n_added:
        poke(f"dataset.{dataset.uid}", "indexed")
    return n_added


@transaction.atomic
def index_fill_batch(*, dataset: Dataset) -> int:
    """Index the next examples. 0 when there are none, or when another worker is at it."""
    mine = Dataset.objects.select_for_update(skip_locked=True).filter(pk=dataset.pk).first()
    if mine is None:
        return 0
    values: dict[str, str | int] = {
        "dataset": mine.pk, "after": mine.indexed_to, "limit": BATCH, "unspaced": f"([{UNSPACED}])",
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(FILL, values)
        n, last = cursor.fetchone()
    if n:
        Dataset.objects.filter(pk=dataset.pk).update(n_indexed=F("n_indexed") + n, indexed_to=last)
    return int(n)


def sweep_index(*, now: datetime) -> list[Dataset]:
    """Datasets whose index is behind their rows, to be enqueued. Stamped, so a busy worker is asked once a minute."""
    behind = Dataset.objects.filter(deleted_at=None, n_indexed__lt=F("n_examples")).exclude(
        state=Dataset.State.IMPORTING
    )
    due = list(behind.filter(Q(enqueued_at=None) | Q(enqueued_at__lt=now - ASK_AGAIN_AFTER)))
    Dataset.objects.filter(pk__in=[dataset.pk for dataset in due]).update(enqueued_at=now)
    return due
