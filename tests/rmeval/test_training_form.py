"""The training form asks for what the chosen objective takes, and offers what fits the family."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotator.errors import InvalidInput
from annotator.models import Dataset, Project
from rmeval.models import RewardModel, Run
from rmeval.services.reward_models import reward_model_register
from rmeval.services.submission import run_submit
from rmeval.training_form import train_form, train_spec
from tests.factories import CheckpointFactory, MembershipFactory
from workers.families import FAMILIES

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


def test_samples_are_a_choice_and_checked_at_once(model, dataset: Dataset, lead: Client, sent: Any) -> None:
    client = lead
    url = reverse("rmeval:reward-model-detail", args=[model.uid])
    part = client.get(url, {"part": "objective", "objective": "meta_bt"}).content.decode()
    assert f'<option value="dataset:{dataset.uid}">' in part
    train = reverse("rmeval:reward-model-train", args=[model.uid])
    body = {"source": f"dataset:{dataset.uid}", "objective": "meta_bt"}
    refused = client.post(train, body)
    assert refused.status_code == 422
    assert '<a href="#id_objective_config__samples">Samples</a>: Set samples' in refused.content.decode()
    assert not Run.objects.exists()
    assert client.post(train, {**body, "objective_config__samples": f"dataset:{dataset.uid}"}).status_code == 302
    assert Run.objects.get().spec["objective_config"] == {"samples": {"dataset": str(dataset.uid)}}


@pytest.mark.parametrize(
    ("spec", "pointer"),
    [
        ({"settings": {"objective": "meta_bt"}, "question": "learning_curve"}, "/spec/settings"),
        ({"arms": [{"name": "a"}, {"name": "b", "settings": {"objective": "meta_bt"}}]}, "/spec/arms/1/settings"),
        ({"question": "grid", "grid": {"objective": ["bradley_terry", "meta_bt"]}}, "/spec/grid"),
    ],
)
def test_samples_of_the_arms_of_a_study(
    project: Project, model, dataset: Dataset, spec: dict[str, Any], pointer: str
) -> None:
    full = {"reward_model": str(model.uid), "source": {"dataset": str(dataset.uid)}, **spec}
    with pytest.raises(InvalidInput) as caught:
        run_submit(project=project, kind="train_study", spec=full, user=None, now=timezone.now(), enqueue=False)
    assert [error.pointer for error in caught.value.errors] == [f"{pointer}/objective_config/samples"]


RATED = {"backbone": "tiny-encoder", "attributes": ["helpfulness", "correctness"]}


@pytest.mark.parametrize(
    ("attributes", "offered"), [([], ["auto", "bradley_terry"]), (["a"], ["auto", "attribute_regression"])]
)
def test_a_solved_head_is_offered_what_it_is_solved_for(
    project: Project, attributes: list[str], offered: list[str]
) -> None:
    config = {"backbone": "tiny-encoder", "attributes": attributes}
    model = reward_model_register(project=project, name="m", family="embedding_linear", config=config, user=None)
    form = train_form(model)
    assert [value for value, _ in form.fields["objective"].choices] == offered
    assert form["objective"].value() == offered[0]


def test_trainings_that_fail_whatever_the_data_are_refused(project: Project, dataset: Dataset) -> None:
    """Not after waiting for a worker."""
    for family, config, objective, pointer, said in (
        ("gated", RATED, "auto", "/spec/start_from", "First train a reward model of the family embedding_linear"),
        ("embedding_linear", RATED, "bradley_terry", "/spec/objective", "for the objective attribute_regression alone"),
        ("embedding_linear", {}, "margin_bt", "/spec/objective", "for the objective bradley_terry alone"),
    ):
        name = f"{family} {objective}"
        full = {"backbone": "tiny-encoder", **config}
        model = reward_model_register(project=project, name=name, family=family, config=full, user=None)
        spec = {"reward_model": str(model.uid), "source": {"dataset": str(dataset.uid)}, "objective": objective}
        with pytest.raises(InvalidInput) as refused:
            run_submit(project=project, kind="train_rm", spec=spec, user=None, now=timezone.now())
        (error,) = refused.value.errors
        assert (error.pointer, said in error.detail) == (pointer, True)
    assert not Run.objects.exists()


@pytest.mark.parametrize("family", [name for name, family in FAMILIES.items() if family.trainable])
def test_the_form_as_shown_asks_for_what_is_usual(family, project: Project, dataset: Dataset) -> None:
    """By page and by REST the same: whether the backbone is frozen is the family's choice unless somebody says."""
    model = RewardModel.objects.create(project=project, name=family, family=family, config={"backbone": "tiny-causal"})
    shown = train_form(model)
    data = {name: value for name in shown.fields if (value := shown[name].value()) not in (None, "")}
    form = train_form(model, {**data, "source": f"dataset:{dataset.uid}"})
    assert form.is_valid(), form.errors
    assert "freeze_backbone" not in train_spec(form, model)
    said = train_form(model, {**data, "source": f"dataset:{dataset.uid}", "freeze_backbone": "false"})
    assert said.is_valid()
    assert train_spec(said, model)["freeze_backbone"] is False


def test_a_start_has_weights_of_the_same_backbone(model, project: Project, dataset: Dataset) -> None:
    fits, other = (
        CheckpointFactory(
            reward_model__project=project, reward_model__config={"backbone": name}, reward_model__name=name, path="x"
        )
        for name in ("tiny-encoder", "tiny-causal")
    )
    rule = reward_model_register(project=project, name="rule", family="length", config={}, user=None).checkpoints.get()
    offered = [value for value, _ in train_form(model).fields["start_from"].choices]
    assert offered == ["", str(fits.uid)]
    for start, words in ((rule, "no weights to start from"), (other, "has the backbone tiny-causal")):
        spec = {
            "reward_model": str(model.uid),
            "source": {"dataset": str(dataset.uid)},
            "start_from": str(start.uid),
        }
        with pytest.raises(InvalidInput, match=words) as refused:
            run_submit(project=project, kind="train_rm", spec=spec, user=None, now=timezone.now(), enqueue=False)
        assert refused.value.errors[0].pointer == "/spec/start_from"
    assert not Run.objects.exists()


def test_keys_of_the_metadata_are_suggested(model, dataset: Dataset) -> None:
    shown = str(train_form(model)["rater_key"])
    assert '<option value="topic">' in shown
