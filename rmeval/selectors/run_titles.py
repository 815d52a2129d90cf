"""What each run is about, in words: which checkpoint or reward model, on which data. Few queries for many runs."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from annotator.models import Dataset, Snapshot
from rmeval.models import Checkpoint, Run
from workers.jobs import JOBS

SENTENCES = {
    "evaluate": "Evaluate {who} on {data}",
    "score": "Score {data} with {who}",
    "score_text": "Score typed responses with {who}",
    "train_rm": "Train {who} on {data}",
    "train_study": "Compare ways of training {who} on {data}",
    "audit_labels": "Audit labels of {data}",
    "export_checkpoint": "Export {who}",
    "import_rm": "Import {model}",
    "extrapolate": "Extrapolate {who} from {earlier} and {later}",
    "implicit_study": "Compare {who} with {implicit}",
}
NAMED = ("checkpoint", "implicit", "earlier", "later")
"""Settings that hold the uid of one checkpoint."""
MOST_NAMES = 2
GONE = "a checkpoint that is gone"


@dataclass(frozen=True)
class Names:
    """By uid: checkpoints, and datasets and snapshots."""

    checkpoints: dict[str, str]
    sources: dict[str, str]


def run_titles(runs: Iterable[Run]) -> dict[int, str]:
    """By the run's key. What was deleted is still named, and said to be; what is gone is said to be gone."""
    listed = list(runs)
    names = names_in(listed)
    return {run.pk: title_of(run, names) for run in listed}


def title_of(run: Run, names: Names) -> str:
    if run.kind not in SENTENCES:
        title = str(JOBS.get(run.kind).title) if run.kind in JOBS else run.kind.replace("_", " ")
        return f"{title}: {model_name(run)}" if run.reward_model else title
    named = {name: names.checkpoints.get(str(run.spec.get(name)), GONE) for name in NAMED}
    return SENTENCES[run.kind].format(who=who(run, names), data=data_name(run, names), model=imported(run), **named)


def who(run: Run, names: Names) -> str:
    """The checkpoint or checkpoints, else the reward model."""
    uids = checkpoints_of(run)
    if not uids:
        return model_name(run)
    found = [names.checkpoints.get(uid, GONE) for uid in uids]
    rest = len(found) - MOST_NAMES
    return ", ".join(found[:MOST_NAMES]) + (f" and {rest} more" if rest > 0 else "")


def model_name(run: Run) -> str:
    return shown(run.reward_model.name, run.reward_model.deleted_at) if run.reward_model else "a reward model"


def data_name(run: Run, names: Names) -> str:
    """As it is called now; of a row that is gone, as it was called when the run read it."""
    source = run.spec.get("source") or {}
    uid = str(source.get("dataset") or source.get("snapshot"))
    return names.sources.get(uid) or str((run.environment.get("data") or {}).get("name") or "data that is gone")


def imported(run: Run) -> str:
    """The name it has here, or is to have."""
    if run.reward_model:
        return model_name(run)
    return str(run.spec.get("name") or str(run.spec.get("model", "")).rstrip("/").rsplit("/", 1)[-1])


def names_in(runs: list[Run]) -> Names:
    """Of the runs' own projects alone: a uid in a spec opens nothing else."""
    projects = {run.project_id for run in runs}
    sources = [run.spec.get("source") or {} for run in runs if run.kind in SENTENCES]
    of_checkpoints = uuids(uid for run in runs if run.kind in SENTENCES for uid in all_checkpoints(run))
    of_datasets, of_snapshots = (uuids(source.get(kind) for source in sources) for kind in ("dataset", "snapshot"))
    checkpoints = Checkpoint.objects.filter(uid__in=of_checkpoints, reward_model__project__in=projects)
    datasets = Dataset.objects.filter(uid__in=of_datasets, project__in=projects)
    snapshots = Snapshot.objects.filter(uid__in=of_snapshots, queue__project__in=projects)
    return Names(
        checkpoints={
            str(c.uid): shown(str(c), c.reward_model.deleted_at) for c in checkpoints.select_related("reward_model")
        },
        sources={str(uid): shown(name, at) for uid, name, at in datasets.values_list("uid", "name", "deleted_at")}
        | {
            str(s.uid): shown(f"{s.queue.name}, snapshot {s.number}", s.queue.deleted_at)
            for s in snapshots.select_related("queue")
        },
    )


def shown(name: str, deleted_at: Any) -> str:
    return f"{name} (deleted)" if deleted_at else name


def checkpoints_of(run: Run) -> list[str]:
    """The subject of the run: one checkpoint, or several side by side."""
    one = run.spec.get("checkpoint")
    return [str(one)] if one else [str(uid) for uid in run.spec.get("checkpoints") or []]


def all_checkpoints(run: Run) -> list[str]:
    return [*checkpoints_of(run), *(str(run.spec[name]) for name in NAMED if run.spec.get(name))]


def uuids(values: Iterable[Any]) -> set[UUID]:
    """A spec of long ago may hold something else in the place of a uid."""
    return set(read_uuids(values))


def read_uuids(values: Iterable[Any]) -> Iterator[UUID]:
    for value in values:
        try:
            yield UUID(str(value))
        except ValueError:
            continue
