"""Which checkpoints have learnt from a dataset: what they are measured on there is no measure of new pairs."""

from collections.abc import Iterable, Iterator
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from annotator.models import Snapshot
from rmeval.models import Checkpoint, Evaluation
from rmeval.sources import PairSource, as_uuid

MOST_STAGES = 20
"""Of a training by stages, and of ensembles of ensembles."""


def learnt_from(source: PairSource, checkpoints: list[Checkpoint]) -> set[int]:
    """Keys of the checkpoints whose training, or that of what they were made of, read the source's dataset.

    A snapshot counts as the dataset that holds its texts. Pairs held out within a training are not told apart.
    """
    read = datasets_read(checkpoints)
    return {checkpoint.pk for checkpoint in checkpoints if source.home.uid in read[checkpoint.pk]}


def on_training_data(evaluations: Iterable[Evaluation]) -> set[int]:
    """Keys of the evaluations on what their checkpoint has learnt from, as learnt_from() knows it.

    Fetch them by with_training(): no query more for each.
    """
    found = list(evaluations)
    read = datasets_read([evaluation.checkpoint for evaluation in found])
    homes = {e.pk: PairSource(dataset=e.dataset, snapshot=e.snapshot).home.uid for e in found}
    return {e.pk for e in found if homes[e.pk] in read[e.checkpoint_id]}


def with_training(rows: "QuerySet[Evaluation]") -> "QuerySet[Evaluation]":
    """The same evaluations, with all that on_training_data() looks at."""
    return rows.select_related("checkpoint__reward_model", "checkpoint__run", "dataset", "snapshot__queue__dataset")


def datasets_read(checkpoints: list[Checkpoint]) -> dict[int, set[UUID]]:
    """By key of the checkpoint: uids of the datasets that its training, or that of what went into it, read."""
    known, links = family_tree(checkpoints)
    named = {pk: {as_uuid(uid) for uid in data_of(checkpoint)} for pk, checkpoint in known.items()}
    wanted = set().union(*named.values())
    snapshots = Snapshot.objects.filter(uid__in=wanted).values_list("uid", "queue__dataset__uid") if wanted else ()
    homes = dict(snapshots)
    read = {pk: {homes.get(uid, uid) for uid in uids} for pk, uids in named.items()}
    return {c.pk: set().union(*(read[pk] for pk in went_into(c.pk, links))) for c in checkpoints}


def family_tree(checkpoints: Iterable[Checkpoint]) -> tuple[dict[int, Checkpoint], dict[int, set[int]]]:
    """All that went into the checkpoints, by key, and the keys of what went into each directly."""
    known: dict[int, Checkpoint] = {}
    links: dict[int, set[int]] = {}
    stage = list(checkpoints)
    for _ in range(MOST_STAGES):
        known |= {c.pk: c for c in stage}
        parents = {c.pk: {as_uuid(uid) for uid in parents_of(c)} for c in stage}
        wanted = set().union(*parents.values())
        found = {c.uid: c for c in with_run().filter(uid__in=wanted)} if wanted else {}
        links |= {pk: {found[uid].pk for uid in uids & found.keys()} for pk, uids in parents.items()}
        stage = [c for c in found.values() if c.pk not in known]
        if not stage:
            break
    return known, links


def went_into(key: int, links: dict[int, set[int]]) -> set[int]:
    """The key and all that it leads to."""
    reached, waiting = {key}, [key]
    while waiting:
        further = links.get(waiting.pop(), set()) - reached
        reached |= further
        waiting.extend(further)
    return reached


def with_run() -> Any:
    return Checkpoint.objects.select_related("run", "reward_model")


def data_of(checkpoint: Checkpoint) -> Iterator[str]:
    """uids of the datasets and snapshots that its run learnt from."""
    spec = checkpoint.run.spec if checkpoint.run else {}
    for source in (spec.get("source"), *(spec.get("objective_config") or {}).values()):
        if isinstance(source, dict):
            yield from (str(source[kind]) for kind in ("dataset", "snapshot") if source.get(kind))


def parents_of(checkpoint: Checkpoint) -> Iterator[str]:
    """uids of the checkpoints it went on from, lies between, or asks."""
    spec = checkpoint.run.spec if checkpoint.run else {}
    yield from (str(spec[name]) for name in ("start_from", "earlier", "later") if spec.get(name))
    members = checkpoint.reward_model.config.get("members")
    yield from (str(uid) for uid in members if isinstance(uid, str)) if isinstance(members, list) else ()
