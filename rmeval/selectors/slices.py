"""Slices in SQL: the name of a slice, and what the interval of a share needs, counted in one pass."""

from typing import Any

from django.db import connection
from django.db.models import Count, Q, QuerySet, TextField, Value
from django.db.models.functions import Coalesce, Collate, NullIf

from annotator.selectors.metadata import meta_text
from workers.stats.clusters import ClusterSums
from workers.stats.slices import NO_VALUE

SUMS = "SUM(n), SUM(k), COUNT(*), SUM(k * k), SUM(k * n), SUM(n * n)"


def slice_text(path: str, key: str) -> Collate:
    """The value of a metadata key as workers.stats.slices.slice_name() names it. Sorts as Python does."""
    found = NullIf(meta_text(path, key), Value("", TextField()))
    return Collate(Coalesce(found, Value(NO_VALUE, TextField())), "C")


def sums_by_slice(rows: "QuerySet[Any]", key: str, *, limit: int) -> dict[str, ClusterSums]:
    """Pairs with a margin, by the value of a key: right ones, prompts, and sums over prompts. Largest first."""
    per_prompt = (
        rows.annotate(slice=slice_text("example__meta", key))
        .order_by()
        .values("slice", "example__prompt_hash")
        .annotate(n=Count("pk"), k=Count("pk", filter=Q(margin__gt=0)))
    )
    inner, params = per_prompt.query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT slice, {SUMS} FROM ({inner}) AS prompts "  # noqa: S608 - SQL that Django made, with parameters
            'GROUP BY slice ORDER BY SUM(n) DESC, slice COLLATE "C" LIMIT %s',
            [*params, limit],
        )
        return {name: sums_of(row) for name, *row in cursor.fetchall()}


def sums_of(row: list[Any]) -> ClusterSums:
    n, k, n_clusters, kk, kn, nn = row
    return ClusterSums(int(n), int(k), int(n_clusters), float(kk), float(kn), float(nn))
