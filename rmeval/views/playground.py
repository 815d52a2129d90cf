"""The playground: typed responses, scored by the checkpoints one chooses."""

from typing import Any
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from annotator.access import READERS, RESEARCHERS, access_dataset, access_project, role_in
from annotator.errors import DomainError, NotFound
from annotator.models import Project
from annotator.requests import user_of
from rmeval.access import access_run
from rmeval.models import Run
from rmeval.person_forms import person_texts
from rmeval.playground_forms import PlaygroundForm, changed_texts
from rmeval.selectors.playground import (
    KIND,
    Candidate,
    candidates,
    datasets_to_pick,
    example_texts,
    next_example,
    run_texts,
    text_runs,
)
from rmeval.selectors.waiting import waiting_notes
from rmeval.services.submission import run_submit
from rmeval.typed_scores import typed_scores


@login_required
@require_http_methods(["GET", "POST"])
def playground_view(request: HttpRequest, uid: UUID) -> HttpResponse:
    """The form, filled in by ?run= (with its result), ?example= or ?dataset= with ?position=; POST starts a run."""
    if request.method == "POST":
        return playground_submit(request, uid)
    project = access_project(request.user, uid, READERS)
    run = shown_run(request, project)
    if request.htmx and run is not None:  # type: ignore[attr-defined]
        return render(request, "rmeval/playground.html#scores", scores_context(run))
    if request.GET.get("dataset"):
        return pick(request, project)
    return render(request, "rmeval/playground.html", page_context(request, project, run))


def playground_submit(request: HttpRequest, uid: UUID) -> HttpResponse:
    project = access_project(request.user, uid, RESEARCHERS)
    found = candidates(project=project, extra=uids(request.POST.getlist("checkpoints")))
    if change := request.POST.get("change"):
        return playground_changed(request, project, found, change)
    form = PlaygroundForm(request.POST, project=project, found=found)
    if form.is_valid():
        try:
            run = run_submit(project=project, kind=KIND, spec=form.spec(), user=user_of(request), now=timezone.now())
            return redirect(f"{reverse('rmeval:playground', args=[project.uid])}?run={run.uid}#scores")
        except DomainError as error:
            form.add_problems(error.errors) if error.errors else form.add_error(None, error.detail)
    context = page_context(request, project, None) | form_context(form, found)
    return render(request, "rmeval/playground.html", context, status=422)


def playground_changed(request: HttpRequest, project: Project, found: list[Candidate], change: str) -> HttpResponse:
    """The form as it was typed, with one response more or less; nothing is judged yet."""
    initial = changed_texts(request.POST, change) | {"checkpoints": request.POST.getlist("checkpoints")}
    form = PlaygroundForm(initial=initial, project=project, found=found)
    if change == "add":
        form.responses[-1].field.widget.attrs["autofocus"] = True
    if request.htmx:  # type: ignore[attr-defined]
        return render(request, "rmeval/playground.html#responses", {"form": form})
    context = page_context(request, project, None) | form_context(form, found)
    return render(request, "rmeval/playground.html", context)


def page_context(request: HttpRequest, project: Project, run: Run | None) -> dict[str, Any]:
    initial = initial_texts(request, project, run)
    found = candidates(project=project, extra=uids(initial.get("checkpoints", [])))
    fit = [str(one.checkpoint) for one in found if not one.why_not]
    initial["checkpoints"] = [uid for uid in initial.get("checkpoints", fit) if uid in fit]
    context = {
        "project": project,
        **form_context(PlaygroundForm(initial=initial, project=project, found=found), found),
        "may_act": role_in(request.user, project) in RESEARCHERS,
        "datasets": datasets_to_pick(project=project),
        "picked": initial.get("dataset", ""),
        "next_position": int(initial.get("position", 0)) + 1,
        "earlier": text_runs(project=project),
        "example": request.GET.get("example", ""),
    }
    return context | (scores_context(run) if run is not None else {})


def form_context(form: PlaygroundForm, found: list[Candidate]) -> dict[str, Any]:
    return {"form": form, "candidates": found, "unfit": [one for one in found if one.why_not]}


def initial_texts(request: HttpRequest, project: Project, run: Run | None) -> dict[str, Any]:
    if run is not None:
        return run_texts(run) | person_texts(run.spec.get("person"))
    texts: dict[str, Any] = {}
    if example := request.GET.get("example"):
        texts = example_texts(project=project, uid=example)
    if asked := request.GET.getlist("checkpoint"):
        texts["checkpoints"] = [str(uid) for uid in uids(asked)]
    return texts


def scores_context(run: Run) -> dict[str, Any]:
    notes = waiting_notes([run], now=timezone.now())
    return {"run": run, "scores": typed_scores(run), "waits_for": notes.get(run.pk, ""), "project": run.project}


def shown_run(request: HttpRequest, project: Project) -> Run | None:
    """The run that ?run= names; 404 when it is none of this project's playground."""
    asked = uids([request.GET.get("run", "")])
    if not request.GET.get("run"):
        return None
    run = access_run(request.user, asked[0]) if asked else None
    if run is None or run.project_id != project.pk or run.kind != KIND:
        raise NotFound("This project's playground has no such run.")
    return run


def pick(request: HttpRequest, project: Project) -> HttpResponse:
    """Go to an example of the dataset that ?dataset= names, at or behind ?position=."""
    asked = uids([request.GET["dataset"]])
    dataset = access_dataset(request.user, asked[0]) if asked else None
    if dataset is None or dataset.project_id != project.pk:
        raise NotFound("This project has no such dataset.")
    place = request.GET.get("position", "")
    example = next_example(dataset=dataset, position=int(place) if place.isdecimal() and len(place) < 10 else 1)
    if example is None:
        raise NotFound("This dataset has no examples.")
    kept = "".join(f"&checkpoint={uid}" for uid in uids(request.GET.getlist("checkpoint")))
    return redirect(f"{reverse('rmeval:playground', args=[project.uid])}?example={example.uid}{kept}")


def uids(values: list[Any]) -> list[UUID]:
    """Those that are uids."""
    found = []
    for value in values:
        try:
            found.append(UUID(str(value)))
        except ValueError:
            continue
    return found
