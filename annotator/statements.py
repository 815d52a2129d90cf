"""Plain statements of the requests that every rater makes all day: prepared once a connection, one round trip each."""

import sys
import time
from typing import Any

import psycopg
from django.db import connection

#: psycopg prepares what it is told to; with a threshold it would also prepare what the ORM sends.
ONLY_WHEN_TOLD = sys.maxsize


def row_of(*queries: str, **values: object) -> tuple[Any, ...] | None:
    """Run queries in one round trip; the first row of the last one.

    Outside a transaction the server makes one of them. Each takes a new snapshot, so that what follows a lock sees
    what was committed before it was got. The server plans a query once for each connection, which for a statement of
    many parts is most of its work.
    """
    connection.ensure_connection()
    connection.validate_no_broken_transaction()
    raw: Any = connection.connection
    if raw.prepare_threshold is None:
        raw.prepare_threshold = ONLY_WHEN_TOLD
    began = time.monotonic()
    with connection.wrap_database_errors, psycopg.Cursor(raw) as cursor:
        if len(queries) == 1:
            cursor.execute(queries[0], values, prepare=True)
        else:
            with raw.pipeline():
                for query in queries:
                    cursor.execute(query, values, prepare=True)
            while cursor.nextset():
                pass
        row: tuple[Any, ...] | None = cursor.fetchone()
    if connection.queries_logged:
        seconds = f"{time.monotonic() - began:.3f}"
        connection.queries_log.extend({"sql": query, "time": seconds} for query in queries)
    return row
