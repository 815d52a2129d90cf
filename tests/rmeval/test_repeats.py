"""What a run's page shows is enough to repeat it, and its button does: the same weights, the same figures."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotator.models import Dataset, Preference, Project, Role
from rmeval.models import Checkpoint, Run
from rmeval.repeats import compared_with_parent, figures_of
from rmeval.services.reward_models import reward_model_register
from rmeval.services.submission import run_submit
from tests.rmeval.test_pages import client_of
from workers.tasks import run_job

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("sent")]


def worked(run: Run) -> Run:
    run_job(str(run.uid))
    run.refresh_from_db()
    assert run.state == "done", run.error
    return run


@pytest.fixture
def trained(project: Project, dataset: Dataset) -> Run:
    config = {"backbone": "tiny-encoder", "max_length": 64}
    model = reward_model_register(project=project, name="m", family="scalar_head", config=config, user=None)
    spec: dict[str, Any] = {"reward_model": str(model.uid), "source": {"dataset": str(dataset.uid)}, "seed": 7}
    spec |= {"epochs": 2, "batch_pairs": 2, "validation_share": 0.34, "learning_rate": 1e-3, "freeze_backbone": False}
    return worked(run_submit(project=project, kind="train_rm", spec=spec, user=None, now=timezone.now(), enqueue=False))


def again(run: Run, client: Client) -> Run:
    answer = client.post(reverse("rmeval:run-retry", args=[run.uid]))
    assert answer.status_code == 302
    return worked(Run.objects.exclude(pk=run.pk).latest("pk"))


def test_the_button_repeats_to_the_same_weights(trained: Run, project: Project) -> None:
    client = client_of(project, Role.RESEARCHER)
    page = client.get(reverse("rmeval:run-detail", args=[trained.uid])).content.decode()
    repeat = page[page.index('id="repeat"') :]
    environment = trained.environment
    for shown in (environment["data"]["sha256"], environment["commit"], environment["versions"]["torch"], "<code>7<"):
        assert shown in repeat
    assert "Repeat this run" in repeat
    second = again(trained, client)
    assert second.spec == trained.spec
    sums = [Checkpoint.objects.get(run=run).sha256 for run in (trained, second)]
    assert sums[0] == sums[1] != ""
    assert figures_of(second.result) == figures_of(trained.result)
    shown = client.get(reverse("rmeval:run-detail", args=[second.uid])).content.decode()
    for words in ("same data", "same weights", "same figures"):
        assert f">{words}</span>" in shown
    assert compared_with_parent(trained) == []


def test_the_two_hashes_of_data_are_told_apart(trained: Run, project: Project) -> None:
    """Of the source, and of what the model read of it; a run of before calls the second by its old name."""
    client, result = client_of(project, Role.RESEARCHER), dict(trained.result or {})
    source, encoded = trained.environment["data"]["sha256"], result["encoded_sha256"]
    assert source != encoded
    assert "data_sha256" not in result
    address = reverse("rmeval:run-detail", args=[trained.uid])
    for name in ("encoded_sha256", "data_sha256"):
        told = {**{k: v for k, v in result.items() if k != "encoded_sha256"}, name: encoded}
        Run.objects.filter(pk=trained.pk).update(result=told)
        page = client.get(address).content.decode()
        assert f'{source}</code> <span class="muted">of the source' in page
        assert f'{encoded}</code> <span class="muted">of what the model was given' in page
        assert figures_of(told) == figures_of(result)
    assert figures_of({**result, "encoded_sha256": "other"}) != figures_of(result)


def test_a_repetition_on_other_data_says_so(trained: Run, dataset: Dataset, project: Project) -> None:
    changed = Preference.objects.filter(dataset=dataset, verdict="a").order_by("pk").first()
    Preference.objects.filter(pk=changed.pk).update(verdict="b")
    second = again(trained, client_of(project, Role.RESEARCHER))
    told = {found.words: found.is_same for found in compared_with_parent(second)}
    assert told["other data"] is False
    assert told["other weights"] is False


def test_only_figures_are_compared() -> None:
    first = {"seconds": 1.0, "loss": 0.5, "runs": [{"seconds": 2, "value": 1}], "checkpoint": "a"}
    second = {"seconds": 9.0, "loss": 0.5, "runs": [{"seconds": 3, "value": 1}], "checkpoint": "b"}
    assert figures_of(first) == figures_of(second) == {"loss": 0.5, "runs": [{"value": 1}]}
