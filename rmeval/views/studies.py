"""Pages of studies: several trainings as one question."""

from typing import Any
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from annotator.access import RESEARCHERS, role_in
from annotator.errors import DomainError
from annotator.requests import user_of
from rmeval.access import access_reward_model, access_study
from rmeval.models import Run
from rmeval.selectors.runs import run_eta_s
from rmeval.selectors.waiting import waiting_notes
from rmeval.services.submission import run_submit
from rmeval.studies import KIND, QUESTIONS, study_outcome
from rmeval.study_charts import study_charts
from rmeval.study_forms import ROWS, StudyForm

MOST_ROWS = 50


@login_required
@require_GET
def study_detail(request: HttpRequest, uid: UUID) -> HttpResponse:
    run = access_study(request.user, uid)
    template = "rmeval/study_detail.html"
    context = study_context(run) | {"may_act": role_in(request.user, run.project) in RESEARCHERS}
    return render(request, f"{template}#study" if request.htmx else template, context)  # type: ignore[attr-defined]


def study_context(run: Run) -> dict[str, Any]:
    now = timezone.now()
    outcome = study_outcome(run)
    return {
        "run": run,
        "project": run.project,
        "asks": QUESTIONS.get(run.spec.get("question", ""), ""),
        "outcome": outcome,
        "charts": study_charts(outcome) if outcome else [],
        "eta_s": run_eta_s(run=run, now=now),
        "waits_for": waiting_notes([run], now=now).get(run.pk, ""),
    }


@login_required
@require_http_methods(["GET", "POST"])
def study_create_view(request: HttpRequest, uid: UUID) -> HttpResponse:
    """?question= says which form; ?rows= how many rows it has. A change is the form as it was typed, not yet judged."""
    reward_model = access_reward_model(request.user, uid, RESEARCHERS)
    question = request.GET.get("question", "compare")
    question = question if question in QUESTIONS else "compare"
    wanted = request.GET.get("rows", "")
    rows = min(MOST_ROWS, max(ROWS, int(wanted))) if wanted.isdecimal() and len(wanted) < 4 else ROWS
    is_change = "change" in request.POST
    given: dict[str, Any] = {"initial": request.POST.dict()} if is_change else {"data": request.POST or None}
    form = StudyForm(**given, reward_model=reward_model, question=question, rows=rows)
    if request.method == "POST" and not is_change and form.is_valid():
        try:
            run = run_submit(
                project=reward_model.project, kind=KIND, spec=form.spec(), user=user_of(request), now=timezone.now()
            )
            return redirect("rmeval:study-detail", run.uid)
        except DomainError as error:
            form.add_problems(error.errors) if error.errors else form.add_error(None, error.detail)
    context = {
        "reward_model": reward_model,
        "project": reward_model.project,
        "form": form,
        "question": question,
        "questions": QUESTIONS,
        "n_rows": rows,
        "more_rows": min(MOST_ROWS, rows + ROWS),
    }
    is_refused = request.method == "POST" and not is_change
    return render(request, "rmeval/study_form.html", context, status=422 if is_refused else 200)
