"""Reads behind the page that imports scores: how much of each dataset has one, and what still lacks one."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from django.db.models import Count

from annotator.models import Dataset
from rmeval.models import Checkpoint, Score
from rmeval.sources import CHUNK, PairSource


@dataclass(frozen=True)
class Covered:
    """How many of a dataset's responses a checkpoint has a score for."""

    dataset: Dataset
    n_scored: int

    @property
    def n_unscored(self) -> int:
        return max(0, self.dataset.n_responses - self.n_scored)


def scored_by_dataset(*, checkpoint: Checkpoint, datasets: Iterable[Dataset]) -> list[Covered]:
    rows = Score.objects.filter(checkpoint=checkpoint, extra="").values("response__example__dataset")
    known = dict(rows.annotate(n=Count("pk")).values_list("response__example__dataset", "n"))
    return [Covered(dataset, known.get(dataset.pk, 0)) for dataset in datasets]


def responses_to_score(*, checkpoint: Checkpoint, dataset: Dataset) -> Iterator[bytes]:
    """JSON Lines of what a model elsewhere needs: uid of the response, prompt and response as messages.

    By key and not by cursor: between two chunks the connection goes back to the pool.
    """
    rows = PairSource(dataset=dataset).unscored(checkpoint).order_by("pk")
    last = 0
    while found := list(rows.filter(pk__gt=last).values_list("pk", "uid", "example__prompt", "messages")[:CHUNK]):
        last = found[-1][0]
        told = ({"response": str(row[1]), "prompt": row[2], "messages": row[3]} for row in found)
        yield "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in told).encode()
