"""The page that imports scores from a file: from registering the model to counts, and rows refused by line."""

import json
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from annotator.models import Dataset, Project, Response, Role
from rmeval.models import Checkpoint, RewardModel, Score
from tests.factories import DatasetFactory
from tests.rmeval.test_evaluation import baseline
from tests.rmeval.test_pages import client_of
from tests.rmeval.test_score_files import checkpoint, lines, stored  # noqa: F401 - a fixture

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("sent")]


@pytest.fixture
def researcher(project: Project) -> Client:
    return client_of(project, Role.RESEARCHER)


def page_of(made: Checkpoint) -> str:
    return reverse("rmeval:scores-import", args=[made.uid])


def send(client: Client, made: Checkpoint, data: bytes, **rest: Any) -> Any:
    return client.post(page_of(made), {"file": SimpleUploadedFile("scores.jsonl", data), **rest})


def test_registering_leads_to_the_file(project: Project, dataset: Dataset, researcher: Client) -> None:
    register = reverse("rmeval:reward-model-create", args=[project.uid]) + "?family=score_file"
    answer = researcher.post(register, {"name": "From elsewhere", "origin": "a larger one"})
    made = RewardModel.objects.get().checkpoints.get()
    assert answer["Location"] == page_of(made)
    download = reverse("rmeval:responses-to-score", args=[made.uid, dataset.uid])
    assert download in researcher.get(page_of(made)).content.decode()
    told = [json.loads(line) for line in researcher.get(download).getvalue().splitlines()]
    assert len(told) == Response.objects.filter(example__dataset=dataset).count()
    assert set(told[0]) == {"response", "prompt", "messages"}
    answer = send(researcher, made, lines(*({"response": one["response"], "score": 0.5} for one in told)))
    assert answer.status_code == 200
    assert f"<b>scores.jsonl:</b> {len(told)} rows read; {len(told)} responses got a score" in answer.content.decode()
    assert researcher.get(download).getvalue() == b""
    assert download not in researcher.get(page_of(made)).content.decode()
    model = researcher.get(reverse("rmeval:reward-model-detail", args=[made.reward_model.uid])).content.decode()
    assert page_of(made) in model
    assert "a rule" not in model


def test_rows_refused_stand_by_line(
    checkpoint: Checkpoint,  # noqa: F811
    dataset: Dataset,
    researcher: Client,
) -> None:
    first, second = Response.objects.filter(example__dataset=dataset).order_by("pk")[:2]
    rows = [
        {"response": str(first.uid), "score": 1},
        {"response": str(second.uid), "score": "high"},
        b"{",
        {"score": 1},
    ]
    answer = send(researcher, checkpoint, lines(*rows), dataset=str(dataset.uid))
    page = answer.content.decode()
    assert answer.status_code == 200
    assert "1 response got a score, 0 had this very score already, 3 rows refused" in page
    assert "is not a finite number" in page
    assert page.index(">2</td>") < page.index(">3</td>") < page.index(">4</td>")
    assert stored(checkpoint) == {first.pk: 1.0}


def test_a_file_without_a_good_row_is_refused(checkpoint: Checkpoint, researcher: Client) -> None:  # noqa: F811
    for data, said in ((b"", "id_file"), (b"score\n1\n", "name the response by"), (b"\xff\xfe\x00", "id_file")):
        answer = send(researcher, checkpoint, data)
        assert answer.status_code == 422, data
        assert said in answer.content.decode(), data
    assert "id_file" in researcher.post(page_of(checkpoint), {}).content.decode()
    assert not Score.objects.exists()


def test_only_where_scores_come_from_a_file(
    project: Project,
    checkpoint: Checkpoint,  # noqa: F811
    researcher: Client,
) -> None:
    assert researcher.get(page_of(baseline(project))).status_code == 409
    viewer = client_of(project, Role.VIEWER)
    assert viewer.get(page_of(checkpoint)).status_code == 403
    model = reverse("rmeval:reward-model-detail", args=[checkpoint.reward_model.uid])
    assert page_of(checkpoint) not in viewer.get(model).content.decode()
    assert viewer.get(model, headers={"HX-Request": "true"}).status_code == 200
    elsewhere = DatasetFactory()
    assert researcher.get(reverse("rmeval:responses-to-score", args=[checkpoint.uid, elsewhere.uid])).status_code == 404
