"""The labelled pairs of one rater: of a dataset that names its raters, of a snapshot, or of a queue as it is now."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Q, QuerySet

from annotator.errors import FieldError, InvalidInput, NotFound
from annotator.models import Dataset, Judgement, Preference, Project, Queue, Rater, Snapshot, SnapshotRow
from annotator.selectors.metadata import meta_text
from annotator.services.snapshot_rows import rater_pseudonym
from rmeval.models import Checkpoint
from rmeval.sources import as_uuid
from workers.data.schema import PreferencePair
from workers.data.spread import spread
from workers.families import FAMILIES
from workers.person import LEAST_PAIRS, no_context, takes_pairs

SIDES = ("a", "b")
LOOKED_AT = 5000
"""Rows of a snapshot in which known raters are looked for."""
NAMED = 5


@dataclass(frozen=True)
class RaterSource:
    """One of the three is set."""

    dataset: Dataset | None = None
    snapshot: Snapshot | None = None
    queue: Queue | None = None

    @property
    def name(self) -> str:
        if self.snapshot:
            return f"{self.snapshot.queue.name}, snapshot {self.snapshot.number}"
        return str((self.dataset or self.queue).name)  # type: ignore[union-attr]


def rater_source(project: Project, named: Mapping[str, Any], *, pointer: str = "/source") -> RaterSource:
    """The place a spec names, from the same project; anything else is as good as not there."""
    uids = {kind: as_uuid(uid) for kind, uid in named.items() if uid}
    datasets = Dataset.objects.filter(project=project, deleted_at=None)
    snapshots = Snapshot.objects.filter(queue__project=project).select_related("queue__project")
    queues = Queue.objects.filter(project=project, deleted_at=None).select_related("project")
    found = RaterSource(
        dataset=datasets.filter(uid=uids["dataset"]).first() if "dataset" in uids else None,
        snapshot=snapshots.filter(uid=uids["snapshot"]).first() if "snapshot" in uids else None,
        queue=queues.filter(uid=uids["queue"]).first() if "queue" in uids else None,
    )
    if not (found.dataset or found.snapshot or found.queue):
        detail = "This project has no such dataset, snapshot or queue."
        raise NotFound(detail, code="unknown_source", errors=[FieldError(pointer, "unknown_source", detail)])
    return found


def rater_rows(source: RaterSource, rater: str, rater_key: str | None) -> "QuerySet[Any]":
    """Rows in which this rater chose one of two different responses, in stored order."""
    if source.dataset:
        rows = Preference.objects.filter(dataset=source.dataset, verdict__in=SIDES)
        return rows.annotate(who=meta_text("example__meta", rater_key or "")).filter(who=rater).order_by("pk")
    if source.snapshot:
        said = [Q(judgements__contains=[{"rater": rater, "verdict": side}]) for side in SIDES]
        return SnapshotRow.objects.filter(said[0] | said[1], snapshot=source.snapshot).order_by("pk")
    return judged(source).filter(rater__in=[pk for pk, name in queue_raters(source).items() if name == rater])


def judged(source: RaterSource) -> "QuerySet[Judgement]":
    rows = Judgement.objects.filter(queue=source.queue, is_current=True, verdict__in=SIDES)
    return rows.order_by("pk")


def queue_raters(source: RaterSource) -> dict[int, str]:
    """Raters by primary key as exports of the project name them."""
    if source.queue is None:
        return {}
    rows = Rater.objects.filter(pk__in=judged(source).order_by().values("rater"))
    return {pk: rater_pseudonym(source.queue.project.uid, uid) for pk, uid in rows.values_list("pk", "uid")}


def rater_pairs(source: RaterSource, *, rater: str, rater_key: str | None, most: int) -> list[PreferencePair]:
    """At most so many decided pairs of the rater, with that rater's own verdict, spread evenly over all of them."""
    rows = rater_rows(source, rater, rater_key)
    chosen = spread(list(rows.values_list("pk", flat=True)), most)
    at = "item__" if source.queue else ""
    columns = ("pk", "example__prompt", "response_a__messages", "response_b__messages")
    told = rows.filter(pk__in=chosen).values_list(
        *(columns[:1]), *(f"{at}{name}" for name in columns[1:]), "judgements" if source.snapshot else "verdict"
    )
    pairs = [
        PreferencePair(
            pair_id=str(pk), prompt=prompt, response_a=a, response_b=b, verdict=own_verdict(said, rater), rater=rater
        )
        for pk, prompt, a, b, said in told
    ]
    return [pair for pair in pairs if pair.response_a != pair.response_b]


def own_verdict(said: Any, rater: str) -> Any:
    """Of a frozen row with several judgements the one of this rater."""
    if isinstance(said, str):
        return said
    return next(one["verdict"] for one in said if one["rater"] == rater and one["verdict"] in SIDES)


def known_raters(source: RaterSource, rater_key: str | None) -> list[tuple[str, int]]:
    """Names with their numbers of decided pairs, those with most first."""
    if source.dataset:
        rows = Preference.objects.filter(dataset=source.dataset, verdict__in=SIDES)
        named = rows.annotate(who=meta_text("example__meta", rater_key or "")).exclude(who=None)
        return list(named.values_list("who").annotate(n=Count("pk")).order_by("-n", "who")[:NAMED])
    if source.queue:
        names = queue_raters(source)
        counted = judged(source).order_by().values_list("rater").annotate(n=Count("pk")).order_by("-n")[:NAMED]
        return [(names[pk], n) for pk, n in counted]
    frozen = SnapshotRow.objects.filter(snapshot=source.snapshot).order_by("pk").values_list("judgements", flat=True)
    said = (one for row in frozen[:LOOKED_AT] for one in row)
    return Counter(one["rater"] for one in said if one.get("verdict") in SIDES).most_common(NAMED)


def check_person(project: Project, spec: dict[str, Any]) -> None:
    """The rater that a spec names is there with enough pairs, and some reward model can be told of a person."""
    person = spec.get("person")
    if not person:
        return
    if spec.get("checkpoints"):
        check_some_take(project, spec["checkpoints"])
    if not person.get("source"):
        return
    source = rater_source(project, person["source"], pointer="/spec/person/source")
    n = rater_rows(source, person["rater"], person["rater_key"])[:LEAST_PAIRS].count()
    if n >= LEAST_PAIRS:
        return
    known = known_raters(source, person["rater_key"])
    others = ", ".join(f"{name} ({count} pairs)" for name, count in known)
    if n:
        code, detail = "too_few_pairs", f"{person['rater']} chose between responses once; {LEAST_PAIRS} are needed."
    else:
        code, detail = "unknown_rater", f"Nobody called {person['rater']} has chosen between responses there."
    detail += f" Known in {source.name}: {others}." if others else f" {source.name} names no rater of a decided pair."
    raise InvalidInput(detail, code=code, errors=[FieldError("/spec/person/rater", code, detail)])


def check_some_take(project: Project, uids: list[str]) -> None:
    rows = Checkpoint.objects.filter(reward_model__project=project, uid__in=uids)
    families = sorted(set(rows.values_list("reward_model__family", flat=True)) & set(FAMILIES.names()))
    if families and not any(takes_pairs(family) for family in families):
        detail = f"{no_context(families[0])} Choose a latent_user or mixture model, or leave the person out."
        raise InvalidInput(
            detail, code="takes_no_context", errors=[FieldError("/spec/person", "takes_no_context", detail)]
        )
