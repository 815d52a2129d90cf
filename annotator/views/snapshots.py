"""Pages of snapshots: the lists, cutting one, reading one, its card."""

from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from annotator.access import READERS, RESEARCHERS, access_project, access_queue, access_snapshot, role_in
from annotator.errors import DomainError
from annotator.forms.snapshots import SnapshotForm
from annotator.models import Queue, Snapshot
from annotator.requests import user_of
from annotator.selectors.snapshots import format_counts, project_snapshots, snapshot_page
from annotator.services.exports import snapshot_card
from annotator.services.snapshots import is_small, snapshot_create, snapshot_cut
from annotator.tasks import enqueue_snapshot

SHOWN = 200
ROWS = 20


@login_required
@require_GET
def snapshot_list(request: HttpRequest, uid: UUID) -> HttpResponse:
    project = access_project(request.user, uid, READERS)
    context = {
        "project": project,
        "snapshots": project_snapshots(project=project)[:SHOWN],
        "queues": Queue.objects.filter(project=project, deleted_at=None).order_by("-pk")[:SHOWN],
        "can_cut": role_in(request.user, project) in RESEARCHERS,
    }
    template = "annotator/snapshot_list.html"
    return render(request, f"{template}#list" if request.htmx else template, context)  # type: ignore[attr-defined]


@login_required
@require_http_methods(["GET", "POST"])
def snapshot_create_view(request: HttpRequest, uid: UUID) -> HttpResponse:
    queue = access_queue(request.user, uid, RESEARCHERS)
    form = SnapshotForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        values = {"filter": form.filter(), "aggregation": form.cleaned_data["aggregation"]}
        try:
            return redirect("annotator:snapshot-detail", cut(request, queue, **values).uid)
        except DomainError as error:
            form.add_error(None, error.detail)
    status = 422 if form.is_bound else 200
    return render(request, "annotator/snapshot_form.html", {"queue": queue, "form": form}, status=status)


def cut(request: HttpRequest, queue: Queue, *, filter: object, aggregation: str) -> Snapshot:
    """Now for a small queue, else in the background with a page that waits."""
    who_and_when = {"created_by": user_of(request), "now": timezone.now()}
    if is_small(queue):
        return snapshot_cut(queue=queue, filter=filter, aggregation=aggregation, **who_and_when)  # type: ignore[arg-type]
    snapshot, _ = snapshot_create(queue=queue, filter=filter, aggregation=aggregation, **who_and_when)  # type: ignore[arg-type]
    enqueue_snapshot(snapshot)
    return snapshot


@login_required
@require_GET
def snapshot_detail(request: HttpRequest, uid: UUID) -> HttpResponse:
    snapshot = access_snapshot(request.user, uid)
    after = request.GET.get("after", "")
    is_place = after.isascii() and after.isdigit() and len(after) < 10
    rows = snapshot_page(snapshot=snapshot, after=int(after) if is_place else -1, limit=ROWS)
    context = {
        "snapshot": snapshot,
        "queue": snapshot.queue,
        "project": snapshot.queue.project,
        "rows": rows,
        "next_after": rows[-1].position if len(rows) == ROWS and rows[-1].position + 1 < snapshot.n_rows else None,
        "formats": format_counts(snapshot=snapshot) if snapshot.state == Snapshot.State.READY else [],
    }
    template = "annotator/snapshot_detail.html"
    return render(request, f"{template}#body" if request.htmx else template, context)  # type: ignore[attr-defined]


@login_required
@require_GET
def snapshot_card_view(request: HttpRequest, uid: UUID) -> HttpResponse:
    """The dataset card as a page; the API gives the same text as a file."""
    snapshot = access_snapshot(request.user, uid)
    label, file = request.GET.get("format", "trl-preference"), request.GET.get("file", "jsonl")
    context = {
        "snapshot": snapshot,
        "project": snapshot.queue.project,
        "card": snapshot_card(snapshot=snapshot, label=label, file=file),
        "format": label,
        "file": file,
    }
    return render(request, "annotator/snapshot_card.html", context)
