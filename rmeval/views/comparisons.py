"""Leaderboards and comparisons of two reward models."""

from random import SystemRandom
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from annotator.access import READERS, RESEARCHERS, access_project, role_in
from annotator.errors import DomainError
from annotator.requests import user_of
from annotator.services.queues import queue_create
from rmeval.access import access_source
from rmeval.compare_request import CompareRequest, compare_request
from rmeval.forms import EvaluateForm, QueueFromPairsForm
from rmeval.keyset import with_query
from rmeval.leaderboard_charts import accuracy_dots, margins_plot
from rmeval.selectors.compare import CELLS, compare, compared_pairs, selected_responses
from rmeval.selectors.leaderboards import SORTS, benchmarks, leaderboard_rows, slice_names
from rmeval.selectors.reward_models import checkpoint_choices, source_choices
from rmeval.selectors.training_data import learnt_from
from rmeval.services.submission import run_submit
from rmeval.sources import PairSource

#: The form of a queue made from a comparison: the plain pairwise question, with room for ties.
PAIRWISE_FORM = [{"type": "pairwise", "name": "preference", "points": 3, "allow_tie": True, "allow_both_bad": True}]


@login_required
@require_GET
def leaderboard_list_view(request: HttpRequest, uid: UUID) -> HttpResponse:
    project = access_project(request.user, uid, READERS)
    context = {"project": project, "benchmarks": benchmarks(project=project)}
    template = "rmeval/leaderboard_list.html"
    return render(request, f"{template}#rows" if request.htmx else template, context)  # type: ignore[attr-defined]


@login_required
@require_GET
def leaderboard_view(request: HttpRequest, uid: UUID) -> HttpResponse:
    source = access_source(request.user, uid, READERS)
    template = "rmeval/leaderboard.html"
    context = leaderboard_context(request, source)
    return render(request, f"{template}#board" if request.htmx else template, context)  # type: ignore[attr-defined]


def leaderboard_context(request: HttpRequest, source: PairSource, form: EvaluateForm | None = None) -> dict[str, Any]:
    keys = sorted(source.home.metadata_keys)
    slice_by = request.GET.get("slice", "")
    sort = request.GET.get("sort", "accuracy")
    rows = leaderboard_rows(source=source, slice_by=slice_by, sort=sort)
    may_act = role_in(request.user, source.project) in RESEARCHERS
    if form is None and may_act:
        form = EvaluateForm(project=source.project, source=source_choice(source))
    return {
        "source": source,
        "project": source.project,
        "rows": rows,
        "any_learnt": any(row.has_learnt_from_it for row in rows),
        "chart": accuracy_dots(rows),
        "interval_rate": next((row.accuracy for row in rows if row.accuracy is not None), None),
        "keys": keys,
        "slice_by": slice_by,
        "slices": slice_names(rows) if slice_by else [],
        "sort": sort if sort in SORTS else "accuracy",
        "sorts": SORTS,
        "n_decided": source.decided().count(),
        "evaluate_form": form if may_act else None,
        "may_act": may_act,
        "url": with_query(request),
    }


def source_choice(source: PairSource) -> tuple[str, str]:
    return f"{source.kind}:{source.uid}", source.name


@login_required
@require_POST
def leaderboard_evaluate_view(request: HttpRequest, uid: UUID) -> HttpResponse:
    source = access_source(request.user, uid, RESEARCHERS)
    form = EvaluateForm(request.POST, project=source.project, source=source_choice(source))
    if form.is_valid():
        try:
            run_submit(
                project=source.project,
                kind="evaluate",
                spec=form.spec(),
                user=user_of(request),
                now=timezone.now(),
            )
            messages.success(request, "Evaluation started; its row appears here when it is done.")
            return redirect("rmeval:leaderboard", source.uid)
        except DomainError as error:
            form.add_error(None, error.detail)
    return render(request, "rmeval/leaderboard.html", leaderboard_context(request, source, form), status=422)


@login_required
@require_GET
def compare_view(request: HttpRequest) -> HttpResponse:
    """Two checkpoints on one dataset. Without all three it asks for what is missing."""
    asked = compare_request(request.user, request.GET)
    context: dict[str, Any] = {"asked": asked, "project": asked.project, "cells": CELLS}
    if asked.project is not None:
        context |= {
            "checkpoints": checkpoint_choices(project=asked.project),
            "sources": [(value.partition(":")[2], label) for value, label in source_choices(project=asked.project)],
        }
    if asked.is_complete:
        context |= comparison_context(request, asked)
    return render(request, "rmeval/compare.html", context)


def comparison_context(request: HttpRequest, asked: CompareRequest) -> dict[str, Any]:
    source, a, b = asked.parts()
    comparison = compare(source=source, a=a, b=b)
    learnt = learnt_from(source, [a, b])
    page = compared_pairs(source=source, a=a, b=b, chosen=asked.chosen, after=asked.after, before=asked.before)
    may_act = role_in(request.user, source.project) in RESEARCHERS
    cell_label = CELLS[asked.chosen.cell][0]
    name = "A second look"  # raters see it: it must not say what the models or people answered
    return {
        "source": source,
        "comparison": comparison,
        "learnt": [checkpoint for checkpoint in (a, b) if checkpoint.pk in learnt],
        "plot": margins_plot(comparison.points, a, b, comparison.n),
        "page": page,
        "pager": {
            "next_url": with_query(request, after=page.last) if page.has_next and page.last else "",
            "previous_url": with_query(request, before=page.first) if page.has_previous and page.first else "",
        },
        "cell_label": cell_label,
        "cell_links": {cell: with_query(request, cell=cell) + "#pairs" for cell in CELLS},
        "keys": sorted(source.home.metadata_keys),
        "may_act": may_act,
        "queue_form": QueueFromPairsForm(initial={"name": name}) if may_act and page.pairs else None,
    }


@login_required
@require_POST
def compare_queue_view(request: HttpRequest) -> HttpResponse:
    """Send the pairs behind a cell to people: a new queue over the same dataset."""
    asked = compare_request(request.user, request.POST, roles=RESEARCHERS)
    form = QueueFromPairsForm(request.POST)
    if not asked.is_complete or not form.is_valid():
        wrong = "; ".join(f"{name}: {errors.as_text()}" for name, errors in form.errors.items())
        messages.error(request, f"No queue was made. {wrong or 'Choose two models and a dataset first.'}")
        return redirect(asked.url())
    source, a, b = asked.parts()
    pairs = selected_responses(source=source, a=a, b=b, chosen=asked.chosen, limit=form.cleaned_data["limit"])
    if not pairs:
        messages.error(request, "No queue was made: there is no pair behind this cell.")
        return redirect(asked.url())
    queue = queue_create(
        project=source.project,
        dataset=source.home,
        name=form.cleaned_data["name"],
        form=PAIRWISE_FORM,
        created_by=user_of(request),
        now=timezone.now(),
        rng=SystemRandom(),
        overlap=form.cleaned_data["overlap"],
        pairs=pairs,
    )
    messages.success(request, f"{len(pairs)} pairs are in the new queue {queue.name}.")
    return redirect("annotator:queue-detail", queue.uid)
