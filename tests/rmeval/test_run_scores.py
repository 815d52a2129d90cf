"""A finished run that gave scores offers them for download, as its checkpoint's page does."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotator.models import Dataset, Project, Role
from rmeval.models import Checkpoint, RewardModel, Run
from tests.factories import DatasetFactory, RunFactory, SnapshotRowFactory
from tests.rmeval.test_evaluation import baseline, evaluate
from tests.rmeval.test_pages import client_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def viewer(project: Project) -> Client:
    return client_of(project, Role.VIEWER)


def offered(viewer: Client, run: Run) -> str:
    """What the page of a run says of its scores; empty where it offers none."""
    page = viewer.get(reverse("rmeval:run-detail", args=[run.uid])).content.decode()
    return page.partition('id="run-scores"')[2].partition("</p>")[0]


def address(checkpoint: Checkpoint, dataset: Dataset) -> str:
    return f"{reverse('rmeval-api:checkpoint-scores', args=[checkpoint.uid])}?dataset={dataset.uid}"


def test_a_finished_run_offers_its_scores(project: Project, dataset: Dataset, viewer: Client) -> None:
    checkpoint = baseline(project)
    run = evaluate(checkpoint, {"dataset": str(dataset.uid)})
    link = address(checkpoint, dataset)
    given = viewer.get(reverse("rmeval:scores-given", args=[checkpoint.uid])).content.decode()
    for text in (offered(viewer, run), given):
        for ending in ("", "&amp;file=parquet", "&amp;texts=1", "&amp;texts=1&amp;file=parquet"):
            assert f'href="{link}{ending}" download' in text
    assert viewer.get(link).status_code == 200
    model = viewer.get(reverse("rmeval:reward-model-detail", args=[checkpoint.reward_model.uid])).content.decode()
    assert f"{reverse('rmeval:checkpoint-files', args=[checkpoint.uid])}#scores" in model
    dataset.deleted_at = timezone.now()
    dataset.save()
    assert offered(viewer, run) == ""


def test_of_a_reward_model_that_is_gone_none(project: Project, dataset: Dataset, viewer: Client) -> None:
    checkpoint = baseline(project)
    run = evaluate(checkpoint, {"dataset": str(dataset.uid)})
    RewardModel.objects.filter(pk=checkpoint.reward_model_id).update(deleted_at=timezone.now())
    assert viewer.get(address(checkpoint, dataset)).status_code == 404
    assert offered(viewer, run) == ""


def test_of_a_snapshot_those_of_its_dataset(project: Project, viewer: Client) -> None:
    row = SnapshotRowFactory(snapshot__queue__dataset=DatasetFactory(project=project), verdict="b")
    checkpoint = baseline(project, "random")
    run = evaluate(checkpoint, {"snapshot": str(row.snapshot.uid)})
    assert address(checkpoint, row.snapshot.queue.dataset) in offered(viewer, run)


@pytest.mark.parametrize("change", [{"state": "failed"}, {"kind": "train_rm"}, {"checkpoint": "of nobody"}])
def test_other_runs_offer_none(project: Project, dataset: Dataset, viewer: Client, change: dict[str, Any]) -> None:
    checkpoint = baseline(project)
    evaluate(checkpoint, {"dataset": str(dataset.uid)})
    uid = baseline(project, name="scores nothing").uid if "checkpoint" in change else checkpoint.uid
    spec = {"checkpoint": str(uid), "source": {"dataset": str(dataset.uid)}}
    told = {"kind": "score", "state": "done", **{name: value for name, value in change.items() if name != "checkpoint"}}
    assert offered(viewer, RunFactory(project=project, spec=spec, **told)) == ""
