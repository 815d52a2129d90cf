"""REST: making queues, claiming, answering; what is refused and how it is said."""

import json
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from annotator.api.assignments import Submit, is_well_formed
from annotator.models import Assignment, Judgement, Queue, Role, User
from annotator.services.queues import queue_form_edit, queue_state_set
from annotator.services.sweep import leases_expire
from tests.annotator.queue_helpers import FORM, MODELS, answer, dataset_with, queue_of
from tests.factories import UserFactory, member

pytestmark = pytest.mark.django_db


class Api:
    """A person's client."""

    def __init__(self, user: User) -> None:
        self.client = Client()
        self.client.force_login(user)

    def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        found = self.client.generic(
            method, f"/api/v1/{path}", json.dumps({} if body is None else body), content_type="application/json"
        )
        return found.status_code, json.loads(found.content) if found.content else None


@pytest.fixture
def queue() -> Queue:
    return queue_of(4, overlap=2, now=timezone.now())


@pytest.fixture
def annotator(queue: Queue) -> Api:
    return Api(member(queue.project, Role.ANNOTATOR))


def claim(api: Api, queue: Queue) -> dict[str, Any]:
    status, body = api("POST", f"queues/{queue.uid}/claim/")
    assert status == 200, body
    found: dict[str, Any] = body
    return found


def submission(**values: Any) -> dict[str, Any]:
    return {"answers": answer(), "active_seconds": 2.5, "idempotency_key": uuid.uuid4().hex, **values}


def test_make_read_and_change_a_queue() -> None:
    dataset = dataset_with(3)
    lead = Api(member(dataset.project, Role.LEAD))
    status, made = lead(
        "POST",
        f"projects/{dataset.project.uid}/queues/",
        {"name": "Q", "dataset": str(dataset.uid), "form": FORM, "overlap": 2},
    )
    assert (status, made["n_items"], made["state"]) == (201, 3, "open")
    status, body = lead("GET", f"queues/{made['uid']}/")
    assert (status, body["overlap"], body["progress"]["n_planned"], body["form_version"]) == (200, 2, 6, 1)
    status, body = lead("PATCH", f"queues/{made['uid']}/", {"state": "paused", "overlap": 3, "name": "R"})
    assert (status, body["state"], body["progress"]["n_planned"], body["name"]) == (200, "paused", 9, "R")
    assert lead("POST", f"queues/{made['uid']}/guidelines/", {"markdown": "# Be fair"}) == (
        201,
        {"guidelines_version": 2},
    )
    assert lead("POST", f"queues/{made['uid']}/form/", {"form": [{"type": "pairwise", "points": 3}]})[0] == 201
    status, body = lead("GET", f"projects/{dataset.project.uid}/queues/")
    assert [row["name"] for row in body["results"]] == ["R"]


@pytest.mark.parametrize(
    ("change", "pointer", "code"),
    [
        ({"form": [{"type": "pairwise", "colour": "red"}]}, "/form/0/colour", "unknown_field"),
        ({"overlap": 99}, "/overlap", "out_of_range"),
        ({"dataset": str(uuid.uuid4())}, "/dataset", "not_found"),
        ({"overlaps": 3}, "/overlaps", "unknown_field"),
        ({"form": None}, "/form", "null"),
        ({"lease_s": 0.1}, "/lease_s", "out_of_range"),
    ],
)
def test_a_wrong_queue_is_refused_with_a_pointer(change: dict[str, Any], pointer: str, code: str) -> None:
    dataset = dataset_with(1)
    lead = Api(member(dataset.project, Role.LEAD))
    body = {"name": "Q", "dataset": str(dataset.uid), "form": FORM, **change}
    status, problem = lead("POST", f"projects/{dataset.project.uid}/queues/", body)
    assert (status, problem["errors"][0]["pointer"], problem["errors"][0]["code"]) == (422, pointer, code)
    assert not Queue.objects.exists()


def test_claim_answer_and_nothing_left(annotator: Api, queue: Queue) -> None:
    for number in range(1, 5):
        task = claim(annotator, queue)
        assert task["assignment"]["number"] == number
        assert claim(annotator, queue)["assignment"]["uid"] == task["assignment"]["uid"]
        assert [r["id"] for r in task["item"]["responses"]] == [task["order"]["left"], task["order"]["right"]]
        path = f"assignments/{task['assignment']['uid']}"
        assert annotator("PUT", f"{path}/draft/", {"answers": answer(), "version": 0}) == (200, {"version": 1})
        status, beat = annotator("POST", f"{path}/heartbeat/")
        assert status == 200
        assert beat["lease_until"] is not None
        body = submission(form_version=task["form"]["version"])
        status, first = annotator("POST", f"{path}/submit/", body)
        assert (status, first["judgement"]["version"]) == (201, 1)
        assert annotator("POST", f"{path}/submit/", body) == (201, first)
    assert annotator("POST", f"queues/{queue.uid}/claim/") == (204, None)
    assert Judgement.objects.count() == 4


def test_left_is_stored_as_the_response_that_was_left(annotator: Api, queue: Queue) -> None:
    for _ in range(4):
        task = claim(annotator, queue)
        left_text = task["item"]["responses"][0]["messages"][0]["content"]
        annotator("POST", f"assignments/{task['assignment']['uid']}/submit/", submission())
        judgement = Judgement.objects.select_related("item__response_a", "item__response_b").latest("pk")
        chosen = judgement.item.response_a if judgement.verdict == "a" else judgement.item.response_b
        assert chosen.text == left_text


def test_nothing_sent_to_a_rater_names_a_model_the_dataset_or_the_stored_order() -> None:
    queue = queue_of(3, now=timezone.now())
    secrets = [*MODELS, queue.dataset.name, str(queue.dataset.uid), "hidden-category", "source_model", "a_is_left"]
    for role in (Role.ANNOTATOR, Role.REVIEWER, Role.LEAD):  # leads label blind too
        user = member(queue.project, role)
        api = Api(user)
        task = json.dumps(claim(api, queue))
        page = api.client.get(f"/queues/{queue.uid}/annotate/").content.decode()
        example = queue.items.select_related("example", "response_a").first()
        assert example is not None
        for text in (task, page):
            assert not [secret for secret in secrets if secret in text]
            assert str(example.example.uid) not in text
            assert str(example.response_a.uid) not in text
    status, body = Api(member(queue.project, Role.ANNOTATOR))("GET", f"queues/{queue.uid}/")
    assert (status, body["dataset"]) == (200, None)


def test_problems_are_said_clearly(annotator: Api, queue: Queue) -> None:
    task = claim(annotator, queue)
    path = f"assignments/{task['assignment']['uid']}"
    cases: list[tuple[dict[str, Any], int, str]] = [
        (submission(form_version=7), 409, "form_version"),
        (submission(answers={"preference": {"choice": "left", "strength": 9}}), 422, "invalid"),
        (submission(answers={"nope": {}}), 422, "invalid"),
        (submission(idempotency_key=""), 422, "invalid"),
        (submission(active_seconds="soon"), 422, "invalid"),
        ({"idempotency_key": "k"}, 422, "invalid"),
        (submission(shown={"layout": "tabs", "viewed": ["left"]}), 422, "invalid"),
    ]
    for body, status, code in cases:
        found, problem = annotator("POST", f"{path}/submit/", body)
        assert (found, problem["code"]) == (status, code), problem
        assert problem["detail"]
    assert not Judgement.objects.exists()


def test_form_edited_meanwhile_still_takes_the_old_answer(annotator: Api, queue: Queue) -> None:
    task = claim(annotator, queue)
    queue_form_edit(queue=queue, form=[{"type": "pairwise", "points": 3}], actor=None)
    path = f"assignments/{task['assignment']['uid']}/submit/"
    assert annotator("POST", path, submission(form_version=2))[1]["code"] == "form_version"
    assert annotator("POST", path, submission(form_version=1))[0] == 201
    assert claim(annotator, queue)["form"]["version"] == 2


def test_expired_lease_and_second_tab(annotator: Api, queue: Queue) -> None:
    task = claim(annotator, queue)
    path = f"assignments/{task['assignment']['uid']}"
    assert annotator("PUT", f"{path}/draft/", {"answers": answer("left"), "version": 0})[1] == {"version": 1}
    status, problem = annotator("PUT", f"{path}/draft/", {"answers": answer("right"), "version": 0})
    assert (status, problem["code"], problem["version"], problem["draft"]) == (409, "draft_conflict", 1, answer("left"))
    leases_expire(now=timezone.now() + timedelta(hours=1))
    status, body = annotator("POST", f"{path}/submit/", submission())
    assert (status, body["judgement"]["is_surplus"]) == (201, False)


def test_skip_flag_and_reopen(annotator: Api, queue: Queue) -> None:
    task = claim(annotator, queue)
    path = f"assignments/{task['assignment']['uid']}"
    assert annotator("POST", f"{path}/flag/", {"detail": "identical"})[0] == 201
    assert annotator("POST", f"{path}/skip/", {"reason": "bored"})[0] == 422
    assert annotator("POST", f"{path}/skip/", {"reason": "unclear"})[0] == 204
    task = claim(annotator, queue)
    path = f"assignments/{task['assignment']['uid']}"
    assert annotator("POST", f"{path}/reopen/")[0] == 200  # nothing to reopen: it is open
    annotator("POST", f"{path}/submit/", submission())
    status, reopened = annotator("POST", f"{path}/reopen/")
    assert status == 200
    assert reopened["assignment"]["is_reopened"]
    assert reopened["assignment"]["draft"]["preference"]["choice"] == "left"
    status, body = annotator("POST", f"{path}/submit/", submission(answers=answer("right", 3)))
    assert (status, body["judgement"]["version"]) == (201, 2)
    assert Judgement.objects.count() == 2


def test_paused_queue_gives_nothing_out(annotator: Api, queue: Queue) -> None:
    queue_state_set(queue=queue, state="paused", actor=None)
    status, problem = annotator("POST", f"queues/{queue.uid}/claim/")
    assert (status, problem["code"]) == (409, "queue_paused")


def test_assignments_of_others_are_not_found(annotator: Api, queue: Queue) -> None:
    task = claim(annotator, queue)
    others = [UserFactory(), member(queue.project, Role.ANNOTATOR), member(queue.project, Role.LEAD)]
    for user in others:
        for method, action in (("POST", "submit"), ("PUT", "draft"), ("POST", "heartbeat"), ("POST", "skip")):
            status, _ = Api(user)(method, f"assignments/{task['assignment']['uid']}/{action}/", submission())
            assert status == 404
    for role in (Role.RESEARCHER, Role.VIEWER):
        assert Api(member(queue.project, role))("POST", f"queues/{queue.uid}/claim/")[0] == 403
    assert Api(UserFactory())("POST", f"queues/{queue.uid}/claim/")[0] == 404
    assert Assignment.objects.count() == 1


@pytest.mark.parametrize("action", ["claim", "submit"])
def test_the_hot_requests_stay_at_few_queries(
    annotator: Api, queue: Queue, action: str, django_assert_max_num_queries: Any
) -> None:
    annotator("POST", f"queues/{queue.uid}/claim/")
    task = claim(annotator, queue)
    if action == "submit":
        with django_assert_max_num_queries(5):  # session, user, access, lock, submit
            assert annotator("POST", f"assignments/{task['assignment']['uid']}/submit/", submission())[0] == 201
    else:
        annotator("POST", f"assignments/{task['assignment']['uid']}/submit/", submission())
        with django_assert_max_num_queries(6):  # session, user, access, lock, claim, task
            claim(annotator, queue)


@pytest.mark.parametrize(
    ("change", "is_short"),
    [
        ({}, True),
        ({"active_seconds": 3}, True),
        ({"form_version": 1, "shown": {"layout": "side"}}, True),
        ({"form_version": None, "shown": None}, True),
        ({"active_seconds": "3"}, False),
        ({"active_seconds": True}, False),
        ({"active_seconds": None}, False),
        ({"form_version": "1"}, False),
        ({"form_version": 1.5}, False),
        ({"idempotency_key": " k "}, False),
        ({"idempotency_key": "clé"}, False),
        ({"idempotency_key": "a\0"}, False),
        ({"idempotency_key": 7}, False),
        ({"idempotency_key": "x" * 65}, False),
        ({"answers": []}, False),
        ({"shown": []}, False),
    ],
)
def test_what_skips_the_serializer_is_what_it_would_leave_alone(change: dict[str, Any], is_short: bool) -> None:
    body = submission(**change)
    assert is_well_formed(body) is is_short
    if is_short:
        given = Submit.Input(data=body)
        assert given.is_valid(), given.errors
        assert {name: given.validated_data.get(name) for name in body} == body
