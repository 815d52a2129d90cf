"""Imports of public reward models on the database: what is refused at once, and what a run makes."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotator.errors import DomainError, InvalidInput
from annotator.models import Dataset, Project, Role
from rmeval.models import Checkpoint, RewardModel, Run, Score
from rmeval.services.reward_models import reward_model_register
from rmeval.services.submission import run_submit
from tests.rmeval.test_pages import client_of
from tests.workers.test_import_public_heads import armorm_head, public
from tests.workers.test_import_rm import hf_folder
from workers.errors import JobError
from workers.tasks import run_job

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("sent")]


@pytest.fixture
def lead(project: Project) -> Client:
    return client_of(project, Role.LEAD)


def submit(project: Project, **spec: Any) -> Run:
    return run_submit(project=project, kind="import_rm", spec=spec, user=None, now=timezone.now(), enqueue=False)


def test_from_the_page_to_scores(
    project: Project, dataset: Dataset, lead: Client, tmp_path: Path, settings: Any
) -> None:
    settings.MODEL_DIRS = [tmp_path]
    folder = hf_folder(tmp_path / "hf", "Bert", num_labels=1)
    url = reverse("rmeval:reward-model-import", args=[project.uid])
    assert "safetensors" in lead.get(url).content.decode()
    answer = lead.post(url, {"model": str(folder), "name": "Public", "family": "auto", "max_length": "128"})
    run = Run.objects.get()
    assert answer["Location"] == reverse("rmeval:run-detail", args=[run.uid])
    run_job(str(run.uid))
    run.refresh_from_db()
    assert run.state == "done", run.error
    model = RewardModel.objects.get()
    assert (model.name, model.family, model.config["head_depth"]) == ("Public", "scalar_head", 2)
    checkpoint = Checkpoint.objects.get()
    assert (checkpoint.reward_model, checkpoint.run, run.reward_model) == (model, run, model)
    assert checkpoint.metrics["imported_from"]["class"] == "BertForSequenceClassification"
    spec = {"checkpoint": str(checkpoint.uid), "source": {"dataset": str(dataset.uid)}}
    scoring = run_submit(project=project, kind="score", spec=spec, user=None, now=timezone.now(), enqueue=False)
    run_job(str(scoring.uid))
    assert Score.objects.filter(checkpoint=checkpoint).count() == dataset.n_responses
    refused = lead.post(url, {"model": str(folder), "name": "Public"})
    assert refused.status_code == 422
    assert "already has a reward model named Public" in refused.content.decode()


def test_armorm_through_the_page_tells_its_attributes(
    project: Project, dataset: Dataset, lead: Client, tmp_path: Path, settings: Any
) -> None:
    settings.MODEL_DIRS = [tmp_path]
    folder, _ = public(tmp_path / "hf", "LlamaForRewardModelWithGating", armorm_head(k=3, n_hidden=2))
    url = reverse("rmeval:reward-model-import", args=[project.uid])
    page = lead.get(url).content.decode()
    assert all(
        f'name="{field}"' in page
        for field in ("attributes", "step_mark", "step_answer", "right_token", "chat_template")
    )
    named = {"model": str(folder), "name": "Armo", "family": "auto", "attributes": '["wit", "tact", "verbosity"]'}
    assert lead.post(url, {**named, "max_length": "128"}).status_code == 302
    run = Run.objects.get()
    run_job(str(run.uid))
    run.refresh_from_db()
    assert run.state == "done", run.error
    checkpoint = Checkpoint.objects.get()
    assert checkpoint.reward_model.config["attributes"] == ["wit", "tact", "verbosity"]
    spec = {"checkpoint": str(checkpoint.uid), "source": {"dataset": str(dataset.uid)}}
    scoring = run_submit(project=project, kind="score", spec=spec, user=None, now=timezone.now(), enqueue=False)
    run_job(str(scoring.uid))
    score = Score.objects.filter(checkpoint=checkpoint).first()
    assert score is not None
    told = sum(score.parts["coefficients"][name] * value for name, value in score.parts["rewards"].items())
    assert told == pytest.approx(score.value, abs=1e-4)


def test_from_the_command_line(project: Project, tmp_path: Path, settings: Any) -> None:
    settings.MODEL_DIRS = [tmp_path]
    spec = {"model": str(hf_folder(tmp_path / "hf", "Bert", num_labels=1)), "name": "Typed"}
    out = io.StringIO()
    call_command("run", "import_rm", spec=json.dumps(spec), project=project.name, inline=True, stdout=out)
    told = json.loads(out.getvalue())
    assert told["state"] == "done", told
    assert Checkpoint.objects.get().reward_model.name == "Typed"


def test_a_folder_that_is_not_open_is_refused(project: Project, tmp_path: Path, settings: Any, lead: Client) -> None:
    settings.MODEL_DIRS = [tmp_path / "models"]
    folder = hf_folder(tmp_path / "elsewhere", "Bert", num_labels=1)
    for name in (str(folder), "/etc", str(tmp_path / "models" / ".." / "elsewhere")):
        with pytest.raises(InvalidInput, match="not open to this site") as refused:
            submit(project, model=name)
        assert refused.value.errors[0].pointer == "/spec/model"
    page = lead.post(reverse("rmeval:reward-model-import", args=[project.uid]), {"model": str(folder)})
    assert page.status_code == 422
    assert '<a href="#id_model">Model</a>: The folder' in page.content.decode()
    assert not Run.objects.exists()


def test_names_are_free_at_submission_and_when_the_model_is_made(project: Project, tmp_path: Path) -> None:
    folder = hf_folder(tmp_path / "hf", "Bert", num_labels=1)
    run = submit(project, model=str(folder))
    reward_model_register(project=project, name="hf", family="length", config={}, user=None)
    with pytest.raises(DomainError, match="already has a reward model named hf"):
        submit(project, model=str(folder))
    with pytest.raises(JobError, match="already has a reward model named hf"):
        run_job(str(run.uid))
    assert RewardModel.objects.count() == 1
    assert not Checkpoint.objects.filter(run=run).exists()


def test_a_repeated_attempt_makes_no_second_model(project: Project, tmp_path: Path) -> None:
    from rmeval.job_context import DatabaseJobContext
    from rmeval.report import RunReport

    submit(project, model=str(hf_folder(tmp_path / "hf", "Bert", num_labels=1)))
    uids = []
    for _ in range(2):
        run = Run.objects.get()
        ctx = DatabaseJobContext(run, RunReport(run))
        uids.append(ctx.make_reward_model(name="hf", family="length", config={}).uid)
    assert uids[0] == uids[1]
    assert RewardModel.objects.count() == 1
