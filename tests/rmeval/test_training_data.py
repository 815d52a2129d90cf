"""A model that is measured on what it learnt from is marked, on the leaderboard, in REST and where two are compared."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotator.models import Dataset, Project, Role
from rmeval.models import Checkpoint, Evaluation, RewardModel, Run
from rmeval.selectors.training_data import learnt_from
from rmeval.sources import PairSource
from tests.factories import DatasetFactory, SnapshotFactory, member
from tests.rmeval.conftest import fill
from tests.rmeval.test_evaluation import baseline

pytestmark = pytest.mark.django_db


def made(project: Project, name: str, config: dict[str, Any] | None = None, **spec: Any) -> Checkpoint:
    model = RewardModel.objects.create(project=project, name=name, family="scalar_head", config=config or {})
    run = Run.objects.create(project=project, kind="train_rm", spec=spec, state="done")
    return Checkpoint.objects.create(reward_model=model, number=1, run=run)


def test_what_went_into_a_checkpoint(project: Project, dataset: Dataset, django_assert_max_num_queries: Any) -> None:
    elsewhere = {"dataset": str(DatasetFactory(project=project).uid)}
    snapshot = SnapshotFactory(queue__dataset=dataset)
    direct = made(project, "direct", source={"dataset": str(dataset.uid), "edits": True})
    judged = made(project, "judged", source={"snapshot": str(snapshot.uid)})
    staged = made(project, "staged", source=elsewhere, start_from=str(direct.uid))
    later = made(project, "later", source=elsewhere, start_from=str(staged.uid))
    samples = made(project, "samples", source=elsewhere, objective_config={"samples": {"dataset": str(dataset.uid)}})
    joined = made(project, "joined", {"members": [str(later.uid), "gone"]}, source=elsewhere)
    clean = made(project, "clean", source=elsewhere)
    rule = baseline(project)
    asked = list(Checkpoint.objects.select_related("run", "reward_model").order_by("pk"))
    with django_assert_max_num_queries(6):
        found = learnt_from(PairSource(dataset=dataset), asked)
    assert found == {c.pk for c in (direct, judged, staged, later, samples, joined)}
    assert not {clean.pk, rule.pk} & found
    assert learnt_from(PairSource(snapshot=snapshot), [judged, clean]) == {judged.pk}


def test_the_pages_and_rest_say_it(project: Project, client: Client) -> None:
    dataset = fill(DatasetFactory(project=project))
    trained = made(project, "Mine", source={"dataset": str(dataset.uid)})
    endpoint = RewardModel.objects.create(project=project, name="Far", family="endpoint", config={})
    asked = Checkpoint.objects.create(reward_model=endpoint, number=1)
    for checkpoint in (trained, asked, baseline(project)):
        Evaluation.objects.create(
            project=project, checkpoint=checkpoint, dataset=dataset, n_pairs=6, metrics={}, updated_at=timezone.now()
        )
    client.force_login(member(project, Role.VIEWER))
    page = client.get(reverse("rmeval:leaderboard", args=[dataset.uid])).content.decode()
    assert page.count("trained on it</span>") == 1
    assert page.count(">baseline</span>") == 1
    told = client.get(reverse("rmeval-api:leaderboard", args=[dataset.uid])).json()["rows"]
    assert {row["name"]: (row["has_learnt_from_it"], row["is_baseline"]) for row in told} == {
        "Mine #1": (True, False),
        "Far #1": (False, False),
        "length #1": (False, True),
    }
