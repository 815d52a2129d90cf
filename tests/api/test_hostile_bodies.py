"""Bodies meant to break something: nested to the edge, with fields that nothing reads, under a key used before."""

from typing import Any

import pytest
from django.utils import timezone

from annotator.models import Assignment, Judgement, Queue, Role
from annotator.parsers import MAX_DEPTH, is_deeper
from tests.annotator.queue_helpers import answer, queue_of
from tests.api.test_queues_api import Api, claim, submission
from tests.factories import member

pytestmark = pytest.mark.django_db


@pytest.fixture
def queue() -> Queue:
    return queue_of(4, overlap=2, now=timezone.now())


@pytest.fixture
def annotator(queue: Queue) -> Api:
    return Api(member(queue.project, Role.ANNOTATOR))


def nested(depth: int, *, is_list: bool) -> str:
    return "[" * depth + "]" * depth if is_list else '{"a":' * depth + "1" + "}" * depth


@pytest.mark.parametrize("is_list", [True, False])
def test_no_depth_falls_between_reading_and_writing(annotator: Api, queue: Queue, is_list: bool) -> None:
    """What the parser takes at one depth of the stack, the encoder must take at another."""
    uid = claim(annotator, queue)["assignment"]["uid"]
    found = {}
    for depth in (*range(10, 900, 89), *range(900, 1000, 3), 5000):
        body = '{"answers": {"preference": ' + nested(depth, is_list=is_list) + "}}"
        answered = annotator.client.put(f"/api/v1/assignments/{uid}/draft/", body, content_type="application/json")
        found[depth] = answered.status_code
    assert {status for depth, status in found.items() if depth <= MAX_DEPTH - 2} == {200}
    assert {status for depth, status in found.items() if depth > MAX_DEPTH} == {400}


def test_depth_is_counted_by_levels() -> None:
    assert not is_deeper({"a": [[1]]}, 3)
    assert is_deeper({"a": [[1]]}, 2)
    assert not is_deeper([1] * 10_000, 1)
    assert not is_deeper("text", 0)


@pytest.mark.parametrize(
    ("method", "action", "body"),
    [
        ("PUT", "draft", {"answers": {}, "versio": 1}),
        ("POST", "submit", submission(active_second=3)),
        ("POST", "submit", submission(rater="somebody else", a_is_left=True)),
        ("POST", "skip", {"reason": "unclear", "details": "x"}),
        ("POST", "flag", {"detail": "x", "resolved": True}),
    ],
)
def test_what_nothing_reads_is_said(
    annotator: Api, queue: Queue, method: str, action: str, body: dict[str, Any]
) -> None:
    uid = claim(annotator, queue)["assignment"]["uid"]
    status, problem = annotator(method, f"assignments/{uid}/{action}/", body)
    assert status == 422
    assert problem["errors"][0]["code"] == "unknown_field"
    assert Assignment.objects.get().state == "active"


def test_guidelines_say_what_nothing_reads(queue: Queue) -> None:
    lead = Api(member(queue.project, Role.LEAD))
    status, problem = lead("POST", f"queues/{queue.uid}/guidelines/", {"markdown": "x", "text": "y"})
    assert (status, problem["errors"][0]["pointer"]) == (422, "/text")


def test_a_correction_under_the_old_key_is_not_taken_for_a_repeat(annotator: Api, queue: Queue) -> None:
    """It used to be answered 201 with the first judgement, and the correction was gone."""
    path = f"assignments/{claim(annotator, queue)['assignment']['uid']}"
    first = submission(answers=answer("left", 2))
    status, said = annotator("POST", f"{path}/submit/", first)
    assert status == 201
    assert annotator("POST", f"{path}/reopen/")[0] == 200
    corrected = {**first, "answers": answer("right", 1)}
    status, problem = annotator("POST", f"{path}/submit/", corrected)
    assert (status, problem["code"]) == (409, "key_reused")
    assert annotator("POST", f"{path}/submit/", first) == (201, said)
    assert Assignment.objects.get().state == "active"
    assert annotator("POST", f"{path}/submit/", {**corrected, "idempotency_key": "new"})[0] == 201
    assert Judgement.objects.filter(is_current=True).get().version == 2
    status, problem = annotator("POST", f"{path}/submit/", {**first, "answers": answer("tie", None)})
    assert (status, problem["code"]) == (409, "key_reused")
