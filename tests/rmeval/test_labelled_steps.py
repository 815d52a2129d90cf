"""From a file with labelled steps or reference answers to a trained reward model and its scores in the database."""

import hashlib
import io
import json
from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone

from annotator.models import Dataset, Project, Role
from annotator.services.datasets import ImportRequest
from annotator.services.uploads import dataset_import_file
from rmeval.labelled import labelled_sha256, stream_labelled
from rmeval.models import Run, Score
from rmeval.services.reward_models import reward_model_register
from rmeval.services.submission import run_submit
from rmeval.sources import PairSource, reference_of
from tests.rmeval.test_pages import client_of
from workers.data.rows import Limits
from workers.tasks import run_job

pytestmark = [pytest.mark.django_db(transaction=True)]


def imported(project: Project, rows: list[dict[str, Any]]) -> Dataset:
    raw = "\n".join(json.dumps(row) for row in rows).encode()
    dataset = dataset_import_file(
        project=project,
        user=None,
        request=ImportRequest(name="labelled", source_name="labelled.jsonl"),
        stream=io.BytesIO(raw),
        limits=Limits(),
        clock=timezone.now,
    )
    assert dataset.state == "ready", dataset.failure
    return dataset


def run(project: Project, kind: str, **spec: Any) -> Run:
    made = run_submit(project=project, kind=kind, spec=spec, user=None, now=timezone.now(), enqueue=False)
    run_job(str(made.uid))
    made.refresh_from_db()
    assert made.state == "done", made.error
    return made


def trained_and_scored(dataset: Dataset, family: str) -> list[Score]:
    model = reward_model_register(
        project=dataset.project, name=family, family=family, config={"backbone": "tiny-causal"}, user=None
    )
    source = {"dataset": str(dataset.uid)}
    trained = run(dataset.project, "train_rm", reward_model=str(model.uid), source=source, max_steps=2)
    run(dataset.project, "score", checkpoint=trained.result["checkpoint"], source=source)
    return list(Score.objects.order_by("response_id"))


def test_steps_go_all_the_way(project: Project, sent: list[tuple[str, str]]) -> None:
    rows = [
        {"prompt": f"q {i}", "steps": ["one", "two", "three"], "step_labels": [1, i % 2, None], "correct": i % 2}
        for i in range(12)
    ]
    dataset = imported(project, rows)
    found = list(stream_labelled(PairSource(dataset=dataset)))
    assert [row.step_labels for row in found[:2]] == [[1.0, 0.0, None], [1.0, 1.0, None]]
    assert [row.ratings["correct"] for row in found[:2]] == [0.0, 1.0]
    scores = trained_and_scored(dataset, "process")
    assert len(scores) == 12
    for score in scores:
        assert [step["text"] for step in score.parts["steps"]] == ["one", "two", "three"]
        assert min(step["probability"] for step in score.parts["steps"]) == pytest.approx(score.value, abs=1e-6)


def test_references_go_all_the_way(project: Project, sent: list[tuple[str, str]]) -> None:
    rows = [
        {"question": f"{i}+1?", "reference_answer": i + 1, "responses": [
            {"text": f"It is {i + 1}.", "correct": 1}, {"text": f"It is {i + 2}.", "correct": False}]}
        for i in range(12)
    ]  # fmt: skip
    dataset = imported(project, rows)
    found = list(stream_labelled(PairSource(dataset=dataset)))
    assert found[0].reference == [{"role": "assistant", "content": "1"}]
    assert [row.ratings["correct"] for row in found[:2]] == [1.0, 0.0]
    scores = trained_and_scored(dataset, "reference_verifier")
    assert len(scores) == 24
    assert all(0 < score.parts["probability"] < 1 for score in scores)


def test_the_hash_of_labelled_data_covers_texts_labels_and_references(project: Project) -> None:
    """Steps without any pair are data too: another label, step, rating or reference is another hash."""
    rows = [
        {"prompt": f"q {i}", "steps": ["one", "two"], "step_labels": [1, 0], "correct": 1, "reference_answer": "2"}
        for i in range(3)
    ]
    source = PairSource(dataset=imported(project, rows))
    known = labelled_sha256(source)
    assert labelled_sha256(source) == known
    assert not source.pairs().exists()
    response = source.responses().earliest("pk")
    before = response.meta
    for change in ({"step_labels": [1, 1]}, {"steps": ["one", "2"]}, {"correct": 0}, {"quality": 3}):
        response.meta = {**before, **change}
        response.save()
        assert labelled_sha256(source) != known, change
    response.meta = {**before, "source": "a name is no label"}
    response.save()
    assert labelled_sha256(source) == known
    response.example.meta = {"reference": "3"}
    response.example.save()
    assert labelled_sha256(source) != known


def test_a_run_keeps_the_hash_of_the_labels_that_it_read(project: Project, sent: list[tuple[str, str]]) -> None:
    rows = [{"prompt": f"q {i}", "steps": ["one", "two"], "step_labels": [1, i % 2]} for i in range(12)]
    dataset = imported(project, rows)
    model = reward_model_register(
        project=project, name="m", family="process", config={"backbone": "tiny-causal"}, user=None
    )
    source = {"dataset": str(dataset.uid)}
    trained = run(project, "train_rm", reward_model=str(model.uid), source=source, max_steps=1)
    data = trained.environment["data"]
    assert data["sha256"] == labelled_sha256(PairSource(dataset=dataset))
    assert data["sha256"] != hashlib.sha256().hexdigest()
    page = client_of(project, Role.RESEARCHER).get(reverse("rmeval:run-detail", args=[trained.uid])).content.decode()
    assert f'{data["sha256"]}</code> <span class="muted">of the source: its texts, ratings, steps' in page


@pytest.mark.parametrize(
    ("meta", "text"),
    [
        ({"reference": "a"}, "a"),
        ({"reference_answer": 42}, "42"),
        ({"reference": 0.5}, "0.5"),
        ({"reference": " ", "reference_answer": "b"}, "b"),
        ({"reference": True}, None),
        ({"reference": []}, None),
        ({}, None),
    ],
)
def test_where_a_reference_is_found(meta: dict[str, Any], text: str | None) -> None:
    assert reference_of(meta) == (None if text is None else [{"role": "assistant", "content": text}])
