"""Pages of runs."""

import hashlib
import json
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from annotator.access import READERS, RESEARCHERS, access_project, role_in
from annotator.errors import NotFound
from annotator.requests import user_of
from rmeval.access import access_run
from rmeval.audit_charts import audit_charts
from rmeval.evaluation_charts import evaluation_charts
from rmeval.group_charts import group_charts
from rmeval.keyset import keyset_page
from rmeval.models import Checkpoint, Run
from rmeval.repeats import compared_with_parent
from rmeval.run_charts import RunChart, run_charts
from rmeval.run_results import ENCODED, OF_A_STUDY, ResultGroup, result_groups
from rmeval.selectors.exports import newest_export
from rmeval.selectors.leaderboards import kept_rate
from rmeval.selectors.run_titles import run_titles
from rmeval.selectors.runs import run_eta_s, run_list, run_log, run_relatives
from rmeval.selectors.waiting import runs_ahead, waiting_notes
from rmeval.services.runs import run_cancel
from rmeval.services.submission import run_retry
from rmeval.sources import source_of
from rmeval.typed_scores import typed_scores
from rmeval.views.audits import audit_context
from rmeval.views.score_exports import run_scores
from workers.jobs import JOBS

PAGE = 50
PARTS = frozenset({"progress", "charts", "audit", "repeat"})
"""Live regions of a run's page."""


@login_required
@require_GET
def run_list_view(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Runs of a project, by state and kind."""
    project = access_project(request.user, uid, READERS)
    state, kind = request.GET.get("state", ""), request.GET.get("kind", "")
    page = keyset_page(run_list(project=project, state=state, kind=kind), request, size=PAGE)
    context = {
        "project": project,
        "page": page,
        "state": state,
        "kind": kind,
        "states": Run.State.choices,
        "kinds": JOBS.names(),
        "notes": waiting_notes(page.rows, now=timezone.now()),
        "titles": run_titles(page.rows),
        "query": request.GET.urlencode(),
    }
    template = "rmeval/run_list.html#rows" if request.htmx else "rmeval/run_list.html"  # type: ignore[attr-defined]
    return render(request, template, context)


@login_required
@require_GET
def run_detail(request: HttpRequest, uid: UUID) -> HttpResponse:
    """One run; `?part=` asks for one live region."""
    run = access_run(request.user, uid)
    part = request.GET.get("part", "") if request.htmx else ""  # type: ignore[attr-defined]
    part = part if part in PARTS else ""
    may_act = role_in(request.user, run.project) in RESEARCHERS
    context: dict[str, Any] = {"run": run, "may_act": may_act, "part": part}
    if part in {"", "progress", "repeat"}:
        context |= repeat_context(run)
    if part == "repeat" and request.GET.get("shown") == context["stamp"]:
        return HttpResponse(status=204)  # htmx leaves what stands there: nothing is swapped under the reader's hands
    if part in {"", "progress", "audit"}:
        context |= progress_context(run, now=timezone.now())
    if part in {"", "audit"}:
        context |= audit_context(request, run, may_act=may_act)
    if part in {"", "charts"}:
        context |= {"charts": [*own_charts(run), *run_charts(run)], "log": run_log(run=run)[::-1]}
    return render(request, f"rmeval/run_detail.html#{part}" if part else "rmeval/run_detail.html", context)


def progress_context(run: Run, *, now: datetime) -> dict[str, Any]:
    ahead = runs_ahead(run)
    titles = run_titles([run, *ahead])
    return {
        "title": titles[run.pk],
        "ahead": [(one, titles[one.pk]) for one in ahead],
        "eta_s": run_eta_s(run=run, now=now),
        "result": shown_result(run),
        "notes": notes_of(run),
        "interval_rate": kept_rate((run.result or {}).get("accuracy")),
        "waits_for": waiting_notes([run], now=now).get(run.pk, ""),
        "elapsed_s": ((run.ended_at or now) - run.started_at).total_seconds() if run.started_at else None,
        "scores": typed_scores(run),
        "given": run_scores(run),
        "export": run_export(run),
        **run_relatives(run=run),
    }


def repeat_context(run: Run) -> dict[str, Any]:
    """What is needed to repeat a run, with a stamp that changes when any of it does."""
    result, parent = run.result or {}, run.parent
    repeated = compared_with_parent(run)
    encoded = next((result[name] for name in ENCODED if name in result), "")
    told = [run.state, run.environment, encoded, result.get("prompts_sha256"), [one.words for one in repeated]]
    told += [parent.state] if parent else []
    stamp = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
    return {"repeated": repeated, "encoded_sha256": encoded, "stamp": stamp}


def shown_result(run: Run) -> list[ResultGroup]:
    """The figures of a run; a study has a page of its own for most of its."""
    hidden = {"notes"} | (OF_A_STUDY if run.kind == "train_study" else frozenset())
    return result_groups({name: value for name, value in (run.result or {}).items() if name not in hidden})


def notes_of(run: Run) -> list[str]:
    """Sentences that a job leaves with its result: paragraphs, not figures."""
    notes = (run.result or {}).get("notes") or []
    return [str(note) for note in notes] if isinstance(notes, list) else [str(notes)]


def run_export(run: Run) -> dict[str, Any] | None:
    """Of an export that is done: the checkpoint, and its newest folder, which is what can be downloaded."""
    if run.kind != "export_checkpoint" or run.state != Run.State.DONE:
        return None
    live = Checkpoint.objects.filter(reward_model__project=run.project_id, reward_model__deleted_at=None)
    checkpoint = live.select_related("reward_model").filter(uid=run.spec["checkpoint"]).first()
    folder = newest_export(checkpoint) if checkpoint else None
    return {"checkpoint": checkpoint, "folder": folder} if folder else None


def own_charts(run: Run) -> list[RunChart]:
    """Of an audit, a training or an evaluation that ended well, while what it was about is still there."""
    if run.kind == "audit_labels":
        return audit_charts(run.result or {})
    if run.kind == "train_rm":
        return group_charts(run.result or {})
    if run.kind != "evaluate" or not run.result:
        return []
    checkpoints = Checkpoint.objects.filter(reward_model__project=run.project_id).select_related("reward_model")
    checkpoint = checkpoints.filter(uid=run.spec["checkpoint"]).first()
    try:
        source = source_of(run.project, run.spec["source"])
    except NotFound:
        return []
    return evaluation_charts(metrics=run.result, source=source, checkpoint=checkpoint) if checkpoint else []


@login_required
@require_POST
def run_cancel_view(request: HttpRequest, uid: UUID) -> HttpResponse:
    run = access_run(request.user, uid, RESEARCHERS)
    run_cancel(run=run, now=timezone.now(), stale=settings.RUN_HEARTBEAT_STALE)
    return redirect("rmeval:run-detail", run.uid)


@login_required
@require_POST
def run_retry_view(request: HttpRequest, uid: UUID) -> HttpResponse:
    run = access_run(request.user, uid, RESEARCHERS)
    again = run_retry(run=run, user=user_of(request), now=timezone.now())
    messages.success(request, "A new run with the same settings was started.")
    return redirect("rmeval:run-detail", again.uid)
