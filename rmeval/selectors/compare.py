"""Two checkpoints on the same pairs: the paired test, the agreement matrix, and the pairs behind every cell."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from django.core.cache import cache
from django.db.models import Count, Max, Q, QuerySet
from numpy.typing import NDArray

from annotator.models import Response
from rmeval.models import Checkpoint, Run
from rmeval.selectors.leaderboards import Rate, rate
from rmeval.selectors.slices import slice_text
from rmeval.sources import CHUNK, PairSource, with_rewards
from workers.stats.clusters import cluster_sums, widening
from workers.stats.paired import mcnemar_exact, sign_flip_exact

SCATTER_POINTS = 1500
COMPARISON_KEPT_S = 24 * 3600
PAGE = 10

#: Cells of the agreement matrix and the groups made of them; a zero margin is wrong.
A_RIGHT, B_RIGHT = Q(a_margin__gt=0), Q(b_margin__gt=0)
CELLS: dict[str, tuple[str, Q]] = {
    "all": ("all pairs", Q()),
    "disagree": ("the models disagree with each other", (A_RIGHT & ~B_RIGHT) | (~A_RIGHT & B_RIGHT)),
    "both": ("both agree with people", A_RIGHT & B_RIGHT),
    "a_only": ("only the first agrees with people", A_RIGHT & ~B_RIGHT),
    "b_only": ("only the second agrees with people", ~A_RIGHT & B_RIGHT),
    "neither": ("both disagree with people", ~A_RIGHT & ~B_RIGHT),
}


@dataclass(frozen=True)
class Difference:
    """Accuracy of the second minus that of the first on the same pairs."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """n_* count decided pairs that both checkpoints scored; intervals allow for prompts with several pairs."""

    n: int
    n_both: int
    n_a_only: int
    n_b_only: int
    n_neither: int
    n_unscored: int
    p_value: float | None
    difference: Difference | None
    accuracy_a: Rate | None
    accuracy_b: Rate | None
    agreement: Rate | None
    margin_correlation: float | None
    points: list[tuple[float, float]]
    n_prompts: int = 0
    p_value_by_prompt: float | None = None

    @property
    def has_repeated_prompts(self) -> bool:
        return 0 < self.n_prompts < self.n

    @property
    def n_disagree(self) -> int:
        return self.n_a_only + self.n_b_only


@dataclass(frozen=True)
class ComparedPair:
    """One pair with what people said and both models' rewards."""

    pk: int
    prompt: list[dict[str, str]]
    response_a: Response
    response_b: Response
    verdict: str
    preference_strength: int | None
    meta: dict[str, Any]
    example_uid: str
    rewards: dict[str, float]
    a_margin: float
    b_margin: float

    @property
    def cell(self) -> str:
        return {(True, True): "both", (True, False): "a_only", (False, True): "b_only", (False, False): "neither"}[
            self.a_margin > 0, self.b_margin > 0
        ]


@dataclass(frozen=True)
class PairFilter:
    """Which pairs of a comparison to list."""

    cell: str = "disagree"
    strength: int | None = None
    key: str = ""
    value: str = ""

    def apply(self, rows: "QuerySet[Any]") -> "QuerySet[Any]":
        rows = rows.filter(CELLS.get(self.cell, CELLS["disagree"])[1])
        if self.strength:
            rows = rows.filter(preference_strength=self.strength)
        if self.key and self.value:
            rows = rows.annotate(slice=slice_text("example__meta", self.key)).filter(slice=self.value)
        return rows


@dataclass(frozen=True)
class PairPage:
    pairs: list[ComparedPair]
    first: int | None
    last: int | None
    has_previous: bool
    has_next: bool


def compared(source: PairSource, a: Checkpoint, b: Checkpoint) -> "QuerySet[Any]":
    """Decided pairs that both checkpoints scored, with a_margin and b_margin."""
    return with_rewards(with_rewards(source.decided(), a, prefix="a_"), b, prefix="b_")


def compare(*, source: PairSource, a: Checkpoint, b: Checkpoint) -> Comparison:
    """Counted once for a state of the scores: a filter or a next page of the same comparison counts nothing again."""
    version = scores_version(a, b)
    if version is None:
        return compare_now(source=source, a=a, b=b)
    kept = f"compare3:{source.uid}:{a.pk}:{b.pk}:{version}"
    found: Comparison | None = cache.get(kept)
    if found is None:
        found = compare_now(source=source, a=a, b=b)
        cache.set(kept, found, COMPARISON_KEPT_S)
    return found


def scores_version(a: Checkpoint, b: Checkpoint) -> str | None:
    """Changes whenever either model may have got new scores; None while a run is giving it some."""
    runs = Run.objects.filter(reward_model__in={a.reward_model_id, b.reward_model_id}, kind__in=["score", "evaluate"])
    told = runs.aggregate(
        n_ended=Count("pk", filter=Q(state__in=Run.ENDED)),
        last=Max("ended_at"),
        n_live=Count("pk", filter=Q(state=Run.State.RUNNING)),
    )
    return None if told["n_live"] else f"{told['n_ended']}:{told['last']}".replace(" ", "T")


def compare_now(*, source: PairSource, a: Checkpoint, b: Checkpoint) -> Comparison:
    rows = compared(source, a, b).order_by("pk").values_list("a_margin", "b_margin", "example__prompt_hash")
    found = list(rows.iterator(chunk_size=CHUNK))
    margins = np.array([row[:2] for row in found], dtype=np.float64).reshape(-1, 2)
    prompts = [bytes(row[2]).hex() for row in found]
    right_a, right_b = margins[:, 0] > 0, margins[:, 1] > 0
    n, n_both = len(margins), int((right_a & right_b).sum())
    n_a_only, n_b_only = int((right_a & ~right_b).sum()), int((~right_a & right_b).sum())
    better = right_b.astype(np.int64) - right_a
    widened = widening(better.astype(np.float64), prompts) if n else 1.0
    return Comparison(
        n=n,
        n_both=n_both,
        n_a_only=n_a_only,
        n_b_only=n_b_only,
        n_neither=n - n_both - n_a_only - n_b_only,
        n_unscored=source.decided().count() - n,
        p_value=mcnemar_exact(n_a_only, n_b_only).p_value if n else None,
        difference=paired_difference(n_a_only, n_b_only, n, widened=widened),
        accuracy_a=rate(cluster_sums(right_a, prompts)),
        accuracy_b=rate(cluster_sums(right_b, prompts)),
        agreement=rate(cluster_sums(right_a == right_b, prompts)),
        margin_correlation=rank_correlation(margins),
        points=sampled(margins),
        n_prompts=len(set(prompts)),
        p_value_by_prompt=sign_flip_exact(better, prompts).p_value if n else None,
    )


def paired_difference(n_a_only: int, n_b_only: int, n: int, *, widened: float = 1.0) -> Difference | None:
    """B minus A with a 95% interval for paired shares: Wald on cells raised by a half (Agresti and Min 2005).

    `widened` allows for prompts that have several pairs (workers/stats/clusters.py).
    """
    if n == 0:
        return None
    b, c, total = n_b_only + 0.5, n_a_only + 0.5, n + 2.0
    centre = (b - c) / total
    half = widened * 1.959964 * float(np.sqrt(max(b + c - (b - c) ** 2 / total, 0.0))) / total
    return Difference((n_b_only - n_a_only) / n, max(centre - half, -1.0), min(centre + half, 1.0))


def rank_correlation(margins: NDArray[np.float64]) -> float | None:
    """Spearman's rank correlation of the two margins; None where one of them never varies."""
    if len(margins) < 3:
        return None
    ranks = np.stack([average_ranks(margins[:, i]) for i in (0, 1)])
    if (ranks.std(axis=1) == 0).any():
        return None
    return float(np.asarray(np.corrcoef(ranks))[0, 1])


def average_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 0, tied values sharing the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    means: NDArray[np.float64] = np.asarray(ends - (counts + 1) / 2, dtype=np.float64)
    return means[inverse]


def sampled(margins: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Points of the scatter: all, or a fixed random choice of them so that a page looks the same twice."""
    if len(margins) > SCATTER_POINTS:
        chosen = np.random.default_rng(0).choice(len(margins), SCATTER_POINTS, replace=False)
        margins = margins[np.sort(chosen)]
    return [(float(x), float(y)) for x, y in margins]


def compared_pairs(
    *, source: PairSource, a: Checkpoint, b: Checkpoint, chosen: PairFilter, after: int = 0, before: int = 0
) -> PairPage:
    """One keyset page of the pairs behind a cell."""
    rows = chosen.apply(compared(source, a, b)).select_related("response_a", "response_b", "example")
    if before:
        found = list(rows.filter(pk__lt=before).order_by("-pk")[: PAGE + 1])
        has_more, shown = len(found) > PAGE, found[:PAGE][::-1]
        return page_of(shown, has_previous=has_more, has_next=True)
    found = list(rows.filter(pk__gt=after).order_by("pk")[: PAGE + 1])
    return page_of(found[:PAGE], has_previous=after > 0, has_next=len(found) > PAGE)


def page_of(rows: list[Any], *, has_previous: bool, has_next: bool) -> PairPage:
    pairs = [compared_pair(row) for row in rows]
    return PairPage(pairs, pairs[0].pk if pairs else None, pairs[-1].pk if pairs else None, has_previous, has_next)


def compared_pair(row: Any) -> ComparedPair:
    names = ("a_reward_a", "a_reward_b", "b_reward_a", "b_reward_b")
    return ComparedPair(
        pk=row.pk,
        prompt=row.example.prompt,
        response_a=row.response_a,
        response_b=row.response_b,
        verdict=row.verdict,
        preference_strength=row.preference_strength,
        meta=row.example.meta,
        example_uid=str(row.example.uid),
        rewards={name: getattr(row, name) for name in names},
        a_margin=row.a_margin,
        b_margin=row.b_margin,
    )


def selected_responses(
    *, source: PairSource, a: Checkpoint, b: Checkpoint, chosen: PairFilter, limit: int
) -> list[tuple[int, int]]:
    """(response_a_id, response_b_id) of the first pairs behind a cell, for a new queue; each pair once."""
    rows = chosen.apply(compared(source, a, b)).order_by("pk").values_list("response_a_id", "response_b_id")
    return list(dict.fromkeys(rows[:limit]))
