"""Scores read back: by REST, on the command line, on the checkpoint's page; an export is what the import takes."""

import io
import json
import os
import sys
import uuid
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from annotator.models import Dataset, Project, Response, Role
from rmeval.models import Checkpoint, Score
from rmeval.selectors import given_scores as selector
from rmeval.services.reward_models import reward_model_register
from rmeval.services.scores import scores_store
from tests.factories import ApiTokenFactory, CheckpointFactory, DatasetFactory, MembershipFactory, RunFactory
from tests.rmeval.conftest import fill
from tests.rmeval.test_pages import client_of

pytestmark = pytest.mark.django_db
PERSON = "person:" + "0" * 32


@pytest.fixture
def checkpoint(project: Project, dataset: Dataset) -> Checkpoint:
    """Scores for every response of "Pairs", for some of "Others", and one person's for three."""
    model = reward_model_register(project=project, name="Längst", family="score_file", config={}, user=None)
    made = model.checkpoints.get()
    others = fill(DatasetFactory(project=project, name="Others"), 3)
    for chosen, extra in ((dataset, ""), (others, "")):
        rows = [(pk, pk / 3) for pk in keys(chosen)]
        scores_store(checkpoint=made, rows=rows, parts={rows[0][0]: {"attributes": {"help": 1.5}}}, extra=extra)
    scores_store(checkpoint=made, rows=[(pk, -1.0) for pk in keys(dataset)[:3]], extra=PERSON)
    return made


def keys(dataset: Dataset) -> list[int]:
    return list(Response.objects.filter(example__dataset=dataset).order_by("pk").values_list("pk", flat=True))


def api_client(project: Project, role: Role = Role.VIEWER) -> Client:
    secret = uuid.uuid4().hex
    ApiTokenFactory(user=MembershipFactory(project=project, role=role).user, secret=secret)
    return Client(headers={"authorization": f"Token {secret}"})


def asked(checkpoint: Checkpoint, **query: Any) -> Any:
    address = reverse("rmeval-api:checkpoint-scores", args=[checkpoint.uid])
    return api_client(checkpoint.reward_model.project).get(address, query)


def rows_of(response: Any) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.content
    return [json.loads(line) for line in b"".join(response.streaming_content).splitlines()]


def test_every_score_comes_back_once(checkpoint: Checkpoint, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selector, "CHUNK", 5)
    rows = rows_of(asked(checkpoint))
    stored = {str(uid): value for uid, value in plain(checkpoint).values_list("response__uid", "value")}
    assert len(rows) == len(stored) > 20
    assert {row["response"]: row["score"] for row in rows} == stored
    first = Response.objects.get(pk=keys(dataset)[0])
    assert rows[0] == {
        "response": str(first.uid),
        "example": str(first.example.uid),
        "dataset": str(dataset.uid),
        "number": 0,
        "source_model": first.source_model,
        "score": first.pk / 3,
        "extra": "",
        "parts": '{"attributes": {"help": 1.5}}',
    }
    assert rows[1]["parts"] == ""
    one = rows_of(asked(checkpoint, dataset=str(dataset.uid)))
    assert [row["response"] for row in one] == [row["response"] for row in rows if row["dataset"] == str(dataset.uid)]


def test_no_chunk_reads_either_table_from_its_start(
    checkpoint: Checkpoint, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what another checkpoint gave the same responses nothing is told."""
    other = CheckpointFactory(reward_model__project=dataset.project)
    scores_store(checkpoint=other, rows=[(pk, 99.0) for pk in keys(dataset)])
    monkeypatch.setattr(selector, "CHUNK", 5)
    with CaptureQueriesContext(connection) as asked_of:
        rows = list(selector.score_rows(checkpoint=checkpoint, dataset=dataset, extra="", with_texts=True))
    assert [row["score"] for row in rows] == [pk / 3 for pk in keys(dataset)]
    chunks = [query["sql"] for query in asked_of if "rmeval_score" in query["sql"]]
    assert len(chunks) == 4
    for last, sql in zip([0, *keys(dataset)[4::5]], chunks, strict=False):
        assert f'"annotator_response"."id" > {last}' in sql
        assert f'"rmeval_score"."response_id" > {last}' in sql


def test_a_dataset_deleted_meanwhile_is_told_to_its_end(
    checkpoint: Checkpoint, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selector, "CHUNK", 5)
    rows = selector.score_rows(checkpoint=checkpoint, dataset=None, extra="", with_texts=False)
    first = next(rows)
    dataset.deleted_at = timezone.now()
    dataset.save()
    assert 1 + len(list(rows)) == plain(checkpoint).count()
    assert first["dataset"] == str(dataset.uid)


def plain(checkpoint: Checkpoint) -> Any:
    return Score.objects.filter(checkpoint=checkpoint, extra="")


def test_texts_stand_beside_their_scores(checkpoint: Checkpoint, dataset: Dataset) -> None:
    rows = rows_of(asked(checkpoint, dataset=str(dataset.uid), texts="1"))
    first = Response.objects.get(pk=keys(dataset)[0])
    assert (rows[0]["prompt"], rows[0]["messages"]) == (first.example.prompt, first.messages)


def test_parquet_holds_the_same_rows(checkpoint: Checkpoint) -> None:
    for texts in ("", "1"):
        response = asked(checkpoint, file="parquet", texts=texts)
        table = pq.read_table(io.BytesIO(b"".join(response.streaming_content)))
        assert table.to_pylist() == rows_of(asked(checkpoint, texts=texts))


def test_rewards_of_one_person_are_asked_for_by_key(checkpoint: Checkpoint, dataset: Dataset) -> None:
    rows = rows_of(asked(checkpoint, extra=PERSON))
    assert [(row["score"], row["extra"]) for row in rows] == [(-1.0, PERSON)] * 3
    told = {"person": {"extra": PERSON, "rater": "r-abc", "n_pairs": 16}}
    RunFactory(project=dataset.project, kind="score", result=told)
    found = selector.given_scores(checkpoint=checkpoint)
    assert [(one.dataset.name, one.n_scored, one.told) for one in found] == [
        ("Pairs", dataset.n_responses, ""),
        ("Pairs", 3, "r-abc, known by 16 pairs"),
        ("Others", 8, ""),
    ]


def test_what_cannot_be_had_is_said(checkpoint: Checkpoint, project: Project) -> None:
    empty = DatasetFactory(project=project, name="Unread")
    foreign = DatasetFactory()
    for query, status, words in (
        ({"dataset": str(empty.uid)}, 409, "has scored nothing in Unread"),
        ({"extra": "person:none"}, 409, "under the key person:none"),
        ({"dataset": str(foreign.uid)}, 422, "no such dataset"),
        ({"dataset": "17"}, 422, "no uid"),
        ({"file": "xlsx"}, 422, "jsonl, parquet"),
    ):
        response = asked(checkpoint, **query)
        assert response.status_code == status
        assert words in response.content.decode()


def test_scores_of_a_deleted_dataset_are_gone(checkpoint: Checkpoint, dataset: Dataset) -> None:
    dataset.deleted_at = timezone.now()
    dataset.save()
    assert {row["dataset"] for row in rows_of(asked(checkpoint))}.isdisjoint({str(dataset.uid)})
    assert [one.dataset.name for one in selector.given_scores(checkpoint=checkpoint)] == ["Others"]


@pytest.mark.parametrize("file", ["jsonl", "parquet"])
def test_an_export_is_what_the_import_takes(checkpoint: Checkpoint, project: Project, file: str) -> None:
    """And one person's rewards are refused there, by line."""
    copy = reward_model_register(project=project, name="copy", family="score_file", config={}, user=None)
    target = copy.checkpoints.get()
    address = reverse("rmeval-api:checkpoint-scores", args=[target.uid])
    client = api_client(project, Role.RESEARCHER)
    for query, status in (({"texts": "1"}, 201), ({"extra": PERSON}, 422)):
        data = b"".join(asked(checkpoint, file=file, **query).streaming_content)
        response = client.post(address, data, content_type="application/octet-stream")
        assert response.status_code == status, response.content
    assert "one person" in response.json()["detail"]
    given = dict(plain(checkpoint).values_list("response_id", "value"))
    assert dict(Score.objects.filter(checkpoint=target).values_list("response_id", "value")) == given


def test_the_command_writes_the_same_rows(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "scores.jsonl"
    call_command("scores_export", str(checkpoint.reward_model.uid), "--output", str(out))
    rows = rows_of(asked(checkpoint))
    assert [json.loads(line) for line in out.read_bytes().splitlines()] == rows
    assert list(tmp_path.iterdir()) == [out]
    standard = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(standard))
    call_command("scores_export", str(checkpoint.uid))
    assert standard.getvalue() == out.read_bytes()
    for more, words in ((["--extra", "x"], "scored nothing"), (["--output", str(tmp_path / "no" / "f")], "No such")):
        with pytest.raises(CommandError, match=words):
            call_command("scores_export", str(checkpoint.uid), *more)


def test_an_output_that_takes_no_more_leaves_nothing_behind(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a reader that has had enough see a traceback."""
    for output in ("", str(tmp_path)):
        with pytest.raises(CommandError, match="is no file"):
            call_command("scores_export", str(checkpoint.uid), "--output", output)
    monkeypatch.setattr(selector, "_told", lambda *_: {"odd": {1}})  # which JSON cannot hold
    with pytest.raises(TypeError):
        call_command("scores_export", str(checkpoint.uid), "--output", str(tmp_path / "scores.jsonl"))
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    reader, writer = os.pipe()
    os.close(reader)
    with io.TextIOWrapper(os.fdopen(writer, "wb")) as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        call_command("scores_export", str(checkpoint.uid))


def test_the_page_tells_what_is_there(checkpoint: Checkpoint, dataset: Dataset) -> None:
    client = client_of(dataset.project, Role.VIEWER)
    given = reverse("rmeval:scores-given", args=[checkpoint.uid])
    assert given in client.get(reverse("rmeval:checkpoint-files", args=[checkpoint.uid])).content.decode()
    page = client.get(given).content.decode()
    assert "Pairs" in page
    assert "Others" in page
    assert "Whose rewards" in page
    link = reverse("rmeval-api:checkpoint-scores", args=[checkpoint.uid]) + f"?dataset={dataset.uid}"
    assert link in page
    assert rows_of(client.get(link))
    assert f"{dataset.n_responses} of {dataset.n_responses}" in page
    Score.objects.all().delete()
    assert "None yet." in client.get(given).content.decode()
