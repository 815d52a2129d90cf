"""Leaderboards: the newest evaluation of every checkpoint on one dataset or snapshot."""

from dataclasses import asdict, dataclass, field
from typing import Any

from django.core.cache import cache
from django.db.models import Count, Max, QuerySet

from annotator.models import Dataset, Project, Snapshot
from rmeval.models import Checkpoint, Evaluation
from rmeval.selectors.reward_models import is_baseline
from rmeval.selectors.slices import sums_by_slice
from rmeval.selectors.training_data import learnt_from, on_training_data, with_training
from rmeval.sources import PairSource, with_rewards
from workers.stats.clusters import ClusterSums, share_interval
from workers.stats.slices import OTHERS

MAX_SLICES = 12
SLICES_KEPT_S = 24 * 3600
SORTS = {"accuracy": "accuracy", "margin": "mean_margin", "pairs": "n", "name": "name", "updated": "updated"}


@dataclass(frozen=True)
class Rate:
    """A share of n with its 95% interval, and which one: "wilson", or "wilson_effective_n" where prompts repeat."""

    value: float
    low: float
    high: float
    n: int
    interval: str = "wilson"
    n_prompts: int | None = None
    n_effective: float | None = None

    @property
    def heat(self) -> int:
        """Shade of a table cell, 0 to 4; middling on both sides of chance."""
        return sum(self.value >= edge for edge in (0.4, 0.5, 0.65, 0.8))

    @property
    def is_clustered(self) -> bool:
        return self.interval == "wilson_effective_n"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class LeaderboardRow:
    checkpoint: Checkpoint
    evaluation: Evaluation
    accuracy: Rate | None
    mean_margin: float | None
    n_zero_margin: int
    n_tie: int
    is_baseline: bool
    has_learnt_from_it: bool = False
    """Its training read this dataset."""
    slices: dict[str, Rate] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.checkpoint)


@dataclass(frozen=True)
class Benchmark:
    """A dataset or snapshot that something was, or can be, evaluated on."""

    source: PairSource
    n_pairs: int
    n_evaluations: int
    best: Evaluation | None
    best_has_learnt: bool = False
    """Every model evaluated on it has learnt from it, the best one too."""


def rate(sums: ClusterSums) -> Rate | None:
    if sums.n == 0:
        return None
    found = share_interval(sums)
    return Rate(
        value=sums.k / sums.n,
        low=found.low,
        high=found.high,
        n=sums.n,
        interval=found.method,
        n_prompts=found.n_clusters,
        n_effective=round(found.n_effective, 1),
    )


def kept_rate(accuracy: Any) -> Rate | None:
    """As a run kept it in its result; None where there is no figure."""
    if not isinstance(accuracy, dict) or not accuracy.get("n"):
        return None
    return Rate(**{name: accuracy[name] for name in Rate.__dataclass_fields__ if name in accuracy})


def leaderboard_rows(*, source: PairSource, slice_by: str = "", sort: str = "accuracy") -> list[LeaderboardRow]:
    """Best first; rows without a figure last."""
    evaluations = (
        evaluations_of(source)
        .filter(checkpoint__reward_model__deleted_at=None)
        .select_related("checkpoint__reward_model", "checkpoint__run", "run")
    )
    learnt = learnt_from(source, [evaluation.checkpoint for evaluation in evaluations])
    rows = [row_of(evaluation, source, slice_by, learnt) for evaluation in evaluations]
    return sorted(rows, key=sort_key(sort))


def evaluations_of(source: PairSource) -> "QuerySet[Evaluation]":
    if source.dataset:
        return Evaluation.objects.filter(dataset=source.dataset)
    return Evaluation.objects.filter(snapshot=source.snapshot)


def row_of(evaluation: Evaluation, source: PairSource, slice_by: str, learnt: set[int]) -> LeaderboardRow:
    metrics = evaluation.metrics
    family = evaluation.checkpoint.reward_model.family
    return LeaderboardRow(
        checkpoint=evaluation.checkpoint,
        evaluation=evaluation,
        accuracy=kept_rate(metrics.get("accuracy")),
        mean_margin=metrics.get("mean_margin"),
        n_zero_margin=metrics.get("n_zero_margin", 0),
        n_tie=metrics.get("n_tie", 0),
        is_baseline=is_baseline(family),
        has_learnt_from_it=evaluation.checkpoint.pk in learnt,
        slices=slices_of(evaluation, source, slice_by) if slice_by else {},
    )


def sort_key(sort: str) -> Any:
    def key(row: LeaderboardRow) -> tuple[Any, ...]:
        if sort == "name":
            return (row.name.lower(),)
        if sort == "updated":
            return (-row.evaluation.updated_at.timestamp(),)
        accuracy = row.accuracy
        value = {
            "margin": row.mean_margin,
            "pairs": accuracy.n if accuracy else None,
        }.get(sort, accuracy.value if accuracy else None)
        return (value is None, -(value or 0.0), row.name.lower())

    return key


def slices_of(evaluation: Evaluation, source: PairSource, key: str) -> dict[str, Rate]:
    """Accuracy by the value of a metadata key: as the run counted it, else counted now and kept."""
    if counted := evaluation.metrics.get("slices", {}).get(key):
        return largest({name: kept_rate(part["accuracy"]) for name, part in counted.items() if name != OTHERS})
    kept = f"slices:{evaluation.pk}:{evaluation.updated_at.timestamp()}:{key.encode().hex()}"
    found: dict[str, Rate] | None = cache.get(kept)
    if found is None:
        found = count_slices(source, evaluation.checkpoint, key)
        cache.set(kept, found, SLICES_KEPT_S)
    return found


def count_slices(source: PairSource, checkpoint: Checkpoint, key: str) -> dict[str, Rate]:
    counted = sums_by_slice(with_rewards(source.decided(), checkpoint), key, limit=MAX_SLICES)
    return largest({name: rate(sums) for name, sums in counted.items()})


def largest(slices: dict[str, Rate | None]) -> dict[str, Rate]:
    """The database does not keep the order of a result's slices."""
    found = [(name, value) for name, value in slices.items() if value is not None]
    return dict(sorted(found, key=lambda item: (-item[1].n, item[0]))[:MAX_SLICES])


def slice_names(rows: list[LeaderboardRow]) -> list[str]:
    """Every slice that any row has, the largest first."""
    sizes: dict[str, int] = {}
    for row in rows:
        for name, found in row.slices.items():
            sizes[name] = max(sizes.get(name, 0), found.n)
    return sorted(sizes, key=lambda name: (-sizes[name], name))[:MAX_SLICES]


def benchmarks(*, project: Project) -> list[Benchmark]:
    """Everything with known preferences, most recently evaluated first."""
    counted = {"n_done": Count("evaluations"), "last": Max("evaluations__updated_at")}
    datasets = Dataset.objects.filter(project=project, deleted_at=None, state="ready", n_preferences__gt=0)
    snapshots = Snapshot.objects.filter(queue__project=project, queue__deleted_at=None, state="ready", n_rows__gt=0)
    found: list[tuple[Any, PairSource, int]] = [
        *((d, PairSource(dataset=d), d.n_preferences) for d in datasets.annotate(**counted).select_related("project")),
        *(
            (s, PairSource(snapshot=s), s.n_rows)
            for s in snapshots.annotate(**counted).select_related("queue__project", "queue__dataset")
        ),
    ]
    best = best_evaluations(project)
    nothing = (None, False)
    found.sort(key=lambda item: (item[0].last is None, -(item[0].last.timestamp() if item[0].last else 0), -item[0].pk))
    return [
        Benchmark(source, n_pairs, row.n_done, *best.get((source.kind, row.pk), nothing))
        for row, source, n_pairs in found
    ]


def best_evaluations(project: Project) -> dict[tuple[str, int], tuple[Evaluation, bool]]:
    """The most accurate evaluation of each source, and whether its model has learnt from the source.

    Such a model is the best only where all are such.
    """
    rows = Evaluation.objects.filter(
        project=project, accuracy__isnull=False, checkpoint__reward_model__deleted_at=None
    ).defer("checkpoint__run__result", "checkpoint__run__environment")
    found = list(with_training(rows).order_by("accuracy"))
    learnt = on_training_data(found)
    best: dict[tuple[str, int], tuple[Evaluation, bool]] = {}
    for row in sorted(found, key=lambda row: row.pk not in learnt):
        source = ("dataset", row.dataset_id) if row.dataset_id else ("snapshot", row.snapshot_id or 0)
        best[source] = (row, row.pk in learnt)
    return best
