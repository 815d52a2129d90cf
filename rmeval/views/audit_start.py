"""The page that starts a label audit."""

from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from annotator.access import RESEARCHERS, access_project
from annotator.errors import DomainError
from annotator.requests import user_of
from rmeval.audit_start_form import KIND, audit_start_form
from rmeval.services.submission import run_submit


@login_required
@require_http_methods(["GET", "POST"])
def audit_create_view(request: HttpRequest, uid: UUID) -> HttpResponse:
    """?source=dataset:<uid> or snapshot:<uid> and ?reward_model=<uid> are chosen to begin with."""
    project = access_project(request.user, uid, RESEARCHERS)
    begin = {name: request.GET.get(name, "") for name in ("source", "reward_model")}
    form = audit_start_form(project, request.POST if request.method == "POST" else None, **begin)
    if request.method == "POST" and form.is_valid():
        try:
            run = run_submit(project=project, kind=KIND, spec=form.spec(), user=user_of(request), now=timezone.now())
            return redirect("rmeval:run-detail", run.uid)
        except DomainError as error:
            form.add_problems(error.errors, below="/spec") if error.errors else form.add_error(None, error.detail)
    status = 422 if request.method == "POST" else 200
    return render(request, "rmeval/audit_form.html", {"project": project, "form": form}, status=status)
