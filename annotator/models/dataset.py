"""Datasets: examples (prompts), responses, known preferences, and how they were imported.

Rows are written by COPY in bulk, so these tables carry few indexes and every one is used.
"""

from typing import ClassVar

from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVectorField
from django.db import models
from django.db.models import Q

from annotator.models.base import UidModel
from annotator.models.project import Project
from annotator.models.user import User


class Dataset(UidModel):
    class State(models.TextChoices):
        IMPORTING = "importing", "importing"
        READY = "ready", "ready"
        FAILED = "failed", "failed"
        CANCELLED = "cancelled", "cancelled"

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="datasets")
    name = models.CharField(max_length=200)
    state = models.CharField(max_length=10, choices=State.choices, default=State.IMPORTING)
    format = models.CharField(max_length=40, blank=True, help_text="Importer used.")
    format_reason = models.TextField(blank=True, help_text="Why the importer was chosen, as shown to the user.")
    source_name = models.CharField(max_length=300, blank=True)
    source_sha256 = models.CharField(max_length=64, blank=True)
    licence = models.CharField(max_length=200, blank=True)
    n_examples = models.PositiveIntegerField(default=0)
    n_responses = models.PositiveIntegerField(default=0)
    n_preferences = models.PositiveIntegerField(default=0)
    n_rows = models.PositiveIntegerField(default=0, help_text="Rows read from the file, good or bad.")
    n_errors = models.PositiveIntegerField(default=0)
    n_duplicates = models.PositiveIntegerField(default=0)
    n_bytes_read = models.BigIntegerField(default=0)
    n_bytes_total = models.BigIntegerField(null=True, blank=True)
    failure = models.TextField(blank=True)
    metadata_keys = models.JSONField(default=list, help_text="Metadata keys seen, for filters.")
    n_indexed = models.PositiveIntegerField(default=0, help_text="Examples in the full-text index so far.")
    indexed_to = models.BigIntegerField(default=0, help_text="Last example id in the full-text index.")
    enqueued_at = models.DateTimeField(null=True, blank=True, help_text="Last time a worker was asked to import it.")
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    imported_by = models.ForeignKey(User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    finished_at = models.DateTimeField(null=True, blank=True)
    frozen_at = models.DateTimeField(null=True, blank=True, help_text="First used by a queue or run; immutable since.")
    deleted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes: ClassVar = [models.Index(fields=["project", "-id"], name="dataset_of_project")]

    def __str__(self) -> str:
        return self.name


class Example(models.Model):
    """One prompt (a list of messages) with its responses."""

    uid = models.UUIDField(unique=True)
    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="examples", db_index=False)
    position = models.PositiveIntegerField(help_text="Line in the source, from 1.")
    prompt = models.JSONField(help_text="Messages: [{role, content}].")
    meta = models.JSONField(default=dict)
    content_hash = models.BinaryField(max_length=16)
    prompt_hash = models.BinaryField(
        max_length=16, help_text="Hash of the prompt alone: the unit of a train/validation split."
    )

    class Meta:
        indexes: ClassVar = [models.Index(fields=["dataset", "id"], name="example_of_dataset")]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["dataset", "content_hash"], name="no_duplicate_example_in_dataset")
        ]


class ExampleSearch(models.Model):
    """Full-text index of an example, filled after the import so that COPY stays fast."""

    example = models.OneToOneField(Example, on_delete=models.CASCADE, primary_key=True, related_name="search")
    vector = SearchVectorField()

    class Meta:
        indexes: ClassVar = [GinIndex(fields=["vector"], name="example_full_text")]


class Response(models.Model):
    """One model output to a prompt: the messages that follow it, nearly always a single assistant message."""

    uid = models.UUIDField(unique=True)
    example = models.ForeignKey(Example, on_delete=models.CASCADE, related_name="responses", db_index=False)
    number = models.PositiveSmallIntegerField(help_text="Stored order within the example, from 0, fixed for ever.")
    messages = models.JSONField(help_text="Messages: [{role, content}].")
    source_model = models.CharField(max_length=200, blank=True)
    meta = models.JSONField(default=dict)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["example", "number"], name="response_number_in_example")
        ]

    @property
    def text(self) -> str:
        return "\n\n".join(str(message["content"]) for message in self.messages)


class Verdict(models.TextChoices):
    A = "a", "response A is better"
    B = "b", "response B is better"
    TIE = "tie", "equally good"
    BOTH_BAD = "both_bad", "both bad"


class Preference(models.Model):
    """A preference known from the source of a dataset: what makes it usable as an evaluation set."""

    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="preferences", db_index=False)
    example = models.ForeignKey(Example, on_delete=models.CASCADE, related_name="preferences")
    response_a = models.ForeignKey(Response, on_delete=models.CASCADE, related_name="+", db_index=False)
    response_b = models.ForeignKey(Response, on_delete=models.CASCADE, related_name="+", db_index=False)
    verdict = models.CharField(max_length=8, choices=Verdict.choices)
    preference_strength = models.PositiveSmallIntegerField(
        null=True, help_text="1 slightly, 2 clearly, 3 much; null unknown."
    )

    class Meta:
        indexes: ClassVar = [models.Index(fields=["dataset", "id"], name="preference_of_dataset")]
        constraints: ClassVar = [
            models.CheckConstraint(
                name="preference_verdict_known", condition=Q(verdict__in=["a", "b", "tie", "both_bad"])
            ),
            models.CheckConstraint(
                name="preference_strength_1_to_3",
                condition=Q(preference_strength__isnull=True) | Q(preference_strength__range=(1, 3)),
            ),
        ]


class ImportProblem(models.Model):
    """A source row that was not imported: where, why and what to do."""

    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="problems")
    line = models.PositiveIntegerField()
    code = models.CharField(max_length=60)
    detail = models.TextField()
    excerpt = models.CharField(max_length=200, blank=True)
