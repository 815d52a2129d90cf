"""What a checkpoint has scored, with links to the scores."""

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET

from rmeval.access import access_checkpoint
from rmeval.selectors.given_scores import Given, given_scores


@login_required
@require_GET
def scores_given_view(request: HttpRequest, uid: UUID) -> HttpResponse:
    """A part of the checkpoint's page of its own: counting millions of scores takes a second or two."""
    checkpoint = access_checkpoint(request.user, uid)
    api = reverse("rmeval-api:checkpoint-scores", args=[checkpoint.uid])
    given = given_scores(checkpoint=checkpoint)
    context = {
        "checkpoint": checkpoint,
        "api": api,
        "given": [row(one, api) for one in given],
        "has_people": any(one.extra for one in given),
    }
    return render(request, "rmeval/given_scores.html", context)


def row(one: Given, api: str) -> dict[str, Any]:
    query = {"dataset": str(one.dataset.uid)} | ({"extra": one.extra} if one.extra else {})
    return {**vars(one), "address": f"{api}?{urlencode(query)}"}
