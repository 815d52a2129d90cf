"""One batch into PostgreSQL: identifiers from the sequences, COPY, counters, all in one transaction."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from django.db import connection, transaction
from django.db.models import F

from annotator.models import Dataset
from annotator.services.import_batches import Batch, EncodedExample, copy_text
from workers.data.rows import RowError

MAX_PROBLEMS_KEPT = 10_000
MAX_METADATA_KEYS = 200
COPY_EXAMPLES = (
    "COPY annotator_example (id, uid, dataset_id, position, prompt, meta, content_hash, prompt_hash) FROM STDIN"
)
COPY_RESPONSES = "COPY annotator_response (id, uid, example_id, number, messages, source_model, meta) FROM STDIN"
COPY_PREFERENCES = (
    "COPY annotator_preference (dataset_id, example_id, response_a_id, response_b_id, verdict, preference_strength) "
    "FROM STDIN"
)
COPY_PROBLEMS = "COPY annotator_importproblem (dataset_id, line, code, detail, excerpt) FROM STDIN"
# MATERIALIZED: else the name of the sequence is looked up in the catalogue again for every number taken.
TAKE_IDS = """
    WITH found AS MATERIALIZED (SELECT pg_get_serial_sequence(%s, 'id')::regclass AS sequence)
    SELECT array_agg(nextval(sequence)) FROM found, generate_series(1, %s)
"""


@dataclass(frozen=True, slots=True)
class Written:
    """What a batch added."""

    n_examples: int
    n_responses: int
    n_preferences: int
    n_duplicates: int


@transaction.atomic
def batch_write(*, dataset: Dataset, batch: Batch) -> Written:
    """Write one batch and count it on the dataset's row, so that both are committed or neither is."""
    with connection.cursor() as cursor:
        fresh = without_duplicates(cursor, dataset.pk, batch.examples)
        n_responses, n_preferences = copy_examples(cursor, dataset.pk, fresh)
        copy_problems(cursor, dataset, batch.problems)
    written = Written(len(fresh), n_responses, n_preferences, len(batch.examples) - len(fresh))
    count(dataset, batch, written)
    return written


def without_duplicates(cursor: Any, dataset_id: int, examples: Sequence[EncodedExample]) -> list[EncodedExample]:
    """The examples that the dataset does not have yet: one look-up in the unique index a batch, nothing remembered."""
    if not examples:
        return []
    cursor.execute(
        "SELECT content_hash FROM annotator_example WHERE dataset_id = %s AND content_hash = ANY(%s)",
        [dataset_id, [example.content_hash for example in examples]],
    )
    seen = {bytes(row[0]) for row in cursor.fetchall()}
    fresh = []
    for example in examples:
        if example.content_hash not in seen:
            seen.add(example.content_hash)
            fresh.append(example)
    return fresh


def copy_examples(cursor: Any, dataset_id: int, examples: Sequence[EncodedExample]) -> tuple[int, int]:
    """Write examples with their responses and preferences. Returns how many responses and preferences."""
    n_responses = sum(len(example.responses) for example in examples)
    example_ids = take_ids(cursor, "annotator_example", len(examples))
    response_ids = iter(take_ids(cursor, "annotator_response", n_responses))
    uids = iter(random_uids(len(examples) + n_responses))
    examples_out, responses_out, preferences_out = [], [], []
    for example_id, example in zip(example_ids, examples, strict=True):
        examples_out.append(b"%d\t%s\t%d\t%s" % (example_id, next(uids), dataset_id, example.columns))
        ids = [next(response_ids) for _ in example.responses]
        responses_out += [
            b"%d\t%s\t%d\t%s" % (response_id, next(uids), example_id, columns)
            for response_id, columns in zip(ids, example.responses, strict=True)
        ]
        preferences_out += [
            b"%d\t%d\t%d\t%d\t%s" % (dataset_id, example_id, ids[a], ids[b], verdict)
            for a, b, verdict in example.preferences
        ]
    copy_lines(cursor, COPY_EXAMPLES, examples_out)
    copy_lines(cursor, COPY_RESPONSES, responses_out)
    copy_lines(cursor, COPY_PREFERENCES, preferences_out)
    return n_responses, len(preferences_out)


def take_ids(cursor: Any, table: str, n: int) -> list[int]:
    """n fresh identifiers from a table's sequence, in rising order."""
    if n == 0:
        return []
    cursor.execute(TAKE_IDS, [table, n])
    ids: list[int] = cursor.fetchone()[0]
    return ids


def random_uids(n: int) -> list[bytes]:
    """n version-4 UUIDs as text; one call for the randomness of all of them."""
    digits = os.urandom(16 * n).hex()
    return [
        f"{digits[i : i + 12]}4{digits[i + 13 : i + 16]}a{digits[i + 17 : i + 32]}".encode()
        for i in range(0, 32 * n, 32)
    ]


def copy_lines(cursor: Any, statement: str, lines: list[bytes]) -> None:
    if lines:
        with cursor.copy(statement) as copy:
            copy.write(b"".join(lines))


def copy_problems(cursor: Any, dataset: Dataset, problems: Iterable[RowError]) -> None:
    """Keep the first problems of a file; all of them are counted."""
    room = max(0, MAX_PROBLEMS_KEPT - dataset.n_errors)
    copy_lines(cursor, COPY_PROBLEMS, [problem_line(dataset.pk, problem) for problem in islice(problems, room)])


def problem_line(dataset_id: int, problem: RowError) -> bytes:
    texts = [
        copy_text(shown(problem.code, 60)),
        copy_text(shown(problem.detail, 2000)),
        copy_text(shown(problem.excerpt, 200)),
    ]
    return b"%d\t%d\t%s\n" % (dataset_id, problem.line, b"\t".join(texts))


def shown(text: str, size: int) -> str:
    """Text that PostgreSQL can store, whatever the file held."""
    return text.replace("\0", "␀").encode("utf-8", "replace").decode()[:size]


def count(dataset: Dataset, batch: Batch, written: Written) -> None:
    """Add to the dataset's counters; brings back whether somebody asked to stop."""
    keys = sorted({*dataset.metadata_keys, *batch.metadata_keys})[:MAX_METADATA_KEYS]
    Dataset.objects.filter(pk=dataset.pk).update(
        n_rows=F("n_rows") + batch.n_rows,
        n_examples=F("n_examples") + written.n_examples,
        n_responses=F("n_responses") + written.n_responses,
        n_preferences=F("n_preferences") + written.n_preferences,
        n_duplicates=F("n_duplicates") + written.n_duplicates,
        n_errors=F("n_errors") + len(batch.problems),
        n_bytes_read=batch.n_bytes,
        metadata_keys=keys,
    )
    dataset.refresh_from_db(
        fields=[
            "n_rows", "n_examples", "n_responses", "n_preferences", "n_duplicates", "n_errors", "n_bytes_read",
            "metadata_keys", "cancel_requested_at",
        ]
    )  # fmt: skip
