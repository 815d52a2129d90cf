"""Queues for those who run them: list, new, progress, versions, items, review."""

import random
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotator.access import ANYONE, LABELLERS, LEADS, READERS, access_flag, access_project, access_queue, role_in
from annotator.errors import InvalidInput
from annotator.forms.queues import ItemFilterForm, QuestionForm, QueueForm, add_errors, sentence
from annotator.models import Item, Queue
from annotator.requests import user_of
from annotator.selectors import queues as selectors
from annotator.selectors.items import items_page
from annotator.selectors.tasks import question_scale
from annotator.services.answer_checks import form_check, questions_dump
from annotator.services.assignments import flag_resolve
from annotator.services.queues import (
    queue_create,
    queue_form_edit,
    queue_guidelines_edit,
    queue_overlap_set,
    queue_state_set,
)
from annotator.shortcuts import shortcuts_of
from annotator.tasks import queue_enqueue_build
from annotator.validation import invalid

ITEMS_PAGE = 50
REVIEW_PAGE = 10
VERDICTS = (
    ("", "any"),
    ("a", "A better"),
    ("b", "B better"),
    ("tie", "tie"),
    ("both_bad", "both bad"),
    ("none", "cannot judge"),
)


@login_required
@require_GET
def queue_list(request: HttpRequest, uid: UUID) -> HttpResponse:
    user = user_of(request)
    project = access_project(user, uid, ANYONE)
    role = role_in(user, project)
    context = {
        "project": project,
        "queues": selectors.project_queues(project=project)[:200],
        "is_lead": role in LEADS,
        "is_reader": role in READERS,
        "is_labeller": role in LABELLERS,
    }
    return render(request, "annotator/queue_list.html", context)


@login_required
@require_http_methods(["GET", "POST"])
def queue_new(request: HttpRequest, uid: UUID) -> HttpResponse:
    user = user_of(request)
    project = access_project(user, uid, LEADS)
    if request.GET.get("preview"):
        return render(request, "annotator/queue_form.html#preview", preview_context(QueueForm(project, request.GET)))
    form = QueueForm(project, request.POST or None, initial={"dataset": request.GET.get("dataset")})
    if not form.has_datasets:
        return render(request, "annotator/queue_form.html", {"project": project, "needs_dataset": True})
    if request.method == "POST" and form.is_valid():
        try:
            queue = queue_create(
                project=project, created_by=user, now=timezone.now(), rng=random.SystemRandom(), **form.settings()
            )
        except InvalidInput as error:
            add_errors(form, error)
        else:
            queue_enqueue_build(queue)
            return redirect("annotator:queue-detail", queue.uid)
    context = {"project": project, "form": form, **preview_context(form if form.is_bound else None)}
    return render(request, "annotator/queue_form.html", context, status=422 if form.is_bound else 200)


def preview_context(form: QueueForm | None) -> dict[str, Any]:
    """The decision bar as raters will see it, or what is wrong with the question."""
    try:
        if form is not None:
            form.is_valid()
            if any(name in form.errors for name in QuestionForm.base_fields):
                return {"preview_problem": "Complete the question to see it."}
        question = questions_dump(
            form_check([form.question() if form else {"type": "pairwise", "allow_both_bad": True}])
        )[0]
    except InvalidInput as error:
        return {"preview_problem": "; ".join(sentence(problem.detail) for problem in error.errors) or error.detail}
    keys = {row["action"]: row["key"] for row in shortcuts_of({})}
    return {"question": question, "scale": question_scale(question), "keys": keys}


@login_required
@require_GET
def queue_detail(request: HttpRequest, uid: UUID) -> HttpResponse:
    user = user_of(request)
    queue = access_queue(user, uid, READERS)
    role = role_in(user, queue.project)
    context = {
        "queue": queue,
        "project": queue.project,
        "is_lead": role in LEADS,
        "is_labeller": role in LABELLERS,
        "show_names": role in LEADS and request.GET.get("names") == "1",
        "progress": selectors.queue_progress(queue=queue),
        "item_counts": selectors.queue_item_counts(queue=queue),
        "people": selectors.queue_people(queue=queue),
        "flags": selectors.queue_flags(queue=queue),
        "skip_reasons": selectors.queue_skip_reasons(queue=queue),
        "balance": selectors.queue_order_balance(queue=queue),
    }
    if request.htmx:  # type: ignore[attr-defined]
        return render(request, "annotator/queue_detail.html#live", context)
    form = queue.form_versions.latest("number")
    question = form.questions[0]
    context |= {"form_version": form, "question": question, "guidelines": newest_guidelines(queue)}
    return render(request, "annotator/queue_detail.html", context)


def newest_guidelines(queue: Queue) -> Any:
    return queue.guidelines_versions.order_by("-number").first()


@login_required
@require_GET
def queue_item_list(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Items in stored order: '2 of 3 done, 1 in progress'. Filters and page live in the query string."""
    queue = access_queue(user_of(request), uid, READERS)
    form = ItemFilterForm(request.GET)
    filters = form.filters()
    after, before = whole_number(request, "after"), whole_number(request, "before")
    found = items_page(queue=queue, filters=filters, after=after, before=before, size=ITEMS_PAGE)
    page = selectors.KeysetPage(
        rows=found.rows,
        next_url=with_query(request, after=found.next_after) if found.next_after else None,
        previous_url=with_query(request, before=found.previous_before) if found.previous_before else None,
    )
    context = {
        "queue": queue,
        "project": queue.project,
        "form": form,
        "filters": filters,
        "page": page,
        "is_off_the_end": bool(after or before) and not found.rows,
        "has_gold": filters.is_gold or has_gold(queue),
        "is_indexing": bool(filters.search) and queue.dataset.n_indexed < queue.dataset.n_examples,
        "is_lead": role_in(user_of(request), queue.project) in LEADS,
    }
    return render(request, "annotator/queue_items.html", context)


def has_gold(queue: Queue) -> bool:
    """Whether to offer the filter; in a queue too large to look through it is offered unseen."""
    return queue.n_slots > selectors.COUNTED_SLOTS or Item.objects.filter(queue=queue, is_gold=True).exists()


def with_query(request: HttpRequest, **page: int) -> str:
    """This address with its filters, at another page."""
    query = request.GET.copy()
    for name in ("after", "before"):
        query.pop(name, None)
    query.update({name: str(key) for name, key in page.items()})
    return f"?{query.urlencode()}"


@login_required
@require_GET
def queue_review(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Judged items side by side with their verdicts; raters go by pseudonyms unless a lead asks for names."""
    user = user_of(request)
    queue = access_queue(user, uid, READERS)
    verdict = request.GET.get("verdict", "")
    if verdict not in dict(VERDICTS):
        raise invalid("/verdict", "invalid_choice", "Verdicts are a, b, tie, both_bad and none.")
    disagreement = request.GET.get("disagreement") == "1"
    items = selectors.review_items(
        queue=queue,
        verdict=verdict,
        disagreement=disagreement,
        before=whole_number(request, "before"),
        size=REVIEW_PAGE,
    )
    query = request.GET.copy()
    if items:
        query["before"] = str(items[-1].pk)
    page = selectors.KeysetPage(
        rows=items, next_url=f"?{query.urlencode()}" if len(items) == REVIEW_PAGE else None, previous_url=None
    )
    is_lead = role_in(user, queue.project) in LEADS
    context = {
        "queue": queue,
        "project": queue.project,
        "page": page,
        "verdict": verdict,
        "disagreement": disagreement,
        "is_lead": is_lead,
        "show_names": is_lead and request.GET.get("names") == "1",
        "pseudonyms": selectors.pseudonyms(queue=queue),
        "verdicts": VERDICTS,
    }
    return render(request, "annotator/queue_review.html", context)


@login_required
@require_GET
def queue_versions(request: HttpRequest, uid: UUID) -> HttpResponse:
    queue = access_queue(user_of(request), uid, LEADS)
    return render(request, "annotator/queue_versions.html", versions_context(queue))


def versions_context(queue: Queue, form: QuestionForm | None = None) -> dict[str, Any]:
    newest = queue.form_versions.latest("number")
    return {
        "queue": queue,
        "project": queue.project,
        "form": form or QuestionForm(initial=QuestionForm.initial_of(newest.questions[0])),
        "form_versions": queue.form_versions.select_related("created_by").order_by("-number"),
        "guidelines_versions": queue.guidelines_versions.select_related("created_by").order_by("-number"),
        "guidelines": newest_guidelines(queue),
    }


@login_required
@require_POST
def queue_guidelines_save(request: HttpRequest, uid: UUID) -> HttpResponse:
    user = user_of(request)
    queue = access_queue(user, uid, LEADS)
    markdown = request.POST.get("markdown", "").replace("\r\n", "\n")
    version = queue_guidelines_edit(queue=queue, markdown=markdown, actor=user)
    messages.success(request, f"Guidelines are at version {version.number}.")
    return redirect("annotator:queue-versions", queue.uid)


@login_required
@require_POST
def queue_form_save(request: HttpRequest, uid: UUID) -> HttpResponse:
    user = user_of(request)
    queue = access_queue(user, uid, LEADS)
    form = QuestionForm(request.POST)
    if form.is_valid():
        name = queue.form_versions.latest("number").questions[0]["name"]
        try:
            version = queue_form_edit(queue=queue, form=[form.question(name)], actor=user)
        except InvalidInput as error:
            add_errors(form, error)
        else:
            messages.success(request, f"The form is at version {version.number}. Answers given before keep theirs.")
            return redirect("annotator:queue-versions", queue.uid)
    return render(request, "annotator/queue_versions.html", versions_context(queue, form), status=422)


@login_required
@require_POST
def queue_state_save(request: HttpRequest, uid: UUID) -> HttpResponse:
    user = user_of(request)
    queue = access_queue(user, uid, LEADS)
    queue_state_set(queue=queue, state=request.POST.get("state", ""), actor=user)
    messages.success(request, f"The queue is {queue.get_state_display()}.")
    return redirect("annotator:queue-detail", queue.uid)


@login_required
@require_POST
def queue_overlap_save(request: HttpRequest, uid: UUID) -> HttpResponse:
    user = user_of(request)
    queue = access_queue(user, uid, LEADS)
    raw = request.POST.get("overlap", "")
    if not (raw.isascii() and raw.isdigit() and len(raw) < 10):
        raise invalid("/overlap", "invalid", "Overlap is a whole number.")
    queue_overlap_set(queue=queue, overlap=int(raw), actor=user)
    messages.success(request, f"Each item is judged by {queue.overlap} people from now on.")
    return redirect("annotator:queue-detail", queue.uid)


@login_required
@require_POST
def flag_resolve_view(request: HttpRequest, uid: UUID) -> HttpResponse:
    flag = access_flag(user_of(request), uid)
    flag_resolve(flag=flag, now=timezone.now())
    return redirect("annotator:queue-detail", flag.item.queue.uid)


def whole_number(request: HttpRequest, name: str) -> int:
    raw = request.GET.get(name, "0")
    if not raw.isascii() or not raw.isdigit() or len(raw) > 18:
        raise invalid(f"/{name}", "invalid", "A page address is a whole number.")
    return int(raw)
