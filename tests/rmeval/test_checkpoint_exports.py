"""A checkpoint that leaves: the run, the page, the archive, and what opens it elsewhere."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotator.models import Project, Role
from rmeval.archives import Member, tar_chunks
from rmeval.models import Artifact, Checkpoint, Run, Score
from rmeval.services.submission import run_submit
from tests.factories import DatasetFactory
from tests.rmeval.conftest import fill
from tests.rmeval.test_evaluation import baseline
from tests.rmeval.test_pages import client_of
from tests.rmeval.test_training import train
from tests.workers.test_import_rm import hf_folder
from workers.tasks import run_job

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("sent")]


@pytest.fixture
def lead(project: Project) -> Client:
    return client_of(project, Role.LEAD)


def unpacked(answer: Any, folder: Path) -> Path:
    assert answer.status_code == 200
    with tarfile.open(fileobj=io.BytesIO(b"".join(answer.streaming_content))) as archive:
        archive.extractall(folder, filter="data")
    (inner,) = folder.iterdir()
    return inner


def test_from_the_page_to_a_folder_that_opens_elsewhere(project: Project, lead: Client, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification

    dataset = fill(DatasetFactory(project=project, licence="CC-BY-4.0"), 24)
    training = train(dataset, "tiny-causal", evaluate_on=[{"dataset": str(dataset.uid)}])
    run_job(str(Run.objects.get(parent=training).uid))
    checkpoint = Checkpoint.objects.get()
    url = reverse("rmeval:checkpoint-export", args=[checkpoint.uid])
    early = lead.get(url)
    assert early.status_code == 404
    assert "has not been exported yet" in early.content.decode()
    page = lead.get(reverse("rmeval:checkpoint-files", args=[checkpoint.uid])).content.decode()
    assert "Export for transformers" in page
    answer = lead.post(url)
    run = Run.objects.get(kind="export_checkpoint")
    assert answer["Location"] == reverse("rmeval:run-detail", args=[run.uid])
    run_job(str(run.uid))
    run.refresh_from_db()
    assert run.state == "done", run.error
    assert run.reward_model == checkpoint.reward_model
    folder = unpacked(lead.get(url), tmp_path / "page")
    assert folder.name == "tiny-causal-1"
    card = (folder / "README.md").read_text()
    data = training.environment["data"]["sha256"]
    for text in (data, checkpoint.sha256, "CC-BY-4.0", dataset.name, str(training.uid), "95% interval"):
        assert text in card
    assert run.result is not None
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    scores = {s.response.text: s.value for s in Score.objects.filter(checkpoint=checkpoint).select_related("response")}
    n_known = 0
    for probe in json.loads((folder / "probes.json").read_text()):
        with torch.inference_mode():
            value = model(input_ids=torch.tensor([probe["input_ids"]])).logits[0, 0].item() + run.result["constant"]
        assert value == pytest.approx(probe["reward"], abs=1e-5)
        n_known += probe["response"][0]["content"] in scores
    assert n_known
    by_api = unpacked(lead.get(reverse("rmeval-api:checkpoint-export", args=[checkpoint.uid])), tmp_path / "api")
    assert (by_api / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    page = lead.get(reverse("rmeval:checkpoint-files", args=[checkpoint.uid])).content.decode()
    assert "LlamaForSequenceClassification" in page
    assert "Export again" in page


def test_ratings_come_leave_and_come_again(project: Project, lead: Client, tmp_path: Path, settings: Any) -> None:
    """Imported by the job, exported from its page, downloaded by REST, and imported from the folder that came out."""
    settings.MODEL_DIRS = [tmp_path]
    labels = {"id2label": {0: "wit", 1: "tact"}, "label2id": {"wit": 0, "tact": 1}}
    folder = hf_folder(tmp_path / "hf", "Llama", num_labels=2, **labels)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")

    def taken_in(name: str, **spec: Any) -> Checkpoint:
        run = run_submit(
            project=project, kind="import_rm", spec={"name": name, **spec}, user=None, now=timezone.now(), enqueue=False
        )
        run_job(str(run.uid))
        return Checkpoint.objects.get(reward_model__name=name)

    first = taken_in("First", model=str(folder), weights={"wit": 1.5, "tact": -0.5})
    lead.post(reverse("rmeval:checkpoint-export", args=[first.uid]))
    run = Run.objects.get(kind="export_checkpoint")
    run_job(str(run.uid))
    run.refresh_from_db()
    assert run.state == "done", run.error
    out = unpacked(lead.get(reverse("rmeval-api:checkpoint-export", args=[first.uid])), tmp_path / "out")
    card = (out / "README.md").read_text()
    for text in ("1.5 wit -0.5 tact", "apache-2.0", "LlamaForSequenceClassification", first.sha256):
        assert text in card
    again = taken_in("Again", model=str(out))
    assert again.reward_model.config["weights"] == {"wit": 1.5, "tact": -0.5}
    before, after = (
        [
            p["reward"]
            for p in json.loads((Path(settings.ARTIFACT_DIR) / c.path / "reward_model.json").read_text())["probes"]
        ]
        for c in (first, again)
    )
    assert after == pytest.approx(before, abs=1e-5)


def test_the_plain_folder_is_there_without_a_run(project: Project, lead: Client, tmp_path: Path) -> None:
    train(fill(DatasetFactory(project=project), 12))
    checkpoint = Checkpoint.objects.get()
    answer = lead.get(reverse("rmeval-api:checkpoint-export", args=[checkpoint.uid]), {"form": "plain"})
    folder = unpacked(answer, tmp_path / "plain")
    assert {file.name for file in folder.iterdir()} == {
        "README.md",
        "backbone",
        "reward_model.json",
        "weights.safetensors",
    }
    assert "no class of transformers does by itself" in (folder / "README.md").read_text()
    assert lead.get(reverse("rmeval-api:checkpoint-export", args=[checkpoint.uid]), {"form": "x"}).status_code == 422
    rule = baseline(project)
    refused = lead.get(reverse("rmeval-api:checkpoint-export", args=[rule.uid]), {"form": "plain"})
    assert refused.status_code == 404
    assert refused.json()["code"] == "no_files"


def test_an_encoder_leaves_with_the_code_that_computes_it(project: Project, lead: Client, tmp_path: Path) -> None:
    """The default pooling, which no class of transformers has: the page says what the folder brings."""
    from transformers import AutoModelForSequenceClassification

    train(fill(DatasetFactory(project=project), 12))
    checkpoint = Checkpoint.objects.get()
    lead.post(reverse("rmeval:checkpoint-export", args=[checkpoint.uid]))
    run = Run.objects.get(kind="export_checkpoint")
    run_job(str(run.uid))
    run.refresh_from_db()
    assert run.state == "done", run.error
    page = lead.get(reverse("rmeval:checkpoint-files", args=[checkpoint.uid])).content.decode()
    assert "PooledRewardForSequenceClassification" in page
    assert "trust_remote_code=True runs that file" in page
    folder = unpacked(lead.get(reverse("rmeval:checkpoint-export", args=[checkpoint.uid])), tmp_path / "out")
    assert (folder / "modeling_reward.py").is_file()
    model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)
    assert model.config.pooling == "mean"


def test_what_the_run_refuses_stands_on_the_page(project: Project, lead: Client, settings: Any) -> None:
    from safetensors.torch import load_file, save_file

    from workers.errors import JobError

    train(fill(DatasetFactory(project=project), 12))
    checkpoint = Checkpoint.objects.get()
    file = Path(settings.ARTIFACT_DIR) / checkpoint.path / "weights.safetensors"
    tensors = load_file(file)
    save_file({**tensors, "head.bias": tensors["head.bias"] + 1.0}, file)
    lead.post(reverse("rmeval:checkpoint-export", args=[checkpoint.uid]))
    run = Run.objects.get(kind="export_checkpoint")
    with pytest.raises(JobError, match="not those that were stored"):
        run_job(str(run.uid))
    page = lead.get(reverse("rmeval:run-detail", args=[run.uid])).content.decode()
    assert "are not those that were stored" in page
    page = lead.get(reverse("rmeval:checkpoint-files", args=[checkpoint.uid])).content.decode()
    assert "Refused by <a" in page
    assert "are not those that were stored" in page
    assert "<dt>Validation: loss</dt>" in page
    assert not Artifact.objects.filter(kind="export").exists()


def test_settings_that_cannot_leave_are_refused_before_the_run(project: Project, lead: Client) -> None:
    train(fill(DatasetFactory(project=project), 12))
    checkpoint = Checkpoint.objects.get()
    model = checkpoint.reward_model
    model.config = {**model.config, "pooling": "response_mean"}
    model.save(update_fields=["config"])
    answer = lead.post(reverse("rmeval:checkpoint-export", args=[checkpoint.uid]))
    assert answer.status_code == 422
    assert "is not told where among them the response begins" in answer.content.decode()
    assert not Run.objects.filter(kind="export_checkpoint").exists()
    page = lead.get(reverse("rmeval:checkpoint-files", args=[checkpoint.uid])).content.decode()
    assert "not possible. An exported model reads tokens" in page
    assert "Export for transformers" not in page


def test_a_family_that_cannot_leave_is_refused_before_the_run(project: Project, lead: Client, settings: Any) -> None:
    rule = baseline(project)
    folder = Path(settings.ARTIFACT_DIR) / "checkpoints" / "x"
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(b"x")
    answer = lead.post(reverse("rmeval:checkpoint-export", args=[rule.uid]))
    assert answer.status_code == 422
    assert "The rewards of the family length cannot be exported." in answer.content.decode()
    assert not Run.objects.exists()
    Checkpoint.objects.filter(pk=rule.pk).update(path="checkpoints/x")
    page = lead.get(reverse("rmeval:checkpoint-files", args=[rule.uid])).content.decode()
    assert "Take it along" in page
    assert "not possible. The rewards of the family length cannot be exported." in page
    assert "Export for transformers" not in page


def test_archives_are_whole_and_always_the_same(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(range(256)) * 5000)
    members = [Member("a.txt", b"hello"), Member("deep/" + "x" * 150, tmp_path / "big"), Member("empty", b"")]
    packed = b"".join(tar_chunks("folder", members))
    assert packed == b"".join(tar_chunks("folder", members))
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        assert [m.name for m in archive] == ["folder/a.txt", "folder/deep/" + "x" * 150, "folder/empty"]
        found = archive.extractfile("folder/deep/" + "x" * 150)
        assert found is not None
        assert found.read() == (tmp_path / "big").read_bytes()
