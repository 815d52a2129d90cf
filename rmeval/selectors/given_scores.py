"""Scores read back: which a checkpoint has given, and each with the response it is about."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import Count, QuerySet, TextField
from django.db.models.functions import Cast

from annotator.models import Dataset, Response
from rmeval.models import Checkpoint, Run, Score
from rmeval.sources import CHUNK
from workers.data.rendering import turns


@dataclass(frozen=True)
class Given:
    """How many of a dataset's responses have a score, under one key."""

    dataset: Dataset
    extra: str
    n_scored: int
    told: str
    """Whose rewards these are, in words; empty where they are everybody's."""


def given_scores(*, checkpoint: Checkpoint) -> list[Given]:
    """Datasets in the order of their import, first the rewards that are everybody's."""
    groups = _scores(checkpoint).values_list("response__example__dataset", "extra").annotate(n=Count("pk"))
    found = sorted((dataset, extra, n) for dataset, extra, n in groups)
    datasets = Dataset.objects.in_bulk({dataset for dataset, _, _ in found})
    words = _persons(checkpoint, keys) if (keys := {extra for _, extra, _ in found if extra}) else {}
    return [Given(datasets[dataset], extra, n, words.get(extra, extra)) for dataset, extra, n in found]


def has_scores(*, checkpoint: Checkpoint, dataset: Dataset | None, extra: str) -> bool:
    return _wanted(checkpoint, dataset, extra).exists()


def score_rows(
    *, checkpoint: Checkpoint, dataset: Dataset | None, extra: str, with_texts: bool
) -> Iterator[dict[str, Any]]:
    """Each score once, in the order of import, of the datasets that are there when it begins.

    By key and not by cursor: between two chunks the connection goes back to the pool.
    """
    columns = [
        "pk",
        "uid",
        "example__uid",
        "example__dataset",
        "number",
        "source_model",
        "scores__value",
        "scores__extra",
        "parts_text",
        *(["example__prompt", "messages"] if with_texts else []),
    ]
    live = Dataset.objects.filter(project=checkpoint.reward_model.project_id, deleted_at=None)
    datasets = dict((live.filter(pk=dataset.pk) if dataset else live).values_list("pk", "uid"))
    last = 0
    while found := list(_after(last, checkpoint, datasets, extra).values_list(*columns)[:CHUNK]):
        last = found[-1][0]
        for row in found:
            yield _told(row, datasets)


def _after(last: int, checkpoint: Checkpoint, datasets: Collection[int], extra: str) -> "QuerySet[Response]":
    """Responses with a score, behind one of them.

    Both tables are told where to begin: PostgreSQL infers no bound of one from the other, and would read either of
    them from its start again for every chunk.
    """
    rows = Response.objects.filter(
        pk__gt=last,
        example__dataset__in=list(datasets),
        scores__response_id__gt=last,
        scores__checkpoint=checkpoint,
        scores__extra=extra,
    )
    return rows.annotate(parts_text=Cast("scores__parts", TextField())).order_by("pk")


def _told(row: tuple[Any, ...], datasets: Mapping[int, UUID]) -> dict[str, Any]:
    _, response, example, dataset, number, source_model, value, extra, parts, *texts = row
    told = {
        "response": str(response),
        "example": str(example),
        "dataset": str(datasets[dataset]),
        "number": number,
        "source_model": source_model,
        "score": value,
        "extra": extra,
        "parts": parts or "",
    }
    return {**told, "prompt": turns(texts[0]), "messages": turns(texts[1])} if texts else told


def _wanted(checkpoint: Checkpoint, dataset: Dataset | None, extra: str) -> "QuerySet[Score]":
    rows = _scores(checkpoint).filter(extra=extra)
    return rows if dataset is None else rows.filter(response__example__dataset=dataset)


def _scores(checkpoint: Checkpoint) -> "QuerySet[Score]":
    return Score.objects.filter(checkpoint=checkpoint, response__example__dataset__deleted_at=None)


def _persons(checkpoint: Checkpoint, keys: Collection[str]) -> dict[str, str]:
    """What runs have said of the people whose rewards they stored, by key: the same pairs are the same person."""
    runs = Run.objects.filter(kind="score", project=checkpoint.reward_model.project_id)
    told = runs.filter(result__person__extra__in=list(keys)).values_list("result__person", flat=True)
    return {one["extra"]: person_words(one.get("rater") or "", one["n_pairs"]) for one in told}


def person_words(rater: str, n_pairs: int) -> str:
    return f"{rater or 'a person'}, known by {n_pairs} pairs"
