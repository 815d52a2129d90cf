"""Pages of datasets: list, import, one dataset with its examples, one example."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import orjson
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_htmx.http import HttpResponseClientRedirect

from annotator.access import LEADS, READERS, RESEARCHERS, access_dataset, access_example, access_project, role_in
from annotator.errors import InvalidInput
from annotator.forms.datasets import FilterForm, ImportForm, format_examples
from annotator.models import Dataset, Project
from annotator.requests import user_of
from annotator.selectors.datasets import (
    ExampleFilters,
    dataset_list,
    dataset_metadata_values,
    dataset_problem_counts,
    dataset_problems,
    dataset_queues,
    example_neighbours,
    example_view,
    examples_page,
)
from annotator.services.datasets import DuplicateUpload, ImportRequest, dataset_delete
from annotator.services.import_copy import MAX_PROBLEMS_KEPT
from annotator.services.uploads import dataset_upload, import_cancel
from annotator.streaming import streaming_response
from annotator.tasks import enqueue_import, import_limits
from workers.data.importing import AUTO

PROBLEMS_SHOWN = 50
DATASETS_A_PAGE = 50


@login_required
@require_GET
def dataset_list_view(request: HttpRequest, uid: UUID) -> HttpResponse:
    project = access_project(request.user, uid, READERS)
    page = Paginator(dataset_list(project=project), DATASETS_A_PAGE).get_page(request.GET.get("page"))
    context = {"project": project, "page": page, "may_import": role_in(request.user, project) in RESEARCHERS}
    template = "annotator/dataset_list.html"
    return render(request, f"{template}#datasets" if is_htmx(request) else template, context)


@login_required
@require_http_methods(["GET", "POST"])
def dataset_import_view(request: HttpRequest, uid: UUID) -> HttpResponse:
    project = access_project(request.user, uid, RESEARCHERS)
    if request.method == "GET":
        context = {"project": project, "form": ImportForm(), "formats": format_examples()}
        return render(request, "annotator/dataset_import.html", context)
    form = ImportForm(request.POST, request.FILES)
    duplicate = None
    if form.is_valid():
        try:
            dataset = upload(request, project, form.cleaned_data)
        except InvalidInput as error:
            form.add_domain_error(error)
        except DuplicateUpload as error:
            duplicate = error
        else:
            return go_to(request, reverse("annotator:dataset-detail", args=[dataset.uid]))
    template = "annotator/dataset_import.html"
    context = {"project": project, "form": form, "duplicate": duplicate, "formats": format_examples()}
    return render(request, f"{template}#form" if is_htmx(request) else template, context, status=422)


def upload(request: HttpRequest, project: Project, given: dict[str, Any]) -> Dataset:
    """Keep the file and ask a worker to import it."""
    file = given["file"]
    source_name = PurePath(file.name).name
    wanted = ImportRequest(
        name=given["name"] or source_name,
        source_name=source_name,
        format=given["format"] or AUTO,
        licence=given["licence"],
        allow_duplicate=given["allow_duplicate"],
    )
    dataset = dataset_upload(
        project=project,
        user=user_of(request),
        request=wanted,
        chunks=file.chunks(),
        upload_dir=Path(settings.UPLOAD_DIR),
        limits=import_limits(),
        now=timezone.now(),
    )
    enqueue_import(dataset)
    return dataset


@login_required
@require_GET
def dataset_detail(request: HttpRequest, uid: UUID) -> HttpResponse:
    dataset = access_dataset(request.user, uid)
    template = "annotator/dataset_detail.html"
    if is_htmx(request) and request.htmx.target == "dataset-state":  # type: ignore[attr-defined]
        return render(request, f"{template}#state", state_context(request, dataset))
    context = state_context(request, dataset) | examples_context(request, dataset)
    return render(request, f"{template}#examples" if is_htmx(request) else template, context)


def state_context(request: HttpRequest, dataset: Dataset) -> dict[str, Any]:
    role = role_in(request.user, dataset.project)
    return {
        "dataset": dataset,
        "project": dataset.project,
        "may_change": role in RESEARCHERS,
        "may_queue": role in LEADS,
        "problems": dataset_problems(dataset=dataset, limit=PROBLEMS_SHOWN) if dataset.n_errors else [],
        "problem_counts": dataset_problem_counts(dataset=dataset) if dataset.n_errors else [],
        "queues": dataset_queues(dataset=dataset),
        "most_problems": MAX_PROBLEMS_KEPT,
    }


def examples_context(request: HttpRequest, dataset: Dataset) -> dict[str, Any]:
    """The examples table: filters from the query string, one keyset page."""
    form = FilterForm(request.GET, keys=dataset.metadata_keys)
    filters = filters_of(form)
    page = examples_page(
        dataset=dataset, filters=filters, after=uid_or_none(request, "after"), before=uid_or_none(request, "before")
    )
    query = filter_query(filters)
    here = reverse("annotator:dataset-detail", args=[dataset.uid])
    return {
        "form": form,
        "filters": filters,
        "filter_query": f"?{query}" if query else "",
        "page": page,
        "values": dataset_metadata_values(dataset=dataset, key=form["key"].value() or ""),
        "next_url": f"{here}?{urlencode({'after': page.next_after})}&{query}#examples" if page.next_after else "",
        "previous_url": f"{here}?{urlencode({'before': page.previous_before})}&{query}#examples"
        if page.previous_before
        else "",
    }


def filters_of(form: FilterForm) -> ExampleFilters:
    """Unknown keys and overlong texts were refused by the form, which says so beside the field."""
    if not form.is_valid():
        return ExampleFilters()
    key, value = form.cleaned_data["key"], form.cleaned_data["value"]
    return ExampleFilters(search=form.cleaned_data["q"], meta=((key, value),) if key and value else ())


def filter_query(filters: ExampleFilters) -> str:
    given = {"q": filters.search, **({"key": filters.meta[0][0], "value": filters.meta[0][1]} if filters.meta else {})}
    return urlencode({name: value for name, value in given.items() if value})


def uid_or_none(request: HttpRequest, name: str) -> UUID | None:
    try:
        return UUID(request.GET.get(name, ""))
    except ValueError:
        return None


@login_required
@require_GET
def dataset_problems_download(request: HttpRequest, uid: UUID) -> StreamingHttpResponse:
    dataset = access_dataset(request.user, uid)

    def lines() -> Iterator[bytes]:
        for problem in dataset.problems.order_by("line", "pk").values("line", "code", "detail", "excerpt").iterator():
            yield orjson.dumps(problem) + b"\n"

    name = f"problems-{dataset.uid}.jsonl"
    return streaming_response(request, lines(), content_type="application/x-ndjson", filename=name)


@login_required
@require_POST
def dataset_cancel(request: HttpRequest, uid: UUID) -> HttpResponse:
    dataset = access_dataset(request.user, uid, RESEARCHERS)
    import_cancel(dataset=dataset, upload_dir=Path(settings.UPLOAD_DIR), now=timezone.now())
    return redirect("annotator:dataset-detail", dataset.uid)


@login_required
@require_POST
def dataset_delete_view(request: HttpRequest, uid: UUID) -> HttpResponse:
    dataset = access_dataset(request.user, uid, RESEARCHERS)
    dataset_delete(dataset=dataset, user=user_of(request), now=timezone.now())
    messages.success(request, f"{dataset.name} is deleted.")
    return redirect("annotator:dataset-list", dataset.project.uid)


@login_required
@require_GET
def example_detail(request: HttpRequest, uid: UUID) -> HttpResponse:
    """One example as people read it; previous and next stay within the filters one came with."""
    example = access_example(request.user, uid)
    filters = filters_of(FilterForm(request.GET, keys=example.dataset.metadata_keys))
    previous, following = example_neighbours(example=example, filters=filters)
    query = filter_query(filters)
    context = {
        "project": example.dataset.project,
        "dataset": example.dataset,
        "example": example,
        "view": example_view(example=example),
        "previous": previous,
        "following": following,
        "filters": filters,
        "filter_query": f"?{query}" if query else "",
    }
    return render(request, "annotator/example_detail.html", context)


def is_htmx(request: HttpRequest) -> bool:
    return bool(getattr(request, "htmx", False))


def go_to(request: HttpRequest, url: str) -> HttpResponse:
    return HttpResponseClientRedirect(url) if is_htmx(request) else redirect(url)
