"""What a checkpoint has scored, with links to the scores."""

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET

from annotator.errors import NotFound
from annotator.models import Dataset
from rmeval.access import access_checkpoint
from rmeval.models import Checkpoint, Run
from rmeval.selectors.given_scores import given_scores, has_scores
from rmeval.sources import source_of

GIVING = frozenset({"score", "evaluate"})
"""Kinds of runs that store scores of one checkpoint."""


@login_required
@require_GET
def scores_given_view(request: HttpRequest, uid: UUID) -> HttpResponse:
    """A part of the checkpoint's page of its own: counting millions of scores takes a second or two."""
    checkpoint = access_checkpoint(request.user, uid)
    api = api_address(checkpoint)
    given = given_scores(checkpoint=checkpoint)
    context = {
        "checkpoint": checkpoint,
        "api": api,
        "given": [{**vars(one), "address": scores_address(checkpoint, one.dataset, one.extra)} for one in given],
        "has_people": any(one.extra for one in given),
    }
    return render(request, "rmeval/given_scores.html", context)


def run_scores(run: Run) -> dict[str, Any] | None:
    """Where the scores can be downloaded that a finished run gave, or found given before; None while there are none.

    Of a snapshot: those of its dataset, which hold them.
    """
    if run.kind not in GIVING or run.state != Run.State.DONE:
        return None
    live = Checkpoint.objects.filter(reward_model__project=run.project_id, reward_model__deleted_at=None)
    checkpoint = live.select_related("reward_model").filter(uid=run.spec["checkpoint"]).first()
    try:
        source = source_of(run.project, {**run.spec["source"], "strengths": None})
    except NotFound:
        return None
    dataset = source.dataset or source.snapshot_row.queue.dataset
    extra = ((run.result or {}).get("person") or {}).get("extra") or ""
    if checkpoint is None or not has_scores(checkpoint=checkpoint, dataset=dataset, extra=extra):
        return None
    address = scores_address(checkpoint, dataset, extra)
    return {"checkpoint": checkpoint, "dataset": dataset, "address": address, "is_person": bool(extra)}


def scores_address(checkpoint: Checkpoint, dataset: Dataset, extra: str) -> str:
    query = {"dataset": str(dataset.uid)} | ({"extra": extra} if extra else {})
    return f"{api_address(checkpoint)}?{urlencode(query)}"


def api_address(checkpoint: Checkpoint) -> str:
    return reverse("rmeval-api:checkpoint-scores", args=[checkpoint.uid])
