"""The page that imports a public reward model."""

from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from annotator.access import RESEARCHERS, access_project
from annotator.errors import DomainError
from annotator.requests import user_of
from rmeval.services.submission import run_submit
from rmeval.spec_forms import spec_form
from workers.jobs import JOBS

KIND = "import_rm"
PLAIN = frozenset({"model", "name", "family"})


@login_required
@require_http_methods(["GET", "POST"])
def import_view(request: HttpRequest, uid: UUID) -> HttpResponse:
    project = access_project(request.user, uid, RESEARCHERS)
    form = spec_form(JOBS.get(KIND).Spec, plain=PLAIN)(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            run = run_submit(project=project, kind=KIND, spec=form.values(), user=user_of(request), now=timezone.now())
            return redirect("rmeval:run-detail", run.uid)
        except DomainError as error:
            form.add_problems(error.errors, below="/spec")
    status = 422 if request.method == "POST" else 200
    return render(request, "rmeval/import_form.html", {"project": project, "form": form}, status=status)
