"""Agreement in a queue: figures with intervals, pairs of raters, confusion of verdicts, disputed items."""

import math
from dataclasses import dataclass

import numpy as np
from django.core.cache import cache
from django.db import connection
from numpy.typing import NDArray

from annotator.models import Item, Queue, Rater
from annotator.services.snapshot_rows import rater_pseudonym
from workers.stats.agreement import Agreement, agreement
from workers.stats.counts import codes_of, rating_counts
from workers.stats.majority import VERDICTS

KEEP_S = 3600
MAX_RATERS_SHOWN = 12
MAX_DISPUTED = 20
N_ROUNDS = 1000

# Numbers only, so that a million rows are read in one go. A judgement without a verdict is -1: cannot judge.
RATINGS_SQL = """
    COPY (
        SELECT item_id, rater_id,
               CASE verdict WHEN 'a' THEN 0 WHEN 'b' THEN 1 WHEN 'tie' THEN 2 WHEN 'both_bad' THEN 3 ELSE -1 END,
               CASE WHEN verdict = 'tie' THEN 0 WHEN verdict = 'both_bad' OR preference_strength IS NULL THEN 9
                    WHEN verdict = 'a' THEN preference_strength ELSE -preference_strength END
        FROM annotator_judgement WHERE queue_id = {queue} AND is_current AND NOT is_surplus ORDER BY item_id, rater_id
    ) TO STDOUT WITH (DELIMITER ' ')
"""
NO_STRENGTH = 9
STATE_SQL = """
    SELECT coalesce(max(id), 0), count(*), count(*) FILTER (WHERE is_surplus)
    FROM annotator_judgement WHERE queue_id = %s AND is_current
"""

Ratings = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Figure:
    """One measure as pages and the API show it; value is None where undefined, and `reason` says why in words."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    n_ratings: int
    reason: str


@dataclass(frozen=True, slots=True)
class QueueAgreement:
    """Agreement on current judgements that are not surplus, over items with two or more raters."""

    alpha: Figure
    percent_agreement: Figure
    ordinal_alpha: Figure | None
    n_items: int
    n_raters: int
    n_judgements: int
    n_single: int
    n_cannot_judge: int
    reason: str


@dataclass(frozen=True, slots=True)
class RaterPair:
    n: int
    share: float | None


@dataclass(frozen=True, slots=True)
class AgreementDetail:
    """What the page shows beside the figures."""

    raters: list[str]
    pairs: list[list[RaterPair | None]]
    n_raters_hidden: int
    confusion: list[list[int]]
    disputed: list[tuple[Item, dict[str, int]]]


def queue_agreement(*, queue: Queue) -> QueueAgreement:
    """The figures. Kept until a judgement changes, because a million of them take a second to read."""
    with connection.cursor() as cursor:
        cursor.execute(STATE_SQL, [queue.pk])
        state = "-".join(str(value) for value in cursor.fetchone())
    key = f"agreement:{queue.uid}:{state}"
    found: QueueAgreement | None = cache.get(key)
    if found is None:
        found = measure(read_ratings(queue), seed=queue.seed)
        cache.set(key, found, KEEP_S)
    return found


def read_ratings(queue: Queue) -> Ratings:
    """(n, 4) integers: item, rater, verdict code, signed strength."""
    with connection.cursor() as cursor, cursor.copy(RATINGS_SQL.format(queue=int(queue.pk))) as copy:
        text = b"".join(bytes(block) for block in copy)
    return np.fromstring(text.decode(), dtype=np.int64, sep=" ").reshape(-1, 4)


def measure(ratings: Ratings, *, seed: int) -> QueueAgreement:
    judged = ratings[ratings[:, 2] >= 0]
    rng = np.random.default_rng(seed)
    verdicts = agreement(
        judged[:, 0], judged[:, 1], judged[:, 2], measures=["percent", "nominal"], n_rounds=N_ROUNDS, rng=rng
    )
    scaled = judged[judged[:, 3] != NO_STRENGTH]
    has_strength = bool(np.any(np.abs(scaled[:, 3]) > 0))
    ordinal = None
    if has_strength:
        found = agreement(scaled[:, 0], scaled[:, 1], scaled[:, 3], measures=["ordinal"], n_rounds=N_ROUNDS, rng=rng)
        ordinal = figure(found["ordinal"])
    nominal = verdicts["nominal"]
    return QueueAgreement(
        alpha=figure(nominal),
        percent_agreement=figure(verdicts["percent"]),
        ordinal_alpha=ordinal,
        n_items=nominal.n_items,
        n_raters=nominal.n_raters,
        n_judgements=len(judged),
        n_single=nominal.n_single,
        n_cannot_judge=len(ratings) - len(judged),
        reason=nominal.reason if math.isnan(nominal.value) else "",
    )


def figure(found: Agreement) -> Figure:
    return Figure(
        value=defined(found.value),
        low=defined(found.low),
        high=defined(found.high),
        n=found.n_items,
        n_ratings=found.n_ratings,
        reason=found.reason,
    )


def defined(value: float) -> float | None:
    return None if math.isnan(value) else value


def agreement_detail(*, queue: Queue, with_names: bool) -> AgreementDetail:
    ratings = read_ratings(queue)
    judged = ratings[ratings[:, 2] >= 0]
    raters, pairs, n_hidden = rater_pairs(judged)
    names = rater_names(queue, raters, with_names)
    return AgreementDetail(
        raters=[names[rater] for rater in raters],
        pairs=pairs,
        n_raters_hidden=n_hidden,
        confusion=confusion(judged),
        disputed=disputed_items(judged),
    )


def rater_pairs(judged: Ratings) -> tuple[list[int], list[list[RaterPair | None]], int]:
    """Share of equal verdicts for every two of the busiest raters, on the items both judged."""
    ids, n = np.unique(judged[:, 1], return_counts=True)
    busiest = ids[np.argsort(-n, kind="stable")][:MAX_RATERS_SHOWN]
    items, _ = codes_of(judged[:, 0])
    given = np.full((int(items.max(initial=-1)) + 1, len(busiest)), -1, dtype=np.int8)
    for column, rater in enumerate(busiest):
        chosen = judged[:, 1] == rater
        given[items[chosen], column] = judged[chosen, 2]
    table: list[list[RaterPair | None]] = []
    for i in range(len(busiest)):
        table.append([None if i == j else rater_pair(given[:, i], given[:, j]) for j in range(len(busiest))])
    return [int(rater) for rater in busiest], table, len(ids) - len(busiest)


def rater_pair(one: NDArray[np.int8], other: NDArray[np.int8]) -> RaterPair:
    both = (one >= 0) & (other >= 0)
    n = int(both.sum())
    return RaterPair(n, float((one[both] == other[both]).mean()) if n else None)


def rater_names(queue: Queue, raters: list[int], with_names: bool) -> dict[int, str]:
    """Names for leads; for everybody else the pseudonyms that exports carry."""
    rows = Rater.objects.filter(pk__in=raters).select_related("user")
    pseudonyms = {row.pk: rater_pseudonym(queue.project.uid, row.uid) for row in rows}
    return {row.pk: f"{row} ({pseudonyms[row.pk]})" if with_names else pseudonyms[row.pk] for row in rows}


def confusion(judged: Ratings) -> list[list[int]]:
    """How often two raters of one item said this and that: unordered pairs, verdicts in the order of VERDICTS."""
    counts = rating_counts(judged[:, 0], judged[:, 1], judged[:, 2])
    ordered = (counts.patterns * counts.frequency[:, None]).T @ counts.patterns
    ordered -= np.diag(counts.frequency @ counts.patterns)
    table = np.zeros((len(VERDICTS), len(VERDICTS)), dtype=np.int64)
    place = counts.values.astype(int)
    table[np.ix_(place, place)] = ordered
    np.fill_diagonal(table, np.diagonal(table) // 2)
    return [[int(value) for value in row] for row in table]


def disputed_items(judged: Ratings) -> list[tuple[Item, dict[str, int]]]:
    """Items whose raters agree least, those with more raters first."""
    if not len(judged):
        return []
    places, ids = codes_of(judged[:, 0])
    votes = np.bincount(places * 4 + judged[:, 2], minlength=len(ids) * 4).reshape(-1, 4)
    n = votes.sum(axis=1)
    agreeing = (votes * (votes - 1)).sum(axis=1) / np.maximum(n * (n - 1), 1)
    candidates = np.flatnonzero((n > 1) & (agreeing < 1))
    worst = candidates[np.lexsort((ids[candidates], -n[candidates], agreeing[candidates]))][:MAX_DISPUTED]
    by_pk = Item.objects.select_related("example").in_bulk([int(ids[place]) for place in worst])
    return [(by_pk[int(ids[p])], tally(votes[p])) for p in worst if int(ids[p]) in by_pk]


def tally(votes: NDArray[np.int64]) -> dict[str, int]:
    return {verdict: int(count) for verdict, count in zip(VERDICTS, votes, strict=True) if count}
