"""Scores read back: which a checkpoint has given, and each with the response it is about."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, QuerySet, TextField
from django.db.models.functions import Cast

from annotator.models import Dataset
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
    """Each score once, in the order of import.

    By key and not by cursor: between two chunks the connection goes back to the pool.
    """
    columns = [
        "response_id",
        "response__uid",
        "response__example__uid",
        "response__example__dataset__uid",
        "response__number",
        "response__source_model",
        "value",
        "extra",
        "parts_text",
        *(["response__example__prompt", "response__messages"] if with_texts else []),
    ]
    rows = _wanted(checkpoint, dataset, extra).order_by("response_id")
    wanted = rows.annotate(parts_text=Cast("parts", TextField())).values_list(*columns)
    last = 0
    while found := list(wanted.filter(response_id__gt=last)[:CHUNK]):
        last = found[-1][0]
        for row in found:
            yield _told(row)


def _told(row: tuple[Any, ...]) -> dict[str, Any]:
    _, response, example, dataset, number, source_model, value, extra, parts, *texts = row
    told = {
        "response": str(response),
        "example": str(example),
        "dataset": str(dataset),
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
