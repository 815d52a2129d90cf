"""Where pairs with known preferences come from: a dataset's own preferences, or the frozen rows of a snapshot.

Both tables name their columns alike, so one class reads either. Rows stream through server-side cursors.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import UUID

from django.db.models import Case, Exists, F, FilteredRelation, FloatField, OuterRef, Q, QuerySet, When

from annotator.errors import FieldError, InvalidInput, NotFound
from annotator.models import Dataset, Preference, Project, Response, Snapshot, SnapshotRow
from rmeval.edits import Standing, Strength, audit_table, edit_counts, edited_pairs, edits_sha256, standing_edits
from rmeval.edits import strengths_of as strengths_by_pair
from rmeval.models import Checkpoint, Run, Score
from workers.data.schema import Message, PreferencePair, ResponseItem

CHUNK = 2000
PAIR_COLUMNS = (
    "pk",
    "example__prompt",
    "response_a__messages",
    "response_b__messages",
    "verdict",
    "preference_strength",
    "response_a_id",
    "response_b_id",
    "example_id",
    "example__prompt_hash",
    "example__meta",
)


@dataclass(frozen=True)
class PairSource:
    """One of dataset and snapshot is set. Edits and strengths matter only where pairs are read for training."""

    dataset: Dataset | None = None
    snapshot: Snapshot | None = None
    edits: bool = False
    strengths: Run | None = None

    @property
    def kind(self) -> str:
        return "dataset" if self.dataset else "snapshot"

    @cached_property
    def row(self) -> Dataset | Snapshot:
        found = self.dataset or self.snapshot
        if found is None:
            raise ValueError("a source is a dataset or a snapshot")
        return found

    @property
    def uid(self) -> UUID:
        return self.row.uid

    @property
    def name(self) -> str:
        return (
            self.dataset.name
            if self.dataset
            else f"{self.snapshot_row.queue.name}, snapshot {self.snapshot_row.number}"
        )

    @property
    def snapshot_row(self) -> Snapshot:
        if self.snapshot is None:
            raise ValueError("not a snapshot")
        return self.snapshot

    @property
    def project(self) -> Project:
        return self.dataset.project if self.dataset else self.snapshot_row.queue.project

    @property
    def home(self) -> Dataset:
        """The dataset that holds the texts."""
        return self.dataset or self.snapshot_row.queue.dataset

    @property
    def topic(self) -> str:
        return f"dataset.{self.dataset.uid}" if self.dataset else f"queue.{self.snapshot_row.queue.uid}"

    @property
    def spec(self) -> dict[str, str]:
        return {self.kind: str(self.uid)}

    def pairs(self) -> "QuerySet[Any]":
        """Rows with a verdict, in stored order."""
        if self.dataset:
            return Preference.objects.filter(dataset=self.dataset).order_by("pk")
        return SnapshotRow.objects.filter(snapshot=self.snapshot_row, verdict__isnull=False).order_by("pk")

    def decided(self) -> "QuerySet[Any]":
        """Pairs with a chosen and a rejected response: what accuracy is counted on."""
        return self.pairs().filter(verdict__in=["a", "b"])

    def responses(self) -> "QuerySet[Response]":
        """Every response a model has to score here: all of a dataset's, those in the rows of a snapshot."""
        if self.dataset:
            return Response.objects.filter(example__dataset=self.dataset)
        return Response.objects.filter(in_pairs(SnapshotRow.objects.filter(snapshot=self.snapshot_row)))

    def unscored(self, checkpoint: Checkpoint, *, only_pairs: bool = False, extra: str = "") -> "QuerySet[Response]":
        scored = Score.objects.filter(checkpoint=checkpoint, extra=extra, response=OuterRef("pk"))
        responses = Response.objects.filter(in_pairs(self.pairs())) if only_pairs else self.responses()
        return responses.exclude(Exists(scored)).order_by("example_id", "number")

    @cached_property
    def standing(self) -> dict[int, Standing]:
        """Edits to apply, read once: what is hashed is what is streamed."""
        return standing_edits("dataset" if self.dataset else "snapshot", self.row.pk) if self.edits else {}

    @cached_property
    def strength_table(self) -> dict[str, Strength]:
        return strengths_by_pair(self.strengths) if self.strengths else {}

    def stream_pairs(self) -> Iterator[PreferencePair]:
        """Pairs as they are stored, after the edits that stand and with the strengths, where these are asked for."""
        return edited_pairs(self._stored_pairs(), self.standing, self.strength_table)

    def _stored_pairs(self) -> Iterator[tuple[int, PreferencePair]]:
        columns = PAIR_COLUMNS if self.dataset else (*PAIR_COLUMNS, "shares", "judgements")
        for row in self.pairs().values_list(*columns).iterator(chunk_size=CHUNK):
            yield (
                row[0],
                PreferencePair(
                    pair_id=f"{self.kind}-{row[0]}",
                    prompt=row[1],
                    response_a=row[2],
                    response_b=row[3],
                    verdict=row[4],
                    preference_strength=row[5],
                    response_a_id=row[6],
                    response_b_id=row[7],
                    example_id=row[8],
                    prompt_key=bytes(row[9]).hex(),
                    source=str(self.uid),
                    reference=reference_of(row[10]),
                    meta=row[10],
                    **self._told_by_raters(row[11:]),
                ),
            )

    @staticmethod
    def _told_by_raters(columns: tuple[Any, ...]) -> dict[str, Any]:
        """Of a snapshot's row: P(a preferred) from the shares of its raters, and the rater where there was one."""
        if not columns:
            return {}
        shares, judgements = columns
        a, b, tie = (float(shares.get(name, 0)) for name in ("a", "b", "tie"))
        total = a + b + tie
        raters = {str(judgement.get("rater", "")) for judgement in judgements}
        return {
            "soft_target": (a + tie / 2) / total if total else None,
            "rater": raters.pop() if len(raters) == 1 else "",
        }

    def stream_unscored(
        self, checkpoint: Checkpoint, *, only_pairs: bool = False, extra: str = ""
    ) -> Iterator[ResponseItem]:
        """Responses not yet scored, with reference, steps and context from the metadata, which some families read."""
        columns = ("pk", "example__prompt", "messages", "example__meta", "meta")
        rows = self.unscored(checkpoint, only_pairs=only_pairs, extra=extra).values_list(*columns)
        for pk, prompt, messages, example_meta, meta in rows.iterator(chunk_size=CHUNK):
            more: dict[str, Any] = {}
            if reference := reference_of(example_meta):
                more["reference"] = reference
            if context := example_meta.get("context"):
                more["context"] = context
            if steps := meta.get("steps"):
                more["steps"] = steps
            yield ResponseItem(response_id=pk, prompt=prompt, response=messages, extra=more)

    def sha256(self) -> str:
        """Identity of the pairs: texts (by content hash), which responses, verdict and strength, in stored order.

        Edits and measured strengths are part of it where they are used: other labels are other data.
        """
        digest = hashlib.sha256()
        columns = (
            "example__content_hash",
            "response_a__number",
            "response_b__number",
            "verdict",
            "preference_strength",
        )
        for content, *rest in self.pairs().values_list(*columns).iterator(chunk_size=CHUNK):
            digest.update(bytes(content))
            digest.update(repr(rest).encode())
        if self.edits:
            digest.update(f"edits {edits_sha256(self.standing)}".encode())
        if self.strengths:
            digest.update(f"strengths {audit_table(self.strengths).sha256}".encode())
        return digest.hexdigest()

    def told(self, sha256: str = "") -> dict[str, Any]:
        """What is kept of it with a run that read it; the hash is that of its pairs, where no other is given."""
        facts: dict[str, Any] = {"kind": self.kind, "uid": str(self.uid), "name": self.name}
        facts["sha256"] = sha256 or self.sha256()
        if self.edits:
            facts["edits"] = edit_counts(self.standing)
        if self.strengths:
            facts["strengths"] = str(self.strengths.uid)
        return facts


def reference_of(meta: dict[str, Any]) -> list[Message] | None:
    """The reference answer an example carries in its metadata, as a text, a number or messages."""
    for key in ("reference", "reference_answer"):
        found = meta.get(key)
        if isinstance(found, int | float) and not isinstance(found, bool):
            found = str(found)
        if isinstance(found, str) and found.strip():
            return [{"role": "assistant", "content": found}]
        if isinstance(found, list) and found and all(isinstance(m, dict) and "content" in m for m in found):
            return [{"role": str(m.get("role", "assistant")), "content": str(m["content"])} for m in found]
    return None


def in_pairs(rows: "QuerySet[Any]") -> Q:
    """Responses on either side of the given pairs. One IN over a union: an OR of two would read the whole table."""
    plain = rows.order_by()
    return Q(pk__in=plain.values("response_a_id").union(plain.values("response_b_id")))


def with_rewards(rows: "QuerySet[Any]", checkpoint: Checkpoint, *, prefix: str = "") -> "QuerySet[Any]":
    """Annotate pairs with a checkpoint's rewards of both responses and its margin r(chosen) - r(rejected).

    Pairs that the checkpoint has not scored are left out.
    """
    names = {side: f"{prefix}reward_{side}" for side in "ab"}
    joins = {
        f"{prefix}score_{side}": FilteredRelation(
            f"response_{side}__scores",
            condition=Q(**{f"response_{side}__scores__checkpoint": checkpoint, f"response_{side}__scores__extra": ""}),
        )
        for side in "ab"
    }
    rows = rows.annotate(**joins).annotate(**{names[side]: F(f"{prefix}score_{side}__value") for side in "ab"})
    rows = rows.filter(**{f"{name}__isnull": False for name in names.values()})
    a, b = F(names["a"]), F(names["b"])
    margin = Case(When(verdict="a", then=a - b), When(verdict="b", then=b - a), output_field=FloatField())
    return rows.annotate(**{f"{prefix}margin": margin})


def source_of(project: Project, source: dict[str, Any], *, pointer: str = "/source") -> PairSource:
    """The source a spec names, from the same project; anything else is as good as not there."""
    datasets = Dataset.objects.filter(project=project, deleted_at=None).select_related("project")
    snapshots = Snapshot.objects.filter(queue__project=project).select_related("queue__project", "queue__dataset")
    dataset = datasets.filter(uid=as_uuid(source["dataset"])).first() if source.get("dataset") else None
    snapshot = snapshots.filter(uid=as_uuid(source["snapshot"])).first() if source.get("snapshot") else None
    if dataset is None and snapshot is None:
        detail = "This project has no such dataset or snapshot."
        raise NotFound(detail, code="unknown_source", errors=[FieldError(pointer, "unknown_source", detail)])
    strengths = audit_of(project, source, pointer=pointer) if source.get("strengths") else None
    return PairSource(
        dataset=dataset, snapshot=None if dataset else snapshot, edits=bool(source.get("edits")), strengths=strengths
    )


def audit_of(project: Project, source: dict[str, Any], *, pointer: str) -> Run:
    """The audit whose strengths a source asks for: done, and of the same pairs."""
    kind = "dataset" if source.get("dataset") else "snapshot"
    rows = Run.objects.filter(project=project, kind="audit_labels", state=Run.State.DONE)
    found = rows.filter(**{"uid": as_uuid(source["strengths"]), f"spec__source__{kind}": str(source[kind])}).first()
    if found is None:
        detail = "There is no finished label audit of these pairs with this uid."
        at = f"{pointer}/strengths"
        raise NotFound(detail, code="unknown_audit", errors=[FieldError(at, "unknown_audit", detail)])
    return found


def as_uuid(text: object) -> UUID:
    """Text that is no uid becomes one that no row has."""
    try:
        return UUID(str(text))
    except ValueError:
        return UUID(int=0)


def check_ready(
    source: PairSource, *, pointer: str = "/source", needs_preferences: bool = True, least_decided: int = 1
) -> None:
    """Refuse a source that is still filling, or that has fewer decided preferences than are needed."""
    if source.row.state != "ready":
        detail = f"{source.name} is {source.row.state}, not ready. Wait until it is, or choose another."
        raise InvalidInput(detail, code="source_not_ready", errors=[FieldError(pointer, "source_not_ready", detail)])
    if needs_preferences and not source.decided().exists():
        undecided = f"all of its {n} pairs are ties or both bad" if (n := source.pairs().count()) else ""
        detail = (
            f"{source.name} has no preferences: {undecided or 'it has no pair with a chosen and a rejected response'}. "
            "Choose a dataset imported with them, or a snapshot of a queue."
        )
        raise InvalidInput(detail, code="no_preferences", errors=[FieldError(pointer, "no_preferences", detail)])
    if needs_preferences and least_decided > 1 and (n := source.decided()[:least_decided].count()) < least_decided:
        detail = (
            f"{source.name} has {n} pairs with a chosen and a rejected response; {least_decided} are needed. "
            "Choose a source with more decided pairs."
        )
        raise InvalidInput(detail, code="too_few_pairs", errors=[FieldError(pointer, "too_few_pairs", detail)])
