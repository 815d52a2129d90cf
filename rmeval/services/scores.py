"""Scores: the reward one checkpoint gave one response, stored once however often it is computed."""

import math
from collections.abc import Iterable

from django.db import connection, transaction

from rmeval.models import Checkpoint


class RewardNotFinite(ValueError):
    """A model gave nan or infinity; such a reward compares with nothing, so it is not stored."""


@transaction.atomic
def scores_store(*, checkpoint: Checkpoint, rows: Iterable[tuple[int, float]]) -> int:
    """COPY (response id, value) rows in; how many were new. A score that is there already stays as it is."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE incoming_score (response_id bigint, value float8) ON COMMIT DROP")
        with cursor.copy("COPY incoming_score FROM STDIN") as copy:
            for response_id, value in rows:
                if not math.isfinite(value):
                    raise RewardNotFinite(f"response {response_id} got the reward {value}")
                copy.write_row((int(response_id), float(value)))
        cursor.execute(
            "INSERT INTO rmeval_score (checkpoint_id, response_id, extra, value) "
            "SELECT %s, response_id, '', value FROM incoming_score ORDER BY response_id ON CONFLICT DO NOTHING",
            [checkpoint.pk],
        )
        n_new: int = cursor.rowcount
        cursor.execute("DROP TABLE incoming_score")
    return n_new
