"""Pages of runs."""

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
from rmeval.selectors.leaderboards import kept_rate
from rmeval.selectors.runs import run_eta_s, run_list, run_log, run_relatives
from rmeval.selectors.waiting import waiting_notes
from rmeval.services.runs import run_cancel
from rmeval.services.submission import run_retry
from rmeval.sources import source_of
from rmeval.typed_scores import typed_scores
from rmeval.views.audits import audit_context
from rmeval.views.score_exports import run_scores
from workers.jobs import JOBS

PAGE = 50


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
        "query": request.GET.urlencode(),
    }
    template = "rmeval/run_list.html#rows" if request.htmx else "rmeval/run_list.html"  # type: ignore[attr-defined]
    return render(request, template, context)


@login_required
@require_GET
def run_detail(request: HttpRequest, uid: UUID) -> HttpResponse:
    """One run; `?part=` asks for one live region."""
    run = access_run(request.user, uid)
    now = timezone.now()
    part = request.GET.get("part", "") if request.htmx else ""  # type: ignore[attr-defined]
    context = {"run": run, "may_act": role_in(request.user, run.project) in RESEARCHERS}
    if part != "charts":
        context |= {
            "eta_s": run_eta_s(run=run, now=now),
            "result": shown_result(run),
            "encoded_sha256": next(((run.result or {})[name] for name in ENCODED if name in (run.result or {})), ""),
            "interval_rate": kept_rate((run.result or {}).get("accuracy")),
            "waits_for": waiting_notes([run], now=now).get(run.pk, ""),
            "elapsed_s": ((run.ended_at or now) - run.started_at).total_seconds() if run.started_at else None,
            "scores": typed_scores(run),
            "given": run_scores(run),
            **run_relatives(run=run),
        }
    if not part:
        context["repeated"] = compared_with_parent(run)
    if part in {"", "audit"}:
        context |= audit_context(request, run, may_act=bool(context["may_act"]))
    if part in {"", "charts"}:
        context |= {"charts": [*own_charts(run), *run_charts(run)], "log": run_log(run=run)[::-1]}
    template = f"rmeval/run_detail.html#{part}" if part in {"progress", "charts", "audit"} else "rmeval/run_detail.html"
    return render(request, template, context)


def shown_result(run: Run) -> list[ResultGroup]:
    """The figures of a run; a study has a page of its own for most of its."""
    hidden = OF_A_STUDY if run.kind == "train_study" else frozenset()
    return result_groups({name: value for name, value in (run.result or {}).items() if name not in hidden})


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
