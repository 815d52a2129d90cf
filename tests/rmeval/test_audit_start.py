"""The page that starts a label audit, and the pages that lead to it."""

import pytest
from django.test import Client
from django.urls import reverse

from annotator.models import Dataset, Project, Role
from rmeval.models import RewardModel, Run
from tests.factories import DatasetFactory, PreferenceFactory
from tests.rmeval.conftest import fill
from tests.rmeval.test_audit import fill_noisy, model_of
from tests.rmeval.test_pages import client_of
from workers.tasks import run_job

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("sent")]


@pytest.fixture
def researcher(project: Project) -> Client:
    return client_of(project, Role.RESEARCHER)


@pytest.fixture
def noisy(project: Project) -> Dataset:
    return fill_noisy(DatasetFactory(project=project, name="Noisy"))


def address(project: Project) -> str:
    return reverse("rmeval:audit-create", args=[project.uid])


def test_from_the_dataset_to_suspects(project: Project, noisy: Dataset, researcher: Client) -> None:
    model = model_of(project)
    link = f"{address(project)}?source=dataset:{noisy.uid}"
    assert link in researcher.get(reverse("annotator:dataset-detail", args=[noisy.uid])).content.decode()
    assert link in researcher.get(reverse("rmeval:leaderboard", args=[noisy.uid])).content.decode()
    assert f"{address(project)}?reward_model={model}" in (
        researcher.get(reverse("rmeval:reward-model-detail", args=[model])).content.decode()
    )
    form = researcher.get(link).content.decode()
    assert f'<option value="dataset:{noisy.uid}" selected>' in form
    assert 'name="members" value="10"' in form
    body = {"source": f"dataset:{noisy.uid}", "reward_model": model, "members": "3", "epochs": "1", "seeds": ""}
    answer = researcher.post(address(project), body)
    run = Run.objects.get(kind="audit_labels")
    assert answer["Location"] == reverse("rmeval:run-detail", args=[run.uid])
    assert (run.spec["members"], run.spec["suspect_share"], run.spec["reannotated"]) == (3, 0.1, None)
    run_job(str(run.uid))
    assert "Suspects" in researcher.get(answer["Location"]).content.decode()


def test_a_refused_audit_says_why_at_its_top(project: Project, noisy: Dataset, researcher: Client) -> None:
    answer = researcher.post(address(project), {"source": "", "members": "5"})
    assert answer.status_code == 422
    assert '<a href="#id_source">Labels of</a>: This field is required.' in answer.content.decode()
    body = {"source": f"dataset:{noisy.uid}", "members": "2", "token_budget": "3"}
    page = researcher.post(address(project), body).content.decode()
    assert '<a href="#id_members">Members</a>' in page
    assert '<a href="#id_token_budget">Token budget</a>' in page
    assert '<details class="advanced" open>' in page
    elsewhere = fill_noisy(DatasetFactory(name="Another project's"))
    answer = researcher.post(address(project), {"source": f"dataset:{elsewhere.uid}"})
    assert answer.status_code == 422
    assert "Another project" not in answer.content.decode()
    assert not Run.objects.exists()


def test_too_few_pairs_are_refused_before_the_run(project: Project, researcher: Client) -> None:
    few = fill(DatasetFactory(project=project, name="Few"), n=19)
    page = researcher.post(address(project), {"source": f"dataset:{few.uid}", "members": "5"})
    assert page.status_code == 422
    assert "Few has 19 pairs with a chosen and a rejected response; 20 are needed." in page.content.decode()
    assert not Run.objects.exists()


def test_only_families_with_features_are_offered(project: Project, noisy: Dataset, researcher: Client) -> None:
    RewardModel.objects.create(project=project, name="by length", family="length", config={})
    gone = RewardModel.objects.create(project=project, name="of old", family="gone", config={})
    fits = model_of(project)
    page = researcher.get(address(project)).content.decode()
    assert f'value="{fits}"' in page
    assert "by length" not in page
    assert "of old" not in page
    assert researcher.get(reverse("rmeval:reward-model-detail", args=[gone.uid])).status_code == 200


def test_without_labels_the_page_says_what_to_do(project: Project, researcher: Client) -> None:
    page = researcher.get(address(project)).content.decode()
    assert "No labels to audit yet" in page
    assert "Start the audit" not in page


def test_ties_alone_are_called_ties(project: Project, researcher: Client) -> None:
    tied = DatasetFactory(project=project, name="Tied", n_preferences=2)
    for _ in range(2):
        PreferenceFactory(example__dataset=tied, verdict="tie")
    page = researcher.post(address(project), {"source": f"dataset:{tied.uid}", "members": "5"}).content.decode()
    assert "Tied has no preferences: all of its 2 pairs are ties or both bad." in page
