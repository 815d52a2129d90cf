"""A model that is measured on what it learnt from is marked, wherever its accuracy there is shown."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotator.models import Dataset, Project, Role
from rmeval.models import Checkpoint, Evaluation, RewardModel, Run
from rmeval.selectors.exports import checkpoint_facts
from rmeval.selectors.leaderboards import benchmarks
from rmeval.selectors.training_data import learnt_from, on_training_data, with_training
from rmeval.sources import PairSource
from tests.factories import DatasetFactory, SnapshotFactory, member
from tests.rmeval.conftest import fill
from tests.rmeval.test_evaluation import baseline
from workers.data.model_card import model_card

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


def measured(checkpoint: Checkpoint, accuracy: float, **source: Any) -> Evaluation:
    project = checkpoint.reward_model.project
    spec = {"checkpoint": str(checkpoint.uid), "source": {kind: str(row.uid) for kind, row in source.items()}}
    run = Run.objects.create(project=project, kind="evaluate", spec=spec, state="done")
    metrics = {"accuracy": {"value": accuracy, "low": accuracy - 0.05, "high": accuracy + 0.02, "n": 6}}
    return Evaluation.objects.create(
        project=project, checkpoint=checkpoint, n_pairs=6, metrics=metrics, accuracy=accuracy, run=run, **source
    )


def text_of(client: Client, name: str, uid: Any) -> str:
    answer = client.get(reverse(name, args=[uid]))
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def test_evaluations_of_many_models_and_sources_at_once(project: Project, django_assert_max_num_queries: Any) -> None:
    mine, other = (fill(DatasetFactory(project=project)) for _ in range(2))
    cut = SnapshotFactory(queue__dataset=mine)
    on_mine = made(project, "on mine", source={"dataset": str(mine.uid)})
    on_cut = made(project, "on cut", source={"snapshot": str(cut.uid).upper()})
    later = made(project, "later", source={"dataset": str(other.uid)}, start_from=str(on_cut.uid))
    seen = [
        measured(on_mine, 0.9, dataset=mine),
        measured(on_mine, 0.9, snapshot=cut),
        measured(on_cut, 0.9, dataset=mine),
        measured(later, 0.9, snapshot=cut),
        measured(later, 0.9, dataset=other),
    ]
    new = [measured(on_mine, 0.6, dataset=other), measured(baseline(project), 0.6, dataset=mine)]
    with django_assert_max_num_queries(4):  # evaluations, one stage of parents each, snapshots
        assert on_training_data(with_training(Evaluation.objects.all())) == {row.pk for row in seen}
    assert not {row.pk for row in new} & {row.pk for row in seen}


def test_the_best_of_a_dataset_has_not_learnt_from_it(project: Project, client: Client) -> None:
    board, own = (fill(DatasetFactory(project=project, name=name)) for name in ("Board", "Own"))
    cut = SnapshotFactory(queue__dataset=board, queue__project=project, n_rows=4, state="ready")
    trained = made(project, "Trained", source={"dataset": str(board.uid)})
    also = made(project, "Also", source={"dataset": str(own.uid)})
    measured(trained, 0.968, dataset=board)
    measured(trained, 0.97, snapshot=cut)
    fair = measured(also, 0.712, dataset=board)
    marked = measured(also, 0.991, dataset=own)
    found = {one.source.uid: (one.best, one.best_has_learnt) for one in benchmarks(project=project)}
    assert found[board.uid] == (fair, False)
    assert found[own.uid] == (marked, True)
    assert found[cut.uid][1] is True
    client.force_login(member(project, Role.VIEWER))
    listed = text_of(client, "rmeval:leaderboard-list", project.uid)
    assert "71.2%" in listed
    assert "96.8%" not in listed
    assert listed.count("trained on it</span> <b>") == 2  # of Own and of the snapshot
    assert "Also #1</a> <b>71.2%" in listed
    overview = text_of(client, "annotator:project-detail", project.uid)
    assert '<span class="n">best 71.2%, 6 pairs' in overview
    assert "trained on it</span> best 99.1%, 6 pairs" in overview
    assert "96.8%" not in overview


def test_a_deleted_model_is_nobodys_best(project: Project, dataset: Dataset, client: Client) -> None:
    gone = made(project, "Gone", source={})
    measured(gone, 0.9, dataset=dataset)
    RewardModel.objects.filter(pk=gone.reward_model_id).update(deleted_at=timezone.now())
    client.force_login(member(project, Role.VIEWER))
    overview = text_of(client, "annotator:project-detail", project.uid)
    assert '<span class="n">6 pairs</span>' in overview


def test_the_pages_of_the_model_and_of_the_run_say_it(project: Project, client: Client) -> None:
    own, new = (fill(DatasetFactory(project=project, name=name)) for name in ("Own", "New"))
    trained = made(project, "Mine", source={"dataset": str(own.uid)})
    client.force_login(member(project, Role.VIEWER))
    fair = measured(trained, 0.7, dataset=new)
    assert "trained on it" not in text_of(client, "rmeval:reward-model-list", project.uid)
    marked = measured(trained, 0.97, dataset=own)
    listed = text_of(client, "rmeval:reward-model-list", project.uid)
    assert "97.0%" in listed
    assert listed.count("trained on it</span>") == 1
    page = text_of(client, "rmeval:reward-model-detail", trained.reward_model.uid)
    assert page.count("trained on it</span> <b>97.0%") == 1
    assert page.count("New</a> <b>70.0%") == 1
    shown = reverse("rmeval:reward-model-detail", args=[trained.reward_model.uid]) + "?evaluation="
    counts = [client.get(shown + str(one.uid)).content.decode().count("trained on it") for one in (fair, marked)]
    assert counts == [1, 2]  # in the list, and above the figures of that evaluation
    runs = [text_of(client, "rmeval:run-detail", one.run.uid) for one in (fair, marked) if one.run]
    assert ["trained on it" in page for page in runs] == [False, True]


def test_the_card_of_an_export_says_it(project: Project, django_assert_max_num_queries: Any) -> None:
    own, new = (fill(DatasetFactory(project=project, name=name)) for name in ("Own", "New"))
    trained = made(project, "Mine", source={"dataset": str(own.uid)})
    measured(trained, 0.7, dataset=new)
    assert "trained on it" not in model_card(checkpoint_facts(trained), [])
    measured(trained, 0.968, dataset=own)
    with django_assert_max_num_queries(3):
        facts = checkpoint_facts(trained)
    card = model_card(facts, [])
    assert "| Own (trained on it) | 0.968 | [0.918, 0.988] | 6 |" in card
    assert "| New | 0.700 |" in card
    assert card.count("is no measure of new pairs") == 1
