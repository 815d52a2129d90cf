"""The training form asks for what the chosen objective takes, and offers what fits the family."""

import pytest
from django.test import Client
from django.urls import reverse

from annotator.models import Dataset, Project
from rmeval.models import Run
from rmeval.services.reward_models import reward_model_register
from rmeval.training_form import train_form
from tests.factories import MembershipFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def model(project: Project):
    return reward_model_register(
        project=project, name="m", family="scalar_head", config={"backbone": "tiny-encoder"}, user=None
    )


@pytest.fixture
def lead(project: Project, client: Client) -> Client:
    client.force_login(MembershipFactory(project=project, role="lead").user)
    return client


def test_only_objectives_that_fit_are_offered(model) -> None:
    offered = [value for value, _ in train_form(model).fields["objective"].choices]
    assert offered[0] == "auto"
    assert {"bradley_terry", "margin_bt", "scaled_bt"} <= set(offered)
    assert "step_bce" not in offered
    assert "mixture_nll" not in offered


def test_choosing_an_objective_brings_its_settings(model, lead: Client) -> None:
    url = reverse("rmeval:reward-model-detail", args=[model.uid])
    page = lead.get(url).content.decode()
    assert "objective_config__label_smoothing" in page
    part = lead.get(url, {"part": "objective", "objective": "margin_bt"}, headers={"HX-Request": "true"})
    text = part.content.decode()
    assert "objective_config__scale" in text
    assert "Reward units to one step" in text
    assert "label_smoothing" not in text
    assert "<html" not in text


def test_what_was_filled_in_reaches_the_run(model, dataset: Dataset, lead: Client) -> None:
    url = reverse("rmeval:reward-model-train", args=[model.uid])
    filled = {
        "source": f"dataset:{dataset.uid}",
        "objective": "margin_bt",
        "objective_config__scale": "2.5",
        "objective_config__unknown_strength": "drop",
    }
    answer = lead.post(url, filled)
    assert answer.status_code == 302
    spec = Run.objects.get().spec
    assert spec["objective"] == "margin_bt"
    assert spec["objective_config"] == {"scale": 2.5, "unknown_strength": "drop"}


def test_left_alone_the_family_decides(model, dataset: Dataset, lead: Client) -> None:
    url = reverse("rmeval:reward-model-train", args=[model.uid])
    assert lead.post(url, {"source": f"dataset:{dataset.uid}"}).status_code == 302
    assert Run.objects.get().spec["objective"] == "auto"


def test_a_wrong_setting_is_told_and_nothing_starts(model, dataset: Dataset, lead: Client) -> None:
    url = reverse("rmeval:reward-model-train", args=[model.uid])
    filled = {"source": f"dataset:{dataset.uid}", "objective": "margin_bt", "objective_config__scale": "-1"}
    answer = lead.post(url, filled)
    assert answer.status_code == 422
    text = answer.content.decode()
    assert "greater than 0" in text
    assert 'value="-1"' in text or 'value="-1.0"' in text
    assert not Run.objects.exists()
