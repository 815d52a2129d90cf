"""The page that imports scores from a file into a checkpoint, and the responses that such a file is about."""

from pathlib import PurePath
from typing import Any
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET, require_http_methods

from annotator.access import RESEARCHERS, access_dataset
from annotator.errors import DomainError, NotFound
from annotator.streaming import streaming_response
from annotator.tasks import import_limits
from rmeval.access import access_checkpoint
from rmeval.models import Checkpoint
from rmeval.score_import_form import ScoreImportForm
from rmeval.selectors.score_files import responses_to_score, scored_by_dataset
from rmeval.services.score_imports import ScoreImport, require_score_file, scores_import

SHOWN_ERRORS = 100


@login_required
@require_http_methods(["GET", "POST"])
def scores_import_view(request: HttpRequest, uid: UUID) -> HttpResponse:
    """The form, and after it what came of the file: counts, and the first of the rows refused."""
    checkpoint = access_checkpoint(request.user, uid, RESEARCHERS)
    require_score_file(checkpoint)
    project = checkpoint.reward_model.project
    form = ScoreImportForm(request.POST or None, request.FILES or None, project=project)
    told: dict[str, Any] | None = None
    if request.method == "POST" and form.is_valid():
        file = form.cleaned_data["file"]
        name = PurePath(file.name or "").name
        try:
            made = scores_import(
                checkpoint=checkpoint, stream=file.file, name=name, limits=import_limits(), dataset=form.chosen()
            )
            told = told_of(made, name)
        except DomainError as error:
            form.add_error("file", error.detail)
            told = {**error.extra, "name": name} if error.extra.get("rows") else None
    return render(
        request,
        "rmeval/score_import.html",
        page_context(checkpoint, form) | {"told": told, "shown_errors": SHOWN_ERRORS},
        status=422 if form.errors else 200,
    )


def told_of(made: ScoreImport, name: str) -> dict[str, Any]:
    counts = {key: getattr(made, key) for key in ("n_rows", "n_scored", "n_known", "n_errors")}
    return {**counts, "rows": made.errors[:SHOWN_ERRORS], "name": name}


def page_context(checkpoint: Checkpoint, form: ScoreImportForm) -> dict[str, Any]:
    return {
        "checkpoint": checkpoint,
        "reward_model": checkpoint.reward_model,
        "project": checkpoint.reward_model.project,
        "form": form,
        "covered": scored_by_dataset(checkpoint=checkpoint, datasets=form.datasets),
    }


@login_required
@require_GET
def responses_to_score_view(request: HttpRequest, uid: UUID, dataset_uid: UUID) -> StreamingHttpResponse:
    """The responses of a dataset that have no score yet, as JSON Lines."""
    checkpoint = access_checkpoint(request.user, uid)
    dataset = access_dataset(request.user, dataset_uid)
    if dataset.project_id != checkpoint.reward_model.project_id:
        raise NotFound("The project of this checkpoint has no such dataset.")
    return streaming_response(
        request,
        responses_to_score(checkpoint=checkpoint, dataset=dataset),
        content_type="application/x-ndjson",
        filename=f"responses-{dataset.uid}.jsonl",
    )
