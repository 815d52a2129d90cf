"""A run's page while it is watched: what it says of itself, what it refreshes, and where its result can be had."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from annotator.models import Dataset, Project, Role
from rmeval.models import Checkpoint, RewardModel, Run
from rmeval.selectors.run_titles import run_titles
from rmeval.services.artifacts import artifact_store
from rmeval.services.submission import run_submit
from tests.factories import DatasetFactory, SnapshotFactory
from tests.rmeval.conftest import submit
from tests.rmeval.test_evaluation import baseline
from tests.rmeval.test_pages import client_of
from workers.tasks import run_job

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("sent")]
HTMX = {"HX-Request": "true"}


@pytest.fixture
def lead(project: Project) -> Client:
    return client_of(project, Role.LEAD)


def address(run: Run) -> str:
    return reverse("rmeval:run-detail", args=[run.uid])


def asks_for(page: str) -> str:
    """The address by which the page asks for what is needed to repeat the run."""
    start = page.rindex('hx-get="', 0, page.index("?part=repeat")) + len('hx-get="')
    return page[start : page.index('"', start)].replace("&amp;", "&")


def test_what_is_needed_to_repeat_it_comes_as_the_run_goes_on(project: Project, dataset: Dataset, lead: Client) -> None:
    spec = {"checkpoint": str(baseline(project).uid), "source": {"dataset": str(dataset.uid)}}
    run = run_submit(project=project, kind="evaluate", spec=spec, user=None, now=timezone.now(), enqueue=False)
    page = lead.get(address(run)).content.decode()
    assert "not read yet" in page
    asked = asks_for(page)
    assert lead.get(asked, headers=HTMX).status_code == 204
    run_job(str(run.uid))
    run.refresh_from_db()
    part = lead.get(asked, headers=HTMX).content.decode()
    assert "<html" not in part
    for known in (
        run.environment["data"]["sha256"],
        run.environment["commit"],
        "<dt>Versions</dt>",
        "<dt>Hardware</dt>",
    ):
        assert known in part
    assert "Repeat this run" in part
    assert lead.get(asks_for(part), headers=HTMX).status_code == 204, "nothing is swapped under the reader's hands"


def test_the_answer_to_a_repetition_stands_beside_the_state(project: Project, dataset: Dataset, lead: Client) -> None:
    spec = {"checkpoint": str(baseline(project).uid), "source": {"dataset": str(dataset.uid)}}
    first = run_submit(project=project, kind="evaluate", spec=spec, user=None, now=timezone.now(), enqueue=False)
    run_job(str(first.uid))
    lead.post(reverse("rmeval:run-retry", args=[first.uid]))
    second = Run.objects.get(parent=first)
    url = f"{address(second)}?part=progress"
    assert 'id="run-repeated"' not in lead.get(url, headers=HTMX).content.decode()
    run_job(str(second.uid))
    part = lead.get(url, headers=HTMX).content.decode()
    beside = part[part.index('id="run-repeated"') : part.index('id="run-message"')]
    assert address(first) in beside
    assert ">same data</span>" in beside
    assert ">same figures</span>" in beside
    assert "<title>Evaluate length #1 on Pairs · done · Steelyard</title>" in part
    Run.objects.filter(pk=second.pk).update(result={**(first.result or {}), "accuracy": 0.1})
    assert ">other figures</span>" in lead.get(url, headers=HTMX).content.decode()


def test_titles_say_what_is_run_on_what(project: Project, dataset: Dataset, lead: Client) -> None:
    model = RewardModel.objects.create(project=project, name="helper", family="scalar_head")
    first, second, third = (Checkpoint.objects.create(reward_model=model, number=n) for n in (1, 2, 3))
    snapshot = SnapshotFactory(queue__dataset=dataset, queue__project=project, queue__name="Round", number=4)
    foreign = DatasetFactory(name="Of others")

    def titled(kind: str, of: RewardModel | None = model, **spec: Any) -> str:
        run = Run.objects.create(project=project, kind=kind, spec=spec, reward_model=of)
        return run_titles([run])[run.pk]

    pairs, rows = {"dataset": str(dataset.uid)}, {"snapshot": str(snapshot.uid)}
    assert titled("evaluate", checkpoint=str(second.uid), source=pairs) == "Evaluate helper #2 on Pairs"
    assert titled("score", checkpoint=str(first.uid), source=rows) == "Score Round, snapshot 4 with helper #1"
    assert titled("train_rm", reward_model=str(model.uid), source=rows) == "Train helper on Round, snapshot 4"
    assert titled("export_checkpoint", checkpoint=str(third.uid)) == "Export helper #3"
    assert titled("import_rm", None, model="/models/org/Skywork-8B/") == "Import Skywork-8B"
    assert titled("import_rm", None, model="org/x", name="Mine") == "Import Mine"
    assert titled("score_text", None, checkpoints=[str(c.uid) for c in (first, second, third)]) == (
        "Score typed responses with helper #1, helper #2 and 1 more"
    )
    both = {"earlier": str(first.uid), "later": str(second.uid)}
    assert (
        titled("extrapolate", reward_model=str(model.uid), **both) == "Extrapolate helper from helper #1 and helper #2"
    )
    assert titled("plain_test", None) == "Plain"
    assert titled("of_long_ago") == "of long ago: helper"
    elsewhere = {"dataset": str(foreign.uid)}
    assert titled("evaluate", checkpoint=str(uuid4()), source=elsewhere) == (
        "Evaluate a checkpoint that is gone on data that is gone"
    )
    assert titled("evaluate", checkpoint="no uid", source={"dataset": "none"}).startswith("Evaluate a checkpoint that")
    gone = Run.objects.create(
        project=project, kind="train_rm", spec={"source": elsewhere}, environment={"data": {"name": "Old pairs"}}
    )
    assert run_titles([gone])[gone.pk] == "Train a reward model on Old pairs"
    RewardModel.objects.update(deleted_at=timezone.now())
    Dataset.objects.filter(pk=dataset.pk).update(deleted_at=timezone.now())
    model.refresh_from_db()
    deleted = "Evaluate helper #2 (deleted) on Pairs (deleted)"
    assert titled("evaluate", checkpoint=str(second.uid), source=pairs) == deleted
    listed = lead.get(reverse("rmeval:run-list", args=[project.uid])).content.decode()
    assert deleted in listed
    assert reverse("rmeval:reward-model-detail", args=[model.uid]) not in listed
    page = lead.get(address(Run.objects.latest("pk"))).content.decode()
    assert f"<h1>{deleted}</h1>" in page
    assert f"<title>{deleted} · queued" in page
    assert reverse("rmeval:reward-model-detail", args=[model.uid]) not in page


def test_a_list_of_any_length_takes_the_same_queries(project: Project, dataset: Dataset, lead: Client) -> None:
    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as found:
            lead.get(reverse("rmeval:run-list", args=[project.uid]))
        return len(found)

    def add(n: int) -> None:
        for _ in range(n):
            model = RewardModel.objects.create(project=project, name=str(uuid4()), family="scalar_head")
            checkpoint = Checkpoint.objects.create(reward_model=model, number=1)
            snapshot = SnapshotFactory(queue__dataset=dataset, queue__project=project)
            for source in ({"dataset": str(dataset.uid)}, {"snapshot": str(snapshot.uid)}):
                spec = {"checkpoint": str(checkpoint.uid), "source": source}
                Run.objects.create(project=project, kind="evaluate", spec=spec, reward_model=model, state="done")

    add(1)
    queries()
    few = queries()
    add(12)
    assert queries() == few


def test_an_export_can_be_had_from_its_own_page(project: Project, lead: Client, tmp_path: Path, settings: Any) -> None:
    model = RewardModel.objects.create(project=project, name="helper", family="scalar_head")
    checkpoint = Checkpoint.objects.create(reward_model=model, number=1, path="checkpoints/x", sha256="0" * 64)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_text("{}")

    def exported() -> Run:
        run = Run.objects.create(
            project=project, kind="export_checkpoint", spec={"checkpoint": str(checkpoint.uid)}, reward_model=model
        )
        meta = {"of_checkpoint": str(checkpoint.uid), "class_name": "LlamaForSequenceClassification"}
        uid = artifact_store(
            run=run, path=tmp_path / "folder", kind="export", name="transformers", meta=meta, root=settings.ARTIFACT_DIR
        )
        run.state, run.result = "done", {"artifact": uid, "constant": 0.0, "opens_as": "X", "notes": ["Read <this>."]}
        run.save()
        return run

    first = exported()
    page = lead.get(address(first)).content.decode()
    download = f'href="{reverse("rmeval:checkpoint-export", args=[checkpoint.uid])}">Download the folder</a>'
    assert download in page
    assert f'href="{reverse("rmeval:checkpoint-files", args=[checkpoint.uid])}">helper #1</a>' in page
    assert '<p class="callout">Read &lt;this&gt;.</p>' in page
    assert first.result is not None
    assert first.result["artifact"] not in page
    assert "Constant" not in page
    assert "a later run" not in page
    second = exported()
    assert address(second) in lead.get(address(first)).content.decode(), "the newest folder is the one that is sent"
    Run.objects.filter(pk=second.pk).update(parent=first)
    assert ">same figures</span>" in lead.get(address(second)).content.decode(), (
        "a folder of its own is no other figure"
    )
    Run.objects.filter(pk=second.pk).update(result={"constant": 0.5})
    assert "Constant to add" in lead.get(address(second)).content.decode()
    RewardModel.objects.update(deleted_at=timezone.now())
    assert download not in lead.get(address(first)).content.decode()


def test_a_run_of_no_known_subject_has_a_page(project: Project, lead: Client) -> None:
    assert "<h1>Plain</h1>" in lead.get(address(submit(project, timezone.now()))).content.decode()


@pytest.mark.parametrize("what", ["train", "evaluate"])
def test_the_address_of_a_refused_form_leads_back_to_the_form(
    project: Project, dataset: Dataset, lead: Client, what: str
) -> None:
    model = baseline(project).reward_model
    url = reverse(f"rmeval:reward-model-{what}", args=[model.uid])
    page = reverse("rmeval:reward-model-detail", args=[model.uid])
    assert lead.post(url, {}).status_code == 422
    answer = lead.get(url)
    assert (answer.status_code, answer["Location"]) == (302, f"{page}#{what}")
    assert client_of(project, Role.VIEWER).get(url).status_code == 403


def test_runs_of_no_known_state_or_kind_are_refused(project: Project, lead: Client) -> None:
    run = submit(project, timezone.now())
    url = reverse("rmeval-api:project-runs", args=[project.uid])
    events = reverse("rmeval-api:run-events", args=[run.uid])
    for asked, query, known in (
        (url, {"state": "bogus"}, "queued, running, done, failed, cancelled"),
        (url, {"kind": "train"}, "train_rm"),
        (events, {"kind": "bogus"}, "log, metric, state"),
    ):
        refused = lead.get(asked, query)
        assert refused.status_code == 422
        (error,) = refused.json()["errors"]
        assert error["pointer"] == f"/{next(iter(query))}"
        assert known in error["detail"]
    found = lead.get(url, {"state": "queued", "kind": "plain_test"}).json()["results"]
    assert [row["uid"] for row in found] == [str(run.uid)]
    assert lead.get(url, {"state": "done"}).json()["results"] == []
    assert lead.get(url, {"state": "", "kind": ""}).json()["results"]
    assert lead.get(events, {"kind": "log"}).status_code == 200
