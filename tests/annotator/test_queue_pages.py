"""Pages of queues: what they show, what they change, what they refuse, and that their queries do not grow."""

import json
import re
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotator.models import Flag, Judgement, Queue, Role
from annotator.services.assignments import assignment_flag, assignment_skip
from annotator.services.queues import queue_state_set
from tests.annotator.queue_helpers import answer, dataset_with, held, queue_of, raters, submit
from tests.factories import ProjectFactory, member

pytestmark = pytest.mark.django_db


@pytest.fixture
def queue() -> Queue:
    return queue_of(12, overlap=3, now=timezone.now(), guidelines="# Be *fair*")


def signed_in(queue: Queue, role: Role) -> Client:
    client = Client()
    client.force_login(member(queue.project, role))
    return client


@pytest.fixture
def lead(queue: Queue) -> Client:
    return signed_in(queue, Role.LEAD)


def work(queue: Queue, n_raters: int) -> None:
    for number, rater in enumerate(raters(n_raters)):
        for choice in ("left", "right"):
            given = answer(choice, 1 + number % 3, justification="Because **it** is", reasons=["Clear"])
            submit(held(queue, rater), given, now=timezone.now())
        assignment_flag(assignment=held(queue, rater), detail=f"odd {number}")
        assignment_skip(assignment=held(queue, rater), reason="unclear", now=timezone.now())
        held(queue, rater)


NEW = {
    "name": "From the page", "overlap": "2", "pair_policy": "all", "max_pairs": "10", "order_policy": "breadth",
    "lease_minutes": "10", "guidelines": "", "title": "Which?", "points": "7", "allow_tie": "on",
    "justification": "optional", "reasons": "Clear\nCorrect\n",
}  # fmt: skip


def test_new_queue_by_form() -> None:
    dataset = dataset_with(3)
    queue = queue_of(dataset=dataset)
    lead = signed_in(queue, Role.LEAD)
    address = f"/projects/{dataset.project.uid}/queues/new/"
    assert lead.get(address).status_code == 200
    made = lead.post(address, {**NEW, "dataset": str(dataset.uid)})
    assert made.status_code == 302
    fresh = Queue.objects.get(name="From the page")
    question = fresh.form_versions.get().questions[0]
    assert (question["points"], question["reasons"], question["allow_both_bad"]) == (7, ["Clear", "Correct"], False)
    refused = lead.post(address, {**NEW, "dataset": str(dataset.uid), "reasons": "Clear\nClear"})
    assert refused.status_code == 422
    assert "Two reasons are the same: “Clear”" in refused.content.decode()
    long = lead.post(address, {**NEW, "dataset": str(dataset.uid), "reasons": "Clear\n" + "so " * 30}).content.decode()
    assert "A reason is at most 60 characters; shorten “so so" in long
    assert "Value error" not in long


def test_a_new_queue_with_overlap_finishes_what_is_started() -> None:
    dataset = dataset_with(3)
    lead = signed_in(queue_of(dataset=dataset), Role.LEAD)
    address = f"/projects/{dataset.project.uid}/queues/new/"
    assert "started items are finished first" in lead.get(address).content.decode()
    for name, overlap, chosen, order in (
        ("one", "1", "", "breadth"), ("two", "2", "", "depth"), ("three", "3", "breadth", "breadth"),
    ):  # fmt: skip
        given = {**NEW, "name": name, "dataset": str(dataset.uid), "overlap": overlap, "order_policy": chosen}
        assert lead.post(address, given).status_code == 302
        assert Queue.objects.get(name=name).order_policy == order


def test_a_project_without_a_dataset_leads_to_the_import() -> None:
    project = ProjectFactory()
    lead = Client()
    lead.force_login(member(project))
    page = lead.get(f"/projects/{project.uid}/queues/new/").content.decode()
    assert "First import a dataset" in page
    assert reverse("annotator:dataset-import", args=[project.uid]) in page
    assert "Choose a dataset" not in page
    queue = queue_of(1)
    lead = signed_in(queue, Role.LEAD)
    assert "Choose a dataset" in lead.get(f"/projects/{queue.project.uid}/queues/new/").content.decode()


WORD = re.compile(r'<span class="word">([^<]+)</span>')


@pytest.mark.parametrize("points", ["2", "3", "7"])
def test_the_preview_has_the_words_that_raters_see(points: str) -> None:
    dataset = dataset_with(3)
    lead = signed_in(queue_of(dataset=dataset), Role.LEAD)
    address = f"/projects/{dataset.project.uid}/queues/new/"
    given = {**NEW, "dataset": str(dataset.uid), "name": "seen", "points": points, "allow_cannot_judge": "on"}
    preview = lead.get(address, {**given, "preview": "1"}).content.decode()
    lead.post(address, given)
    seen = lead.get(f"/queues/{Queue.objects.get(name='seen').uid}/annotate/").content.decode()
    assert WORD.findall(preview) == WORD.findall(seen)
    for text in ("Clear", "Left is better", "In a sentence or two"):
        assert text in preview
        assert text in seen


def test_progress_page_and_its_live_part(lead: Client, queue: Queue) -> None:
    work(queue, 2)
    page = lead.get(f"/queues/{queue.uid}/").content.decode()
    for shown in ("Judgements done", "Rater 1", "at work", "odd 0", "The prompt is unclear", "Order balance"):
        assert shown in page
    assert "user" not in page.split("<tbody>")[1].split("</tbody>")[0]  # names only when asked for
    part = lead.get(f"/queues/{queue.uid}/?names=1", headers={"hx-request": "true"}).content.decode()
    assert "<html" not in part
    name = str(Judgement.objects.first().rater)  # type: ignore[union-attr]
    assert name in part
    viewer = signed_in(queue, Role.VIEWER).get(f"/queues/{queue.uid}/?names=1").content.decode()
    assert name not in viewer  # names are for the lead, as on the page of reviews
    assert "Show names" not in viewer


def test_queries_do_not_grow_with_people_and_items(
    lead: Client, queue: Queue, django_assert_max_num_queries: Any
) -> None:
    work(queue, 6)
    limits = {"": 24, "items/": 12, "review/": 14, "versions/": 14, "annotate/": 17}
    for path, limit in limits.items():
        with django_assert_max_num_queries(limit):
            assert lead.get(f"/queues/{queue.uid}/{path}").status_code == 200
    with django_assert_max_num_queries(12):
        assert lead.get(f"/projects/{queue.project.uid}/queues/").status_code == 200


def test_items_page_says_how_far_each_is(lead: Client, queue: Queue) -> None:
    work(queue, 1)
    page = lead.get(f"/queues/{queue.uid}/items/").content.decode()
    assert "1 of 3 done" in page
    assert "0 of 3 done, 1 in progress" in page


def test_review_filters_and_pseudonyms(lead: Client, queue: Queue) -> None:
    work(queue, 3)
    address = f"/queues/{queue.uid}/review/"
    page = lead.get(address).content.decode()
    assert "Rater 2" in page
    assert "<strong>it</strong>" in page
    assert str(Judgement.objects.first().rater) not in page  # type: ignore[union-attr]
    assert str(Judgement.objects.first().rater) in lead.get(address + "?names=1").content.decode()  # type: ignore[union-attr]
    assert "No judgements here" in lead.get(address + "?verdict=both_bad").content.decode()
    assert lead.get(address + "?verdict=nonsense").status_code == 422
    assert lead.get(address + "?before=x").status_code == 422
    assert lead.get(address + "?disagreement=1").status_code == 200
    viewer = signed_in(queue, Role.VIEWER)
    assert "Rater 2" in viewer.get(address + "?names=1").content.decode()  # names are for the lead


def test_lead_runs_the_queue(lead: Client, queue: Queue) -> None:
    assert lead.post(f"/queues/{queue.uid}/state/", {"state": "paused"}).status_code == 302
    assert lead.post(f"/queues/{queue.uid}/state/", {"state": "gone"}).status_code == 422
    assert lead.post(f"/queues/{queue.uid}/overlap/", {"overlap": "5"}).status_code == 302
    assert lead.post(f"/queues/{queue.uid}/overlap/", {"overlap": "many"}).status_code == 422
    assert lead.post(f"/queues/{queue.uid}/guidelines/", {"markdown": "new"}).status_code == 302
    assert lead.post(f"/queues/{queue.uid}/form/", {**NEW, "points": "3"}).status_code == 302
    assert lead.post(f"/queues/{queue.uid}/form/", {**NEW, "points": "4"}).status_code == 422
    queue.refresh_from_db()
    assert (queue.state, queue.overlap, queue.n_slots) == ("paused", 5, 60)
    assert queue.form_versions.latest("number").questions[0]["points"] == 3
    assert queue.guidelines_versions.latest("number").markdown == "new"


def test_flag_is_settled_by_the_lead_alone(lead: Client, queue: Queue) -> None:
    flag = assignment_flag(assignment=held(queue, raters(1)[0]), detail="twice the same")
    for role in (Role.ANNOTATOR, Role.REVIEWER):
        assert signed_in(queue, role).post(f"/flags/{flag.uid}/resolve/").status_code == 403
    assert lead.post(f"/flags/{flag.uid}/resolve/").status_code == 302
    assert Flag.objects.get().resolved_at is not None


def test_annotate_page_says_why_there_is_nothing(queue: Queue) -> None:
    annotator = signed_in(queue, Role.ANNOTATOR)
    address = f"/queues/{queue.uid}/annotate/"
    assert "Item 1" in annotator.get(address).content.decode()
    other = signed_in(queue, Role.ANNOTATOR)
    for state, said in (("paused", "paused this queue"), ("closed", "closed"), ("building", "being built")):
        Queue.objects.filter(pk=queue.pk).update(state=state)
        assert said in other.get(address).content.decode()
        assert "Item 1" in annotator.get(address).content.decode()  # what they hold stays
    assert signed_in(queue, Role.VIEWER).get(address).status_code == 403


def test_annotate_page_when_everything_is_seen_and_when_all_is_done() -> None:
    queue = queue_of(1, overlap=2, now=timezone.now())
    annotator = signed_in(queue, Role.ANNOTATOR)
    address = f"/queues/{queue.uid}/annotate/"
    annotator.get(address)
    assignment = queue.assignments.get()
    submit(assignment, now=timezone.now())
    page = annotator.get(address).content.decode()
    assert "Nothing left for you here" in page
    assert "Reopen my last answer" in page
    submit(held(queue, raters(1)[0]), now=timezone.now())
    assert "This queue is finished" in annotator.get(address).content.decode()


def test_the_annotate_page_preloads_exactly_what_its_script_imports(queue: Queue) -> None:
    found, waiting = set(), ["annotate.js"]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += re.findall(r'from "\./([\w.-]+)"', (settings.BASE_DIR / "static/js" / name).read_text())
    page = signed_in(queue, Role.ANNOTATOR).get(f"/queues/{queue.uid}/annotate/").content.decode()
    preloaded = re.findall(r'rel="modulepreload" href="/static/js/([\w.-]+)"', page)
    assert sorted(preloaded) == sorted(found - {"annotate.js"})


def test_own_keys_are_kept_and_checked(queue: Queue) -> None:
    annotator = signed_in(queue, Role.ANNOTATOR)

    def save(keys: Any) -> tuple[int, Any]:
        found = annotator.post("/account/keys/", json.dumps(keys), content_type="application/json")
        return found.status_code, found.json()

    status, body = save({"skip": "x"})
    assert status == 200
    assert next(row for row in body["shortcuts"] if row["action"] == "skip")["key"] == "x"
    for wrong in ({"skip": "a"}, {"skip": "1"}, {"skip": "Tab"}, {"submit": "x"}, {"nothing": "x"}, [], {"skip": 3}):
        assert save(wrong)[0] == 422, wrong
    assert save({})[0] == 200
    queue_state_set(queue=queue, state="closed", actor=None)


def test_what_cannot_be_done_is_not_offered(lead: Client, queue: Queue) -> None:
    page, new = f"/queues/{queue.uid}/", reverse("annotator:queue-create", args=[queue.project.uid])
    work = f'href="{page}annotate/"'
    assert work in lead.get(page).content.decode()
    queue_state_set(queue=queue, state="closed", actor=None)
    assert work not in lead.get(page).content.decode()
    queue_state_set(queue=queue, state="open", actor=None)
    lists = f"/projects/{queue.project.uid}/queues/"
    assert new in lead.get(lists).content.decode()
    queue.project.archived_at = timezone.now()
    queue.project.save(update_fields=["archived_at"])
    for path in (page, lists, f"/projects/{queue.project.uid}/"):
        text = lead.get(path).content.decode()
        assert "archived" in text
        assert work not in text
        assert new not in text


def test_a_refusal_leads_back_to_the_page_it_came_from(lead: Client, queue: Queue) -> None:
    only_lead = queue.project.memberships.get(role=Role.LEAD).user
    members = f"http://testserver{reverse('annotator:member-list', args=[queue.project.uid])}"
    remove = reverse("annotator:member-remove", args=[queue.project.uid, only_lead.uid])
    refused = lead.post(remove, headers={"referer": members})
    assert refused.status_code == 409
    assert f'href="{members}"' in refused.content.decode()
