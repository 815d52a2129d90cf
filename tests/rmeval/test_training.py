"""A training run on the database, called as a function: checkpoint, lineage and the evaluations it asked for."""

from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from annotator.errors import InvalidInput
from annotator.models import Dataset, Project
from rmeval.models import Checkpoint, Evaluation, Run, Score
from rmeval.selectors.reward_models import reward_model_lineage
from rmeval.selectors.runs import run_curves, run_log
from rmeval.services.reward_models import reward_model_register
from rmeval.services.submission import run_submit
from tests.factories import DatasetFactory
from tests.rmeval.conftest import fill
from workers.errors import JobError
from workers.tasks import run_job

pytestmark = [pytest.mark.django_db(transaction=True)]


def train(dataset: Dataset, backbone: str = "tiny-encoder", **spec: Any) -> Run:
    model = reward_model_register(
        project=dataset.project,
        name=backbone,
        family="scalar_head",
        config={"backbone": backbone, "max_length": 64},
        user=None,
    )
    full = {"reward_model": str(model.uid), "source": {"dataset": str(dataset.uid)}, "max_steps": 4, **spec}
    run = run_submit(project=dataset.project, kind="train_rm", spec=full, user=None, now=timezone.now(), enqueue=False)
    run_job(str(run.uid))
    run.refresh_from_db()
    return run


def test_from_pairs_to_a_row_on_the_leaderboard(project: Project, sent: list[tuple[str, str]]) -> None:
    dataset = fill(DatasetFactory(project=project), 24)
    run = train(dataset, evaluate_on=[{"dataset": str(dataset.uid)}])
    assert run.state == "done", run.error
    assert run.result is not None
    checkpoint = Checkpoint.objects.get()
    assert run.result["checkpoint"] == str(checkpoint.uid)
    assert (checkpoint.run, checkpoint.number, checkpoint.step) == (run, 1, run.result["kept_step"])
    assert checkpoint.metrics["validation"]["accuracy"]["n"] == run.result["n_validation"]
    folder = Path(settings.ARTIFACT_DIR) / checkpoint.path
    assert {"weights.safetensors", "reward_model.json"} <= {file.name for file in folder.iterdir()}
    assert run_curves(run=run)["loss"].steps == [1, 2, 3, 4]
    assert run.environment["data"]["uid"] == str(dataset.uid)
    assert "torch" in run.environment["versions"]

    (child,) = Run.objects.filter(parent=run)
    assert (child.kind, child.state) == ("evaluate", "queued")
    assert sent == [(str(child.uid), "default")]  # a small model, and no GPU here
    run_job(str(child.uid))
    evaluation = Evaluation.objects.get()
    assert (evaluation.checkpoint, evaluation.n_pairs) == (checkpoint, 24)
    assert Score.objects.filter(checkpoint=checkpoint).count() == 50
    (row,) = reward_model_lineage(reward_model=checkpoint.reward_model)
    assert (row.run, row.data["name"], row.evaluations) == (run, dataset.name, [evaluation])
    assert row.n_bytes is not None
    assert row.n_bytes > 10_000


def test_a_backbone_that_is_not_there(project: Project) -> None:
    dataset = fill(DatasetFactory(project=project), 6)
    with pytest.raises(JobError):
        train(dataset, "no-such-organisation/no-such-model")
    run = Run.objects.get()
    assert run.state == "failed"
    assert run.error is not None
    assert "no-such-model" in run.error["message"]
    assert run.error["hint"]
    assert run_log(run=run)[-1].level == "error"


def test_a_backbone_that_needs_its_own_code(project: Project, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / "config.json").write_text(
        '{"model_type": "odd", "auto_map": {"AutoConfig": "odd.OddConfig", "AutoModel": "odd.OddModel"}}'
    )
    (folder / "odd.py").write_text("raise SystemExit('this code must never run')")
    with pytest.raises(JobError):
        train(fill(DatasetFactory(project=project), 6), str(folder))
    error = Run.objects.get().error
    assert error is not None
    assert "code" in error["message"] + error["hint"]


def test_a_baseline_cannot_be_trained(project: Project, dataset: Dataset) -> None:
    model = reward_model_register(project=project, name="l", family="length", config={}, user=None)
    spec = {"reward_model": str(model.uid), "source": {"dataset": str(dataset.uid)}}
    with pytest.raises(InvalidInput, match="not made by training") as caught:
        run_submit(project=project, kind="train_rm", spec=spec, user=None, now=timezone.now(), enqueue=False)
    assert [error.pointer for error in caught.value.errors] == ["/spec/reward_model"]
    assert not Run.objects.exists()


@pytest.mark.parametrize("harm", ["cut short", "one byte"])
def test_a_checkpoint_that_was_changed_is_refused(project: Project, harm: str) -> None:
    dataset = fill(DatasetFactory(project=project), 6)
    train(dataset)
    checkpoint = Checkpoint.objects.get()
    weights = Path(settings.ARTIFACT_DIR) / checkpoint.path / "weights.safetensors"
    held = bytearray(weights.read_bytes())
    held[-1] ^= 1
    weights.write_bytes(held[: len(held) // 2] if harm == "cut short" else held)
    spec = {"checkpoint": str(checkpoint.uid), "source": {"dataset": str(dataset.uid)}}
    run = run_submit(project=project, kind="score", spec=spec, user=None, now=timezone.now(), enqueue=False)
    with pytest.raises(JobError, match="SHA-256"):
        run_job(str(run.uid))
    assert not Score.objects.exists()
