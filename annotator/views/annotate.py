"""The annotate page: one item at a time, server-rendered; its script talks to the REST API."""

import json
import random
import uuid
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from annotator.access import LABELLERS, access_assignment, access_queue, rater_of
from annotator.errors import DomainError
from annotator.models import Assignment, Queue, Rater, User
from annotator.requests import user_of
from annotator.selectors.queues import queue_progress
from annotator.selectors.tasks import Task, assignment_task, question_scale
from annotator.services.assignments import SKIP_REASONS, assignment_claim
from annotator.services.judgements import judgement_submit, last_submitted
from annotator.services.preferences import keys_save
from annotator.shortcuts import shortcuts_of
from annotator.validation import invalid

#: What js/annotate.js imports, directly or not; the page asks for them together.
MODULES = tuple(
    f"js/{name}.js"
    for name in ("answer", "bar", "dialogs", "diff", "drafts", "flow", "outbox", "panes", "shortcuts", "tabs", "timer")
)


@login_required
@never_cache
@require_http_methods(["GET", "POST"])
def annotate(request: HttpRequest, uid: UUID) -> HttpResponse:
    """The item this person holds, or their next one. A script swaps in the card alone for the following items."""
    user = user_of(request)
    queue = access_queue(user, uid, LABELLERS)
    if request.method == "POST":
        return submit_without_script(request, user, queue)
    rater = rater_of(user)
    context = {"queue": queue, **card_context(queue, rater)}
    if request.htmx:  # type: ignore[attr-defined]
        return render(request, "annotator/annotate.html#card", context)
    return render(request, "annotator/annotate.html", {**context, **page_context(user, queue)})


def card_context(queue: Queue, rater: Rater) -> dict[str, Any]:
    """What the card shows: an item, or why there is none."""
    now = timezone.now()
    try:
        assignment = assignment_claim(queue=queue, rater=rater, now=now, rng=random.SystemRandom())
    except DomainError as closed:
        return {"closed": closed, "progress": queue_progress(queue=queue), "undo": undo_of(queue, rater)}
    if assignment is None:
        return {"progress": queue_progress(queue=queue), "undo": undo_of(queue, rater)}
    return {"assignment": assignment, **task_context(assignment_task(assignment)), "undo": undo_of(queue, rater)}


def task_context(task: Task) -> dict[str, Any]:
    question = task.questions[0]
    return {
        "task": task,
        "question": question,
        "scale": question_scale(question),
        "idempotency_key": uuid.uuid4().hex,
        "earlier": task.prompt[:-1],
        "last_turn": task.prompt[-1:],
        "client": json.dumps(
            {
                "assignment": str(task.uid),
                "form_version": task.form_version,
                "question": question,
                "scale": question_scale(question),
                "draft": task.draft.get(question["name"]) or {},
                "draft_version": task.draft_version,
                "lease_until": task.lease_until.isoformat() if task.lease_until else None,
                "number": task.number,
                "is_reopened": task.is_reopened,
            }
        ),
    }


def undo_of(queue: Queue, rater: Rater) -> Assignment | None:
    """The last answer, while it can still be reopened."""
    last = last_submitted(queue_id=queue.pk, rater_id=rater.pk)
    is_open = last is not None and last.ended_at and timezone.now() - last.ended_at < settings.UNDO_WINDOW
    return last if is_open else None


def page_context(user: User, queue: Queue) -> dict[str, Any]:
    guidelines = queue.guidelines_versions.order_by("-number").first()
    return {
        "guidelines": guidelines,
        "modules": MODULES,
        "skip_reasons": SKIP_REASONS,
        "shortcuts": shortcuts_of(user.preferences),
        "shortcuts_json": json.dumps(shortcuts_of(user.preferences)),
    }


def submit_without_script(request: HttpRequest, user: User, queue: Queue) -> HttpResponse:
    """The plain form, for a browser in which no script runs: same service, then the next item by a full load."""
    try:
        assignment_uid = UUID(request.POST.get("assignment", ""))
    except ValueError as error:
        raise invalid("/assignment", "invalid", "The form is incomplete; load the page again.") from error
    assignment = access_assignment(user, assignment_uid)
    choice, _, strength = request.POST.get("choice", "").partition(":")
    question = assignment.form_version.questions[0]["name"]
    try:
        judgement_submit(
            assignment=assignment,
            answers={
                question: {
                    "choice": choice,
                    "strength": int(strength) if strength in {"1", "2", "3"} else None,
                    "reasons": request.POST.getlist("reasons"),
                    "justification": request.POST.get("justification", ""),
                }
            },
            active_seconds=0,
            idempotency_key=request.POST.get("idempotency_key", ""),
            now=timezone.now(),
        )
    except DomainError as error:
        messages.error(request, error.detail)
    return redirect("annotator:queue-annotate", queue.uid)


@login_required
@require_POST
def shortcut_save(request: HttpRequest) -> HttpResponse:
    """Keep a person's own keys; answers with the whole list as it is now."""
    try:
        keys = json.loads(request.body)
    except (ValueError, RecursionError) as error:
        raise invalid("/keys", "type", "Send JSON.") from error
    user = user_of(request)
    try:
        keys_save(user=user, keys=keys)
    except DomainError as error:
        return JsonResponse({"detail": error.detail}, status=error.status)
    return JsonResponse({"shortcuts": shortcuts_of(user.preferences)})
