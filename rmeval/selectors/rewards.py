"""How a checkpoint's rewards lie: histograms of chosen and rejected responses and of margins, counted in SQL."""

import math
from dataclasses import dataclass
from typing import Any

from django.core.cache import cache
from django.db import connection
from django.db.models import Case, F, FloatField, When

from rmeval.models import Checkpoint
from rmeval.selectors.compare import scores_version
from rmeval.sources import PairSource, with_rewards

ABOUT_BINS = 24
OUTER = 0.005
"""Part of the values on either side that is counted in the outermost bins, so that a few do not squash the rest."""
KEPT_S = 24 * 3600


@dataclass(frozen=True)
class Bins:
    """`n` bins of width `step` from `start` on; the outermost hold what lies beyond them too."""

    start: float
    step: float
    n: int

    @property
    def end(self) -> float:
        return self.start + self.n * self.step

    def edges(self, number: int) -> tuple[float, float]:
        """Ends of a bin, numbered from 0; multiples of the step, without the noise of adding it up."""
        first = round(self.start / self.step)
        return (first + number) * self.step, (first + number + 1) * self.step


@dataclass(frozen=True)
class Histogram:
    """Counts of each series by bin, and how many values lie beyond the outermost bins."""

    bins: Bins
    counts: dict[str, list[int]]
    n_beyond: int


@dataclass(frozen=True)
class RewardHistograms:
    """Of n decided pairs that the checkpoint has scored, each counting once in every series."""

    n: int
    rewards: Histogram
    margins: Histogram


def reward_histograms(*, source: PairSource, checkpoint: Checkpoint) -> RewardHistograms | None:
    """Counted once for a state of the scores; None where nothing is scored."""
    version = scores_version(checkpoint, checkpoint)
    if version is None:
        return count_histograms(source=source, checkpoint=checkpoint)
    kept = f"rewards:{source.uid}:{checkpoint.pk}:{version}"
    found: RewardHistograms | None = cache.get(kept)
    if found is None:
        found = count_histograms(source=source, checkpoint=checkpoint)
        cache.set(kept, found, KEPT_S)
    return found


def count_histograms(*, source: PairSource, checkpoint: Checkpoint) -> RewardHistograms | None:
    inner, params = scored_sql(source, checkpoint)
    rewards = f"SELECT chosen AS value FROM ({inner}) c UNION ALL SELECT rejected FROM ({inner}) r"  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT COUNT(*) FROM ({inner}) pairs", params)  # noqa: S608 - SQL that Django made
        (n,) = cursor.fetchone()
        if not n:
            return None
        reward_bins = bins_of(cursor, rewards, [*params, *params])
        margin_bins = bins_of(cursor, f"SELECT margin AS value FROM ({inner}) m", params)  # noqa: S608
        return RewardHistograms(
            n=n,
            rewards=count(cursor, inner, params, bins=reward_bins, columns=("chosen", "rejected")),
            margins=count(cursor, inner, params, bins=margin_bins, columns=("margin",)),
        )


def scored_sql(source: PairSource, checkpoint: Checkpoint) -> tuple[str, tuple[Any, ...]]:
    """Columns chosen, rejected and margin of the decided pairs that the checkpoint has scored."""
    a, b = F("reward_a"), F("reward_b")
    chosen = Case(When(verdict="a", then=a), default=b, output_field=FloatField())
    rejected = Case(When(verdict="a", then=b), default=a, output_field=FloatField())
    rows = with_rewards(source.decided(), checkpoint).annotate(chosen=chosen, rejected=rejected).order_by()
    sql, params = rows.values("chosen", "rejected", "margin").query.sql_with_params()
    return sql, params


def bins_of(cursor: Any, values: str, params: Any) -> Bins:
    """Bins over all but the outermost values."""
    ends = "percentile_disc(%s) WITHIN GROUP (ORDER BY value), percentile_disc(%s) WITHIN GROUP (ORDER BY value)"
    cursor.execute(f"SELECT {ends} FROM ({values}) v", [OUTER, 1 - OUTER, *params])  # noqa: S608 - our own SQL
    return round_bins(*cursor.fetchone())


def round_bins(low: float, high: float, *, about: int = ABOUT_BINS) -> Bins:
    """About so many bins from low to high, 1, 2 or 5 times a power of ten wide, so that people can read them."""
    spread = (high - low) or max(abs(low), 1.0) * 0.1
    rough = spread / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((power * factor for factor in (1, 2, 5, 10)), key=lambda near: abs(math.log(near / rough)))
    first, last = math.floor(low / step), math.floor(high / step) + 1
    return Bins(first * step, step, last - first)


def count(cursor: Any, inner: str, params: Any, *, bins: Bins, columns: tuple[str, ...]) -> Histogram:
    counts, n_beyond = {}, 0
    for column in columns:
        cursor.execute(
            f"SELECT width_bucket({column}, %s::float8, %s::float8, %s), COUNT(*) "  # noqa: S608 - our own names
            f"FROM ({inner}) pairs GROUP BY 1",
            [bins.start, bins.end, bins.n, *params],
        )
        found = [0] * bins.n
        for bucket, n in cursor.fetchall():
            found[min(max(bucket - 1, 0), bins.n - 1)] += n
            n_beyond += n if not 1 <= bucket <= bins.n else 0
        counts[column] = found
    return Histogram(bins, counts, n_beyond)
