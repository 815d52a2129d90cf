"""Which checkpoints have learnt from a dataset: what they are measured on there is no measure of new pairs."""

from collections.abc import Iterable, Iterator
from typing import Any

from annotator.models import Snapshot
from rmeval.models import Checkpoint
from rmeval.sources import PairSource, as_uuid

MOST_STAGES = 20
"""Of a training by stages, and of ensembles of ensembles."""


def learnt_from(source: PairSource, checkpoints: list[Checkpoint]) -> set[int]:
    """Keys of the checkpoints whose training, or that of what they were made of, read the source's dataset.

    A snapshot counts as the dataset that holds its texts. Pairs held out within a training are not told apart.
    """
    home = str(source.home.uid)
    snapshots = Snapshot.objects.filter(queue__dataset=source.home).values_list("uid", flat=True)
    homes = {home, *(str(uid) for uid in snapshots)}
    known, links = family_tree(checkpoints)
    guilty = {pk for pk, checkpoint in known.items() if homes & set(data_of(checkpoint))}
    return {checkpoint.pk for checkpoint in checkpoints if guilty & went_into(checkpoint.pk, links)}


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
