"""Exports: the files load with `datasets` unchanged, stream in flat memory, and say what they are."""

import asyncio
import io
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from django.core.asgi import get_asgi_application
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotator.errors import DomainError, InvalidInput
from annotator.models import Dataset, Queue, Role, Snapshot
from annotator.services.exports import dataset_export, snapshot_export
from annotator.services.imports import dataset_import
from annotator.services.snapshots import snapshot_create, snapshot_cut
from annotator.streaming import in_thread
from tests.factories import (
    ApiTokenFactory,
    DatasetFactory,
    ItemFactory,
    JudgementFactory,
    PreferenceFactory,
    QueueFactory,
    member,
)
from workers.data.exporters import export_labels
from workers.data.rows import Limits

pytestmark = pytest.mark.django_db
TEXTS = ["{'quoted'}", " ", "مرحبا", "你好 👩‍👩‍👧", "line\none\u2028two"]


@pytest.fixture
def snapshot() -> Snapshot:
    return judged_snapshot(QueueFactory(name="Kinder: A/B?", dataset__licence="CC-BY-4.0"))


def judged_snapshot(queue: Queue) -> Snapshot:
    for index, verdict in enumerate(("a", "b", "tie", "both_bad", "a")):
        item = ItemFactory(queue=queue)
        item.response_a.messages = [{"role": "assistant", "content": TEXTS[index]}]
        item.response_a.save()
        JudgementFactory(item=item, verdict=verdict)
    return snapshot_cut(queue=queue, created_by=None, now=timezone.now())


def body(snapshot: Snapshot, label: str, file: str = "jsonl") -> bytes:
    return b"".join(snapshot_export(snapshot=snapshot, label=label, file=file).chunks())


ROWS = {"trl-preference": 3, "trl-conversational": 3, "trl-unpaired": 8, "raw": 5}


@pytest.mark.parametrize("file", ["jsonl", "parquet"])
@pytest.mark.parametrize("label", export_labels())
def test_files_load_with_datasets(snapshot: Snapshot, tmp_path: Path, label: str, file: str) -> None:
    datasets = pytest.importorskip("datasets")
    exported = snapshot_export(snapshot=snapshot, label=label, file=file)
    path = tmp_path / exported.filename
    path.write_bytes(b"".join(exported.chunks()))
    kind = {"jsonl": "json", "parquet": "parquet"}[file]
    loaded = datasets.load_dataset(kind, data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.num_rows == ROWS[label]


def test_folder_with_its_card_loads(snapshot: Snapshot, tmp_path: Path, client: Client) -> None:
    datasets = pytest.importorskip("datasets")
    client.force_login(member(snapshot.queue.project, Role.VIEWER))
    folder = tmp_path / "preferences"
    folder.mkdir()
    query = "?format=trl-preference&file=parquet"
    exported = client.get(reverse("annotator-api:snapshot-export", args=[snapshot.uid]) + query)
    name = exported["Content-Disposition"].partition("filename=")[2].strip('"')
    (folder / name).write_bytes(exported.getvalue())
    card = client.get(reverse("annotator-api:snapshot-card", args=[snapshot.uid]) + query)
    (folder / "README.md").write_bytes(card.content)
    assert datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache")).num_rows == 3
    text = card.content.decode()
    for fact in (snapshot.sha256, str(snapshot.uid), "CC-BY-4.0", "pairs left out tie"):
        assert fact in text


def test_texts_leave_byte_for_byte(snapshot: Snapshot) -> None:
    rows = [json.loads(line) for line in body(snapshot, "raw").splitlines()]
    assert [row["response_a"][0]["content"] for row in rows] == TEXTS


def test_same_snapshot_gives_the_same_bytes(snapshot: Snapshot) -> None:
    for label in export_labels():
        assert body(snapshot, label) == body(snapshot, label)


def test_chosen_is_what_the_verdict_says(snapshot: Snapshot) -> None:
    rows = [json.loads(line) for line in body(snapshot, "trl-preference").splitlines()]
    frozen = snapshot.rows.filter(verdict__in=["a", "b"]).order_by("position")
    for row, pair in zip(rows, frozen, strict=True):
        chosen = pair.response_a if pair.verdict == "a" else pair.response_b
        assert row["chosen"] == chosen.messages[0]["content"]


def test_parquet_alone_means_every_judgement(snapshot: Snapshot) -> None:
    exported = snapshot_export(snapshot=snapshot, label="parquet", file="jsonl")
    assert exported.filename == "kinder-ab-1-raw.parquet"
    assert b"".join(exported.chunks()).startswith(b"PAR1")


@pytest.mark.parametrize(
    ("query", "pointer"), [("format=csv", "/format"), ("file=csv", "/file"), ("format=", "/format")]
)
def test_unknown_format_says_what_there_is(snapshot: Snapshot, client: Client, query: str, pointer: str) -> None:
    client.force_login(member(snapshot.queue.project))
    response = client.get(reverse("annotator-api:snapshot-export", args=[snapshot.uid]) + "?" + query)
    assert response.status_code == 422
    assert response["Content-Type"] == "application/problem+json"
    assert response.json()["errors"][0]["pointer"] == pointer


def test_unready_snapshot_cannot_be_exported() -> None:
    queue = QueueFactory()
    cutting, _ = snapshot_create(queue=queue, created_by=None, now=timezone.now())
    with pytest.raises(DomainError) as caught:
        snapshot_export(snapshot=cutting, label="raw", file="jsonl")
    assert caught.value.code == "not_ready"
    cutting.state, cutting.failure = Snapshot.State.FAILED, "No judgement fits."
    with pytest.raises(DomainError, match="No judgement fits"):
        snapshot_export(snapshot=cutting, label="raw", file="jsonl")


def test_dataset_with_known_preferences_is_exported_alike(client: Client) -> None:
    preference = PreferenceFactory(verdict="b", preference_strength=2)
    dataset = preference.dataset
    dataset.n_preferences = 1
    dataset.save()
    client.force_login(member(dataset.project, Role.RESEARCHER))
    url = reverse("annotator-api:dataset-export", args=[dataset.uid])
    row = json.loads(client.get(url).getvalue())
    assert row["chosen"] == preference.response_b.messages[0]["content"]
    raw = json.loads(client.get(url, {"format": "raw"}).getvalue())
    assert (raw["rater"], raw["verdict"], raw["preference_strength"]) == ("source", "b", 2)
    with pytest.raises(InvalidInput):
        dataset_export(dataset=dataset, label="nothing", file="jsonl")
    dataset.n_preferences = 0
    with pytest.raises(DomainError, match="without preferences"):
        dataset_export(dataset=dataset, label="raw", file="jsonl")
    dataset.state = Dataset.State.IMPORTING
    with pytest.raises(DomainError, match="importing"):
        dataset_export(dataset=dataset, label="raw", file="jsonl")


def test_rated_pairs_of_equal_helpfulness_are_left_out_of_a_dpo_file() -> None:
    """HelpSteer2's own recipe: the higher helpfulness is chosen, equal pairs are dropped."""
    ratings = [(4, 2), (3, 3), (1, 2), (0, 0), (2, 2)]
    rows = [
        {"prompt": f"q{i}", "response": f"{side}{i}", "helpfulness": value, "correctness": 4}
        for i, pair in enumerate(ratings)
        for side, value in zip("xy", pair, strict=True)
    ]
    dataset = DatasetFactory(state=Dataset.State.IMPORTING, format="")
    file = io.BytesIO("\n".join(map(json.dumps, rows)).encode())
    dataset_import(dataset=dataset, stream=file, limits=Limits(), clock=timezone.now)
    dataset.refresh_from_db()
    assert (dataset.n_examples, dataset.n_preferences) == (5, 5)
    exported = b"".join(dataset_export(dataset=dataset, label="trl-preference", file="jsonl").chunks())
    pairs = [json.loads(line) for line in exported.splitlines()]
    assert [(row["chosen"], row["rejected"]) for row in pairs] == [("x0", "y0"), ("y2", "x2")]


@pytest.mark.django_db(transaction=True)
async def test_asgi_streams_from_the_database() -> None:
    """Through the real ASGI handler: Django would collect a synchronous iterator before the first byte leaves."""
    from asgiref.sync import sync_to_async

    def arrange() -> tuple[Snapshot, str]:
        snapshot = judged_snapshot(QueueFactory())
        ApiTokenFactory(user=member(snapshot.queue.project), secret="stream-me")
        connection.close()
        return snapshot, reverse("annotator-api:snapshot-export", args=[snapshot.uid])

    snapshot, path = await sync_to_async(arrange)()
    scope: dict[str, Any] = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "query_string": b"format=raw",
        "headers": [(b"authorization", b"Token stream-me"), (b"host", b"testserver")],
        "client": ["127.0.0.1", 1],
        "server": ["testserver", 80],
    }
    site = ApplicationCommunicator(get_asgi_application(), scope)
    await site.send_input({"type": "http.request"})
    start = await site.receive_output(timeout=20)
    headers = {name.decode().lower(): value.decode() for name, value in start["headers"]}
    assert start["status"] == 200
    assert headers["x-steelyard-sha256"] == snapshot.sha256
    assert "attachment" in headers["content-disposition"]
    content = b""
    while (part := await site.receive_output(timeout=20)).get("more_body") or part.get("body"):
        content += part.get("body", b"")
    assert len(content.splitlines()) == 5
    await site.wait(timeout=10)


async def test_stream_waits_for_the_client_and_holds_one_chunk() -> None:
    made, chunk, n = [], 1_000_000, 200

    def chunks() -> Iterator[bytes]:
        for index in range(n):
            made.append(index)
            yield bytes(chunk)

    tracemalloc.start()
    received = 0
    async for part in in_thread(chunks()):
        received += len(part)
        assert len(made) * chunk == received, "nothing is made ahead of what the client has taken"
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert received == n * chunk
    assert peak < 8 * chunk


async def test_client_that_goes_away_ends_the_work() -> None:
    closed, made = asyncio.Event(), []
    loop = asyncio.get_running_loop()

    def chunks() -> Iterator[bytes]:
        try:
            while True:
                made.append(1)
                yield b"x"
        finally:
            loop.call_soon_threadsafe(closed.set)

    stream = in_thread(chunks())
    assert await anext(stream) == b"x"
    await stream.aclose()  # type: ignore[attr-defined]
    await asyncio.wait_for(closed.wait(), timeout=5)
    assert len(made) == 1
