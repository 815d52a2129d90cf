"""REST: cutting, reading and exporting snapshots; their pages."""

import json

import pytest
from django.test import Client
from django.urls import reverse

from annotator.models import Queue, Role, Snapshot
from annotator.services import snapshots as service
from annotator.tasks import snapshot_cut_task
from tests.factories import ItemFactory, JudgementFactory, QueueFactory, member

pytestmark = pytest.mark.django_db


@pytest.fixture
def queue() -> Queue:
    queue = QueueFactory(n_items=3, name="Kinder?")
    for verdict in ("a", "b", "tie"):
        JudgementFactory(item__queue=queue, verdict=verdict)
    return queue


@pytest.fixture
def researcher(client: Client, queue: Queue) -> Client:
    client.force_login(member(queue.project, Role.RESEARCHER))
    return client


def cut(client: Client, queue: Queue, **body: object) -> dict:
    response = client.post(f"/api/v1/queues/{queue.uid}/snapshots/", body, content_type="application/json")
    return {"status": response.status_code, **response.json()}


def test_cut_export_and_repeat(researcher: Client, queue: Queue) -> None:
    first = cut(researcher, queue, aggregation="majority", filter={})
    assert (first["status"], first["n_rows"], first["state"]) == (201, 3, "ready")
    assert first["counts"]["rows"]["tie"] == 1
    again = cut(researcher, queue)
    assert (again["sha256"], again["number"]) == (first["sha256"], 2)
    url = f"/api/v1/snapshots/{first['uid']}/"
    assert researcher.get(url).json()["sha256"] == first["sha256"]
    exported = researcher.get(f"{url}export/?format=trl-preference")
    assert exported["X-Steelyard-Sha256"] == first["sha256"]
    assert exported["Content-Disposition"] == 'attachment; filename="kinder-1-trl-preference.jsonl"'
    assert exported["Content-Type"] == "application/x-ndjson"
    rows = [json.loads(line) for line in exported.getvalue().splitlines()]
    assert len(rows) == 2
    assert set(rows[0]) == {"prompt", "chosen", "rejected"}
    listed = researcher.get(f"/api/v1/queues/{queue.uid}/snapshots/").json()["results"]
    assert [row["number"] for row in listed] == [2, 1]


def test_key_makes_a_retry_safe(researcher: Client, queue: Queue) -> None:
    one, two = (cut(researcher, queue, idempotency_key="nightly-1") for _ in range(2))
    assert one["uid"] == two["uid"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"filter": {"verdict": "a"}}, "/filter/verdict"),
        ({"filter": {"min_judgements": "many"}}, "/filter/min_judgements"),
        ({"filter": "all"}, "/filter"),
        ({"aggregation": "mean"}, "/aggregation"),
    ],
)
def test_wrong_input(researcher: Client, queue: Queue, body: dict, pointer: str) -> None:
    found = cut(researcher, queue, **body)
    assert found["status"] == 422
    assert found["errors"][0]["pointer"] == pointer


def test_nothing_fits(researcher: Client, queue: Queue) -> None:
    found = cut(researcher, queue, filter={"min_judgements": 9})
    assert (found["status"], found["code"]) == (409, "empty_snapshot")


def test_big_queue_is_cut_in_the_background(
    researcher: Client, queue: Queue, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: object
) -> None:
    monkeypatch.setattr(service, "INLINE_MAX_ITEMS", 2)
    woken: list[dict] = []
    monkeypatch.setattr(snapshot_cut_task, "apply_async", lambda **message: woken.append(message))
    with django_capture_on_commit_callbacks(execute=True):
        found = cut(researcher, queue)
    assert (found["status"], found["state"], found["sha256"]) == (202, "cutting", "")
    assert woken == [{"args": [found["uid"]]}]
    page = reverse("annotator:snapshot-detail", args=[found["uid"]])
    assert "being frozen" in researcher.get(page).content.decode()
    assert researcher.get(f"/api/v1/snapshots/{found['uid']}/export/").json()["code"] == "not_ready"
    snapshot_cut_task(found["uid"])
    fragment = researcher.get(page, headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in fragment
    assert Snapshot.objects.get().sha256 in fragment


def test_pages(researcher: Client, queue: Queue) -> None:
    new = reverse("annotator:snapshot-create", args=[queue.uid])
    assert researcher.get(new).status_code == 200
    data = {"aggregation": "each", "min_judgements": "1", "verdicts": ["a", "b"], "exclude_flagged": "on"}
    made = researcher.post(new, data)
    snapshot = Snapshot.objects.get()
    assert made["Location"] == reverse("annotator:snapshot-detail", args=[snapshot.uid])
    assert snapshot.filter == {"verdicts": ["a", "b"], "exclude_flagged": True}
    page = researcher.get(made["Location"]).content.decode()
    assert snapshot.sha256 in page
    assert f"/api/v1/snapshots/{snapshot.uid}/export/?format=trl-unpaired" in page
    card = researcher.get(reverse("annotator:snapshot-card", args=[snapshot.uid])).content.decode()
    assert "pretty_name" in card
    listed = researcher.get(reverse("annotator:snapshot-list", args=[queue.project.uid])).content.decode()
    assert snapshot.sha256[:12] in listed
    wrong = researcher.post(new, {**data, "raters": "r-nobody"})
    assert wrong.status_code == 422
    assert "r-nobody" in wrong.content.decode()


def test_rows_are_paged(researcher: Client, queue: Queue) -> None:
    for _ in range(25):
        JudgementFactory(item=ItemFactory(queue=queue))
    uid = cut(researcher, queue)["uid"]
    url = reverse("annotator:snapshot-detail", args=[uid])
    assert "?after=19" in researcher.get(url).content.decode()
    second = researcher.get(url, {"after": "19"})
    assert [row.position for row in second.context["rows"]] == list(range(20, 28))
    assert researcher.get(url, {"after": "x"}).status_code == 200


def test_api_page_names_my_snapshot(researcher: Client, queue: Queue, client: Client) -> None:
    page = reverse("annotator:api")
    assert "placeholder" in researcher.get(page).content.decode()
    uid = cut(researcher, queue)["uid"]
    shown = researcher.get(page).content.decode()
    for label in ("trl-preference", "trl-conversational", "trl-unpaired", "raw"):
        assert f"/api/v1/snapshots/{uid}/export/?format={label}" in shown
    client.force_login(member(queue.project, Role.ANNOTATOR))
    assert uid not in client.get(page).content.decode()
