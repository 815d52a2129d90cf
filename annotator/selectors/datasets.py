"""What the dataset and example pages and their API show."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from uuid import UUID

from django.contrib.postgres.search import SearchQuery
from django.db.models import Count, OuterRef, Prefetch, QuerySet, Subquery, TextField, prefetch_related_objects
from django.db.models.fields.json import KeyTextTransform, KeyTransform
from django.db.models.functions import Coalesce, Left

from annotator.models import Dataset, Example, ImportProblem, Preference, Project, Queue, Response, Verdict
from annotator.selectors.metadata import meta_text
from annotator.services.search import UNSPACED

PAGE = 25
EXCERPT_LENGTH = 300
MAX_QUERY_LENGTH = 500
SAMPLE = 2000
CHARACTERS = re.compile(f"[{UNSPACED}]+")


@dataclass(frozen=True, slots=True)
class ExampleFilters:
    """What the examples of a dataset are narrowed to. Keys of `meta` are taken from the dataset's own list."""

    search: str = ""
    meta: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.search or self.meta)


@dataclass(frozen=True, slots=True)
class Page:
    """One keyset page: rows in order, and the uids to go on from."""

    rows: list[Example] = field(default_factory=list)
    next_after: UUID | None = None
    previous_before: UUID | None = None


def dataset_list(*, project: Project) -> QuerySet[Dataset]:
    """Datasets of a project, newest first, with how many queues use each."""
    queues = Queue.objects.filter(dataset=OuterRef("pk"), deleted_at=None).order_by().values("dataset")
    return (
        Dataset.objects.filter(project=project, deleted_at=None)
        .select_related("imported_by")
        .annotate(n_queues=Coalesce(Subquery(queues.annotate(n=Count("pk")).values("n")), 0))
        .order_by("-pk")
    )


def dataset_queues(*, dataset: Dataset) -> QuerySet[Queue]:
    return Queue.objects.filter(dataset=dataset, deleted_at=None).order_by("-pk")


def dataset_problems(*, dataset: Dataset, limit: int, offset: int = 0) -> QuerySet[ImportProblem]:
    return dataset.problems.order_by("line", "pk")[offset : offset + limit]


def dataset_problem_counts(*, dataset: Dataset) -> list[tuple[str, int]]:
    """(code, how many) of the problems kept, most frequent first."""
    counted = dataset.problems.order_by().values_list("code").annotate(n=Count("pk")).order_by("-n", "code")
    return [(code, n) for code, n in counted]


def dataset_metadata_values(*, dataset: Dataset, key: str, limit: int = 50) -> list[str]:
    """Values of a metadata key among the first examples, to choose from; empty for a key the dataset does not have."""
    if key not in dataset.metadata_keys:
        return []
    first = Example.objects.filter(dataset=dataset).order_by("pk").values("pk")[:SAMPLE]
    named = Example.objects.filter(pk__in=first).annotate(value=meta_text("meta", key))
    found = named.exclude(value=None).order_by().values_list("value").annotate(n=Count("pk")).order_by("-n", "value")
    return [value for value, _ in found[:limit]]


def examples_matching(*, dataset: Dataset, filters: ExampleFilters) -> QuerySet[Example]:
    """Examples of a dataset that fit a full-text search and metadata values, in the order of the file.

    A metadata key that the dataset does not have matches nothing; no key ever becomes part of a query's structure.
    """
    found = Example.objects.filter(dataset=dataset).order_by("pk")
    if query := search_text(filters.search):
        found = found.filter(search__vector=SearchQuery(query, config="simple", search_type="websearch"))
    for number, (key, value) in enumerate(filters.meta):
        if key not in dataset.metadata_keys:
            return found.none()
        found = found.alias(**{f"meta_{number}": meta_text("meta", key)}).filter(**{f"meta_{number}": value})
    return found


def search_text(text: str) -> str:
    """A search as PostgreSQL's websearch syntax reads it; scripts without spaces become phrases of characters."""
    cleaned = text.replace("\0", "")[:MAX_QUERY_LENGTH].strip()
    if not CHARACTERS.search(cleaned):
        return cleaned
    parts = cleaned.split('"')
    outside = [CHARACTERS.sub(lambda run: f' "{" ".join(run.group())}" ', part) for part in parts[0::2]]
    inside = [CHARACTERS.sub(lambda run: f" {' '.join(run.group())} ", part) for part in parts[1::2]]
    quoted = [f'"{part}"' for part in inside]
    mixed = [text for pair in zip(outside, [*quoted, ""], strict=False) for text in pair]
    return " ".join(part for part in mixed if part.strip())


def examples_page(
    *, dataset: Dataset, filters: ExampleFilters, after: UUID | None = None, before: UUID | None = None
) -> Page:
    """One page of examples as a table shows them: excerpts and counts, never whole texts."""
    found = examples_matching(dataset=dataset, filters=filters)
    at = after or before
    edge = Example.objects.filter(dataset=dataset, uid=at).values_list("pk", flat=True).first() if at else None
    backwards = after is None and before is not None
    if edge is not None:
        found = found.filter(pk__lt=edge).order_by("-pk") if backwards else found.filter(pk__gt=edge)
    rows = list(_as_table(found)[: PAGE + 1])
    more = len(rows) > PAGE
    rows = rows[:PAGE][::-1] if backwards else rows[:PAGE]
    if not rows:
        return Page()
    has_next = more if not backwards else True
    has_previous = (edge is not None) if not backwards else more
    return Page(rows, rows[-1].uid if has_next else None, rows[0].uid if has_previous else None)


def _as_table(found: QuerySet[Example]) -> QuerySet[Example]:
    responses = Response.objects.filter(example=OuterRef("pk")).order_by().values("example")
    preferences = Preference.objects.filter(example=OuterRef("pk")).order_by().values("example")
    last = KeyTextTransform("content", KeyTransform(-1, "prompt"))
    return found.defer("prompt").annotate(
        excerpt=Left(last, EXCERPT_LENGTH, output_field=TextField()),
        n_responses=Coalesce(Subquery(responses.annotate(n=Count("pk")).values("n")), 0),
        n_preferences=Coalesce(Subquery(preferences.annotate(n=Count("pk")).values("n")), 0),
    )


def example_neighbours(*, example: Example, filters: ExampleFilters) -> tuple[UUID | None, UUID | None]:
    """(previous, next) example among those that fit the filters."""
    found = examples_matching(dataset=example.dataset, filters=filters)
    previous = found.filter(pk__lt=example.pk).order_by("-pk").values_list("uid", flat=True).first()
    following = found.filter(pk__gt=example.pk).values_list("uid", flat=True).first()
    return previous, following


@dataclass(slots=True)
class ResponseView:
    """One response with how it fares in the known preferences."""

    response: Response
    n_better: int = 0
    n_worse: int = 0
    n_equal: int = 0


@dataclass(frozen=True, slots=True)
class ExampleView:
    responses: list[ResponseView]
    preferences: list[Preference]


def example_view(*, example: Example) -> ExampleView:
    """The responses of an example in their stored order, and the preferences known between them."""
    views = {response.pk: ResponseView(response) for response in example.responses.order_by("number")}
    preferences = list(example.preferences.order_by("pk"))
    for known in preferences:
        a, b = views[known.response_a_id], views[known.response_b_id]
        known.response_a, known.response_b = a.response, b.response
        if known.verdict in (Verdict.A, Verdict.B):
            better, worse = (a, b) if known.verdict == Verdict.A else (b, a)
            better.n_better += 1
            worse.n_worse += 1
        elif known.verdict == Verdict.TIE:
            a.n_equal += 1
            b.n_equal += 1
    return ExampleView(list(views.values()), preferences)


def with_responses(examples: list[Example]) -> list[Example]:
    """The same examples with responses and preferences at hand: one query each, however many examples."""
    prefetch_related_objects(
        examples,
        Prefetch("responses", Response.objects.order_by("number")),
        Prefetch(
            "preferences",
            Preference.objects.select_related("response_a", "response_b")
            .only("example_id", "verdict", "preference_strength", "response_a__number", "response_b__number")
            .order_by("pk"),
        ),
    )
    return examples
