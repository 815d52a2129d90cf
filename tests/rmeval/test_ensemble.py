"""An ensemble on the database: registered with uids, measured, scored, and shown."""

from typing import Any

import pytest
from django.utils import timezone

from annotator.models import Project
from rmeval.models import Checkpoint, Run, Score
from rmeval.services.reward_models import reward_model_register
from rmeval.services.submission import run_submit
from rmeval.training_form import train_form
from tests.factories import DatasetFactory
from tests.rmeval.conftest import fill
from workers.errors import JobError
from workers.tasks import run_job

pytestmark = [pytest.mark.django_db(transaction=True)]


def test_two_rules_become_one_checkpoint(project: Project, sent: list[tuple[str, str]]) -> None:
    dataset = fill(DatasetFactory(project=project), 12)

    def run(kind: str, **spec: Any) -> Run:
        full = {"source": {"dataset": str(dataset.uid)}, **spec}
        made = run_submit(project=project, kind=kind, spec=full, user=None, now=timezone.now(), enqueue=False)
        run_job(str(made.uid))
        made.refresh_from_db()
        return made

    for unit in ("characters", "words"):
        reward_model_register(project=project, name=unit, family="length", config={"unit": unit}, user=None)
    members = [str(uid) for uid in Checkpoint.objects.order_by("pk").values_list("uid", flat=True)]
    model = reward_model_register(
        project=project, name="both", family="ensemble", config={"members": members}, user=None
    )
    assert train_form(model).fields, "the page offers to measure it"
    done = run("train_rm", reward_model=str(model.uid))
    assert done.state == "done", done.error
    checkpoint = Checkpoint.objects.get(uid=done.result["checkpoint"])
    assert checkpoint.reward_model == model
    scored = run("score", checkpoint=str(checkpoint.uid))
    assert scored.state == "done", scored.error
    parts = Score.objects.filter(checkpoint=checkpoint).values_list("parts", flat=True)
    assert len(parts) == scored.result["n_scored"] >= 24
    assert all(set(part["members"]) == {"1 length", "2 length"} for part in parts)


def test_a_member_that_is_not_there_is_named(project: Project, sent: list[tuple[str, str]]) -> None:
    dataset = fill(DatasetFactory(project=project), 4)
    absent = ["00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"]
    model = reward_model_register(
        project=project, name="absent", family="ensemble", config={"members": absent}, user=None
    )
    spec = {"reward_model": str(model.uid), "source": {"dataset": str(dataset.uid)}}
    made = run_submit(project=project, kind="train_rm", spec=spec, user=None, now=timezone.now(), enqueue=False)
    with pytest.raises(JobError, match="checkpoint of this run is gone"):
        run_job(str(made.uid))
    made.refresh_from_db()
    assert made.state == "failed"
