"""Actions on the page of a label audit, and the download of what a run made."""

from random import SystemRandom
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import FileResponse, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from annotator.access import RESEARCHERS
from annotator.errors import DomainError, NotFound
from annotator.requests import user_of
from rmeval.access import access_artifact, access_run
from rmeval.audit_forms import EditLabelsForm, QueueFromSuspectsForm, SecondVerdictsForm
from rmeval.edits import table_path
from rmeval.keyset import as_pk, with_query
from rmeval.models import Artifact, Run
from rmeval.selectors.audits import SuspectPage, chosen_pairs, edits_of_run, second_looks, suspect_page
from rmeval.services.edits import edits_from_snapshot, edits_make, edits_queue, edits_undo
from rmeval.sources import PairSource, source_of

SHOWN_EDITS = 50


def audit_context(request: HttpRequest, run: Run, *, may_act: bool) -> dict[str, Any]:
    """What the page of a finished audit shows besides its charts; empty for other runs."""
    if run.kind != "audit_labels" or run.state != Run.State.DONE:
        return {}
    try:
        source = source_of(run.project, run.spec["source"])
    except NotFound:
        return {}
    page = suspect_page(run=run, source=source, number=as_pk(request.GET.get("suspects")) or 1)
    edits = edits_of_run(run)
    n_standing = edits.filter(reverted_at=None).count()
    return {
        "audit": {
            "source": source,
            "page": page,
            "pager": suspect_pager(request, page),
            "table": Artifact.objects.filter(run=run, kind="table").order_by("-pk").first(),
            "edits": edits[:SHOWN_EDITS],
            "n_standing": n_standing,
            **(action_forms(source) if may_act else {}),
        }
    }


def suspect_pager(request: HttpRequest, page: SuspectPage) -> dict[str, str]:
    """Links to the pages beside this one; empty where there is none."""
    return {
        "previous_url": with_query(request, suspects=page.number - 1) + "#audit" if page.number > 1 else "",
        "next_url": with_query(request, suspects=page.number + 1) + "#audit" if page.number < page.n_pages else "",
    }


def action_forms(source: PairSource) -> dict[str, Any]:
    looks = snapshot_choices(source)
    return {
        "edit_form": EditLabelsForm(),
        "queue_form": QueueFromSuspectsForm(),
        "verdicts_form": SecondVerdictsForm(snapshots=looks) if looks else None,
    }


def snapshot_choices(source: PairSource) -> list[tuple[str, str]]:
    return [(str(s.uid), f"{s.queue.name}, snapshot {s.number}") for s in second_looks(source=source)]


def refused(request: HttpRequest, run: Run, form: forms.Form) -> HttpResponse:
    wrong = "; ".join(
        f"{'' if name == '__all__' else f'{name}: '}{' '.join(str(error) for error in errors)}"
        for name, errors in form.errors.items()
    )
    messages.error(request, f"Nothing was changed. {wrong}")
    return back(run)


def back(run: Run) -> HttpResponse:
    return redirect(f"{reverse('rmeval:run-detail', args=[run.uid])}#audit")


@login_required
@require_POST
def audit_edit_view(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Edit the labels of the chosen pairs."""
    run = access_run(request.user, uid, RESEARCHERS)
    form = EditLabelsForm(request.POST)
    if not form.is_valid():
        return refused(request, run, form)
    given = form.cleaned_data
    try:
        made = edits_make(
            run=run,
            kind=given["kind"],
            value=given["value"],
            reason=given["reason"],
            pairs=chosen_pairs(run=run, **form.choice()),
            user=user_of(request),
            now=timezone.now(),
        )
    except DomainError as error:
        messages.error(request, f"Nothing was changed. {error.detail}")
        return back(run)
    messages.success(request, made.in_words)
    return back(run)


@login_required
@require_POST
def audit_undo_view(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Take back the edits named in `edit`, or all of this audit that stand."""
    run = access_run(request.user, uid, RESEARCHERS)
    named = [found for text in request.POST.getlist("edit") if (found := as_uid(text))]
    if request.POST.getlist("edit") and not named:
        messages.error(request, "Nothing was changed: this is no edit.")
        return back(run)
    try:
        n = edits_undo(run=run, edits=named or None, user=user_of(request), now=timezone.now())
    except DomainError as error:
        messages.error(request, f"Nothing was changed. {error.detail}")
        return back(run)
    messages.success(request, f"{n} edits taken back." if n != 1 else "One edit taken back.")
    return back(run)


def as_uid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


@login_required
@require_POST
def audit_queue_view(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Send the chosen pairs to people, without their labels."""
    run = access_run(request.user, uid, RESEARCHERS)
    form = QueueFromSuspectsForm(request.POST)
    if not form.is_valid():
        return refused(request, run, form)
    try:
        queue = edits_queue(
            run=run,
            pairs=chosen_pairs(run=run, **form.choice()),
            name=form.cleaned_data["name"],
            overlap=form.cleaned_data["overlap"],
            user=user_of(request),
            now=timezone.now(),
            rng=SystemRandom(),
        )
    except DomainError as error:
        messages.error(request, f"No queue was made. {error.detail}")
        return back(run)
    messages.success(request, f"The pairs are in the new queue {queue.name}, without their labels.")
    return redirect("annotator:queue-detail", queue.uid)


@login_required
@require_POST
def audit_verdicts_view(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Take the verdicts of a snapshot as the labels of the pairs that it shares with the audit."""
    run = access_run(request.user, uid, RESEARCHERS)
    try:
        source = source_of(run.project, run.spec.get("source") or {})
        form = SecondVerdictsForm(request.POST, snapshots=snapshot_choices(source))
        if not form.is_valid():
            return refused(request, run, form)
        snapshot = second_looks_of(source, form.cleaned_data["snapshot"])
        made = edits_from_snapshot(run=run, snapshot=snapshot, user=user_of(request), now=timezone.now())
    except DomainError as error:
        messages.error(request, f"Nothing was changed. {error.detail}")
        return back(run)
    messages.success(request, made.in_words)
    return back(run)


def second_looks_of(source: PairSource, uid: str) -> Any:
    found = next((s for s in second_looks(source=source) if str(s.uid) == uid), None)
    if found is None:
        raise NotFound("There is no such snapshot of these texts.")
    return found


@login_required
@require_GET
def artifact_download_view(request: HttpRequest, uid: UUID) -> HttpResponseBase:
    """The file of a table that a run made."""
    artifact = access_artifact(request.user, uid)
    if artifact.kind != "table":
        raise NotFound("This is no file to download; checkpoints have a page of their own.")
    path = table_path(artifact)
    return FileResponse(path.open("rb"), as_attachment=True, filename=path.name, content_type="text/csv")
