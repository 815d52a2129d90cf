"""Scores: the reward one checkpoint gave one response, stored once however often it is computed."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from django.db import connection, transaction
from psycopg.types.json import Jsonb

from rmeval.models import Checkpoint


class RewardNotFinite(ValueError):
    """A model gave nan or infinity; such a reward compares with nothing, so it is not stored."""


@transaction.atomic
def scores_store(
    *,
    checkpoint: Checkpoint,
    rows: Iterable[tuple[int, float]],
    parts: Mapping[int, Any] | None = None,
    extra: str = "",
) -> int:
    """COPY (response id, value) rows in; how many were new. A score that is there already stays as it is.

    parts: what the family tells besides the reward, a JSON object by response id. extra: what the reward depends on
    besides the response.
    """
    told = parts or {}
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TEMP TABLE incoming_score (response_id bigint, value float8, parts jsonb) ON COMMIT DROP"
        )
        with cursor.copy("COPY incoming_score FROM STDIN") as copy:
            for response_id, value in rows:
                if not math.isfinite(value):
                    raise RewardNotFinite(f"response {response_id} got the reward {value}")
                part = told.get(response_id)
                copy.write_row((int(response_id), float(value), None if part is None else Jsonb(part)))
        cursor.execute(
            "INSERT INTO rmeval_score (checkpoint_id, response_id, extra, value, parts) "
            "SELECT %s, response_id, %s, value, parts FROM incoming_score ORDER BY response_id ON CONFLICT DO NOTHING",
            [checkpoint.pk, extra],
        )
        n_new: int = cursor.rowcount
        cursor.execute("DROP TABLE incoming_score")
    return n_new
