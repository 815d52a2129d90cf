"""Download a checkpoint whole, or start the run that makes a folder for transformers of it."""

from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.text import slugify
from django.views.decorators.http import require_http_methods

from annotator.access import RESEARCHERS
from annotator.errors import FieldError, InvalidInput
from annotator.requests import user_of
from annotator.streaming import streaming_response
from rmeval.access import access_checkpoint
from rmeval.archives import tar_chunks
from rmeval.models import Checkpoint
from rmeval.selectors.exports import export_members, plain_members
from rmeval.services.submission import run_submit

KIND = "export_checkpoint"


@login_required
@require_http_methods(["GET", "POST"])
def checkpoint_export_view(request: HttpRequest, uid: UUID) -> HttpResponseBase:
    """GET streams a tar: ?form=plain the checkpoint's own files, else the newest export. POST starts an export."""
    if request.method == "POST":
        checkpoint = access_checkpoint(request.user, uid, RESEARCHERS)
        project = checkpoint.reward_model.project
        spec = {"checkpoint": str(checkpoint.uid)}
        run = run_submit(project=project, kind=KIND, spec=spec, user=user_of(request), now=timezone.now())
        return redirect("rmeval:run-detail", run.uid)
    return export_response(request, access_checkpoint(request.user, uid))


def export_response(request: HttpRequest, checkpoint: Checkpoint) -> HttpResponseBase:
    form = request.GET.get("form", "transformers")
    if form not in ("transformers", "plain"):
        detail = "form is transformers or plain."
        raise InvalidInput(detail, errors=[FieldError("/form", "unknown_form", detail)])
    is_plain = form == "plain"
    members = plain_members(checkpoint) if is_plain else export_members(checkpoint)
    name = (
        f"{slugify(checkpoint.reward_model.name) or 'reward-model'}-{checkpoint.number}{'-plain' if is_plain else ''}"
    )
    chunks = tar_chunks(name, members)
    return streaming_response(request, chunks, content_type="application/x-tar", filename=f"{name}.tar")
