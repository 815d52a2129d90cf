"""Pages: who may open them, what they show, and what a refused form says."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotator.models import Dataset, Project, Queue, Role
from rmeval.charts import dot_interval_chart, wrapped
from rmeval.models import Checkpoint, RewardModel, Run, RunEvent
from rmeval.rendering import chart_svg
from rmeval.services.artifacts import artifact_store
from rmeval.services.runs import run_finish, run_start
from rmeval.services.submission import run_submit
from tests.factories import DatasetFactory, MembershipFactory, UserFactory, member
from tests.rmeval.conftest import fill, submit
from tests.rmeval.test_evaluation import baseline, evaluate

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("sent")]


@pytest.fixture
def lead(project: Project) -> Client:
    return client_of(project, Role.LEAD)


def client_of(project: Project, role: str) -> Client:
    client = Client()
    client.force_login(member(project, role))
    return client


@pytest.fixture
def board(project: Project, dataset: Dataset) -> tuple[Checkpoint, Checkpoint]:
    made = baseline(project, name="longer"), baseline(project, name="shorter", prefer="shorter")
    for checkpoint in made:
        evaluate(checkpoint, {"dataset": str(dataset.uid)})
    return made


def pages(project: Project, dataset: Dataset, board: tuple[Checkpoint, Checkpoint]) -> dict[str, str]:
    a, b = board
    run = Run.objects.latest("pk")
    return {
        "runs": reverse("rmeval:run-list", args=[project.uid]),
        "run": reverse("rmeval:run-detail", args=[run.uid]),
        "models": reverse("rmeval:reward-model-list", args=[project.uid]),
        "model": reverse("rmeval:reward-model-detail", args=[a.reward_model.uid]),
        "files": reverse("rmeval:checkpoint-files", args=[a.uid]),
        "boards": reverse("rmeval:leaderboard-list", args=[project.uid]),
        "board": reverse("rmeval:leaderboard", args=[dataset.uid]) + "?slice=topic",
        "compare": f"{reverse('rmeval:compare')}?a={a.uid}&b={b.reward_model.uid}&dataset={dataset.uid}",
    }


def test_readers_see_every_page_and_nobody_else(
    project: Project, dataset: Dataset, board: tuple[Checkpoint, Checkpoint]
) -> None:
    stranger = Client()
    stranger.force_login(MembershipFactory().user)
    for name, url in pages(project, dataset, board).items():
        for role in (Role.LEAD, Role.REVIEWER, Role.RESEARCHER, Role.VIEWER):
            answer = client_of(project, role).get(url)
            assert answer.status_code == 200, name
            assert client_of(project, role).get(url, headers={"HX-Request": "true"}).status_code == 200, name
        assert client_of(project, Role.ANNOTATOR).get(url).status_code == 403, name
        assert stranger.get(url).status_code == 404, name
        assert Client().get(url).status_code == 302, name
        assert client_of(project, Role.LEAD).post(url).status_code == 405, name


def test_only_researchers_and_leads_change_things(
    project: Project, dataset: Dataset, board: tuple[Checkpoint, Checkpoint]
) -> None:
    run = submit(project, timezone.now())
    model = board[0].reward_model
    urls = [
        reverse("rmeval:run-cancel", args=[run.uid]),
        reverse("rmeval:run-retry", args=[run.uid]),
        reverse("rmeval:reward-model-create", args=[project.uid]),
        reverse("rmeval:reward-model-train", args=[model.uid]),
        reverse("rmeval:reward-model-evaluate", args=[model.uid]),
        reverse("rmeval:leaderboard-evaluate", args=[dataset.uid]),
    ]
    for url in urls:
        for role in (Role.VIEWER, Role.REVIEWER, Role.ANNOTATOR):
            assert client_of(project, role).post(url).status_code == 403, url
        assert Client().post(url).status_code == 302, url
    body = {"a": board[0].uid, "b": board[1].uid, "dataset": dataset.uid}
    assert client_of(project, Role.VIEWER).post(reverse("rmeval:compare-queue"), body).status_code == 403


def test_a_viewer_is_offered_nothing_to_change(
    project: Project, dataset: Dataset, board: tuple[Checkpoint, Checkpoint]
) -> None:
    viewer = client_of(project, Role.VIEWER)
    for url in pages(project, dataset, board).values():
        text = viewer.get(url).content.decode()
        assert 'method="post"' not in text.replace(f'method="post" action="{reverse("annotator:logout")}"', ""), url


def test_the_run_page_follows_a_run(project: Project, lead: Client) -> None:
    run = submit(project, timezone.now())
    url = reverse("rmeval:run-detail", args=[run.uid])
    assert run_start(run=run, worker="h:1", now=timezone.now(), stale=settings.RUN_HEARTBEAT_STALE, max_attempts=3)
    for step in range(1, 50):
        data = {"loss": 1 / step, "validation_accuracy": 0.6, "validation_low": 0.5, "validation_high": 0.7}
        RunEvent.objects.create(run=run, kind="metric", step=step, data=data)
    Run.objects.update(fraction_done=0.5)
    part = lead.get(url + "?part=progress", headers={"HX-Request": "true"}).content.decode()
    assert "50%" in part
    assert "<html" not in part
    assert "Cancel" in part
    charts = lead.get(url + "?part=charts", headers={"HX-Request": "true"}).content.decode()
    assert charts.count("<svg") == 2
    assert "style=" not in charts
    assert "<script" not in charts
    error = {"message": "It broke <b>here</b>.", "hint": "Do this.", "trace": "line 1"}
    run_finish(run=run, attempt=1, state="failed", error=error, now=timezone.now())
    page = lead.get(url).content.decode()
    assert "It broke &lt;b&gt;here&lt;/b&gt;." in page
    assert "Do this." in page
    assert "Retry" in page


def test_cancel_and_retry_by_button(project: Project, lead: Client) -> None:
    run = submit(project, timezone.now())
    lead.post(reverse("rmeval:run-cancel", args=[run.uid]))
    run.refresh_from_db()
    assert run.state == "cancelled"
    assert lead.post(reverse("rmeval:run-cancel", args=[run.uid])).status_code == 409
    answer = lead.post(reverse("rmeval:run-retry", args=[run.uid]))
    again = Run.objects.get(parent=run)
    assert answer["Location"] == reverse("rmeval:run-detail", args=[again.uid])


def test_register_by_form(project: Project, lead: Client) -> None:
    url = reverse("rmeval:reward-model-create", args=[project.uid])
    assert "max_length" in lead.get(url + "?family=scalar_head").content.decode()
    bad = lead.post(url + "?family=scalar_head", {"name": "Mine", "max_length": "3", "backbone": "minilm"})
    assert bad.status_code == 422
    assert "greater than or equal to 16" in bad.content.decode()
    lead.post(url + "?family=scalar_head", {"name": "Mine", "max_length": "128", "pooling": "mean"})
    made = RewardModel.objects.get()
    assert (made.family, made.config["max_length"], made.config["pooling"]) == ("scalar_head", 128, "mean")
    assert made.config["backbone"] == "minilm"
    again = lead.post(url + "?family=length", {"name": "Mine"})
    assert again.status_code == 422
    assert "already has a reward model named Mine" in again.content.decode()


def test_train_by_form(project: Project, dataset: Dataset, lead: Client, sent: list[tuple[str, str]]) -> None:
    model = RewardModel.objects.create(project=project, name="m", family="scalar_head", config={})
    url = reverse("rmeval:reward-model-train", args=[model.uid])
    source = f"dataset:{dataset.uid}"
    bad = lead.post(url, {"source": source, "learning_rate": "-1"})
    assert bad.status_code == 422
    assert "greater than 0" in bad.content.decode()
    assert not Run.objects.exists()
    answer = lead.post(
        url,
        {"source": source, "evaluate_on": [source], "learning_rate": "0.001", "epochs": "2", "head_learning_rate": ""},
    )
    run = Run.objects.get()
    assert answer["Location"] == reverse("rmeval:run-detail", args=[run.uid])
    assert (run.spec["learning_rate"], run.spec["epochs"], run.spec["head_learning_rate"]) == (0.001, 2.0, None)
    assert [on["dataset"] for on in run.spec["evaluate_on"]] == [run.spec["source"]["dataset"]]
    assert run.reward_model == model
    assert sent == [(str(run.uid), "gpu")]


def test_a_refused_form_says_what_is_wrong_at_its_top(project: Project, dataset: Dataset, lead: Client) -> None:
    model = RewardModel.objects.create(project=project, name="m", family="scalar_head", config={})
    Checkpoint.objects.create(reward_model=model, number=1)
    url = reverse("rmeval:reward-model-train", args=[model.uid])
    page = lead.post(url, {"source": "", "learning_rate": "-1", "weight_decay": "7"}).content.decode()
    top = page[page.index("form-errors") : page.index("form-grid", page.index("form-errors"))]
    assert "autofocus" in top
    assert '<a href="#id_source">' in top
    assert page.count('id="id_source"') == 1
    page = lead.post(url, {"source": f"dataset:{dataset.uid}", "learning_rate": "-1", "weight_decay": "7"})
    text = page.content.decode()
    assert '<a href="#id_learning_rate">Learning rate</a>: Input should be greater than 0' in text
    assert '<a href="#id_weight_decay">Weight decay</a>' in text
    assert '<details class="advanced" open>' in text  # the link must lead to a field that is there to see
    assert "form-errors" not in lead.get(reverse("rmeval:reward-model-detail", args=[model.uid])).content.decode()
    refused = lead.post(reverse("rmeval:reward-model-evaluate", args=[model.uid]), {"checkpoint": "x"}).content.decode()
    assert '<a href="#id_evaluate_checkpoint">' in refused
    register = reverse("rmeval:reward-model-create", args=[project.uid]) + "?family=scalar_head"
    refused = lead.post(register, {"name": "", "max_length": "3", "backbone": "gpt-2"}).content.decode()
    assert refused.count("form-errors") == 1
    assert '<a href="#id_name">Name</a>' in refused
    refused = lead.post(register, {"name": "New", "backbone": "gpt-2"}).content.decode()
    assert '<a href="#id_backbone">Backbone</a>: There is no backbone called gpt-2.' in refused
    assert '<option value="tiny-causal"></option>' in refused


def test_nothing_is_shown_in_raw_words(
    project: Project, dataset: Dataset, board: tuple[Checkpoint, Checkpoint], lead: Client
) -> None:
    run = Run.objects.latest("pk")
    Run.objects.filter(pk=run.pk).update(spec={**run.spec, "slice_by": ["topic", "rank"]})
    page = lead.get(reverse("rmeval:run-detail", args=[run.uid])).content.decode()
    assert "<h1>Evaluate shorter #1 on Pairs</h1>" in page
    assert "<dd>topic, rank</dd>" in page
    assert ">Retry<" not in page
    for word in ("<h3>Accuracy</h3>", "<h3>Data</h3>", "<h3>Speed</h3>", "sha256", "Versions", "Hardware", "Seed"):
        assert word in page
    assert "Repeat this run" in page
    model = board[1].reward_model
    model.config = {"unit": "words", "tags": ["a", "b"], "on": True}
    model.family = "gone"
    model.save()
    page = lead.get(reverse("rmeval:reward-model-detail", args=[model.uid])).content.decode()
    assert "<dd>a, b</dd>" in page
    assert "<dd>yes</dd>" in page
    assert "['a', 'b']" not in page
    listed = lead.get(reverse("rmeval:run-list", args=[project.uid])).content.decode()
    assert '<option value="train_rm">Train a reward model</option>' in listed


def test_long_names_fit_beside_and_above_the_dots() -> None:
    name = "A reward model with a very long name that goes on and on #12"
    row = {"name": name, "value": 0.7, "low": 0.6, "high": 0.8, "is_baseline": False}
    wide, narrow = (dot_interval_chart([row], is_narrow=is_narrow) for is_narrow in (False, True))
    assert narrow["width"] + 17 <= 330  # the width of a card on a page of 420 px
    (above,) = narrow["data"]["values"][0]["lines"]  # a second line would stand on the dot
    assert len(above) <= 42
    assert (above[:20], above[-10:]) == (name[:20], name[-10:])
    lines = wide["data"]["values"][0]["lines"]
    assert " ".join(lines) == name
    axis = wide["layer"][1]["encoding"]["y"]["axis"]
    assert axis["minExtent"] >= 7 * max(len(line) for line in lines)
    assert axis["labelLimit"] == 0
    drawn = chart_svg(wide)
    assert all(line in drawn for line in lines)
    assert "…" in " ".join(wrapped("x" * 200))


def test_another_projects_data_is_no_choice(project: Project, lead: Client) -> None:
    elsewhere = fill(DatasetFactory())
    model = RewardModel.objects.create(project=project, name="m", family="scalar_head", config={})
    url = reverse("rmeval:reward-model-train", args=[model.uid])
    assert lead.post(url, {"source": f"dataset:{elsewhere.uid}"}).status_code == 422
    assert not Run.objects.exists()


def test_evaluate_from_the_leaderboard(project: Project, dataset: Dataset, lead: Client) -> None:
    checkpoint = baseline(project)
    url = reverse("rmeval:leaderboard-evaluate", args=[dataset.uid])
    body = {"checkpoint": str(checkpoint.uid), "source": f"dataset:{dataset.uid}"}
    assert lead.post(url, body).status_code == 302
    assert Run.objects.get().spec["checkpoint"] == str(checkpoint.uid)
    assert lead.post(url, body | {"checkpoint": str(uuid4())}).status_code == 422


def test_the_leaderboard_shows_interval_and_n(
    project: Project, dataset: Dataset, board: tuple[Checkpoint, Checkpoint], lead: Client
) -> None:
    text = lead.get(reverse("rmeval:leaderboard", args=[dataset.uid]) + "?slice=topic").content.decode()
    assert text.index("longer #1") < text.index("shorter #1")
    assert "66.7%" in text
    assert "[30.0%, 90.3%]" in text  # Wilson's interval of 4 in 6
    assert "n = 6" in text
    assert "baseline" in text
    assert ">even</th>" in text
    assert "<svg" in text


def test_leaderboard_of_one_query_more_or_less(
    project: Project, dataset: Dataset, board: Any, lead: Client, django_assert_max_num_queries: Any
) -> None:
    for number in range(8):
        evaluate(baseline(project, name=f"more {number}"), {"dataset": str(dataset.uid)})
    with django_assert_max_num_queries(20):
        lead.get(reverse("rmeval:leaderboard", args=[dataset.uid]))
    with django_assert_max_num_queries(14):
        lead.get(reverse("rmeval:leaderboard-list", args=[project.uid]))
    with django_assert_max_num_queries(14):
        lead.get(reverse("rmeval:run-list", args=[project.uid]))
    with django_assert_max_num_queries(14):
        lead.get(reverse("rmeval:reward-model-list", args=[project.uid]))


def test_send_the_pairs_of_a_cell_to_a_queue(
    project: Project, dataset: Dataset, board: tuple[Checkpoint, Checkpoint], lead: Client
) -> None:
    a, b = board
    page = lead.get(reverse("rmeval:compare"), {"a": a.uid, "b": b.uid, "dataset": dataset.uid, "cell": "b_only"})
    assert page.content.decode().count('data-cell="b_only"') == 2
    body = {"a": a.uid, "b": b.uid, "dataset": dataset.uid, "cell": "b_only", "name": "Look again"}
    answer = lead.post(reverse("rmeval:compare-queue"), {**body, "overlap": 2, "limit": 100})
    queue = Queue.objects.get()
    assert answer["Location"] == reverse("annotator:queue-detail", args=[queue.uid])
    assert (queue.name, queue.n_items, queue.overlap, queue.dataset) == ("Look again", 2, 2, dataset)
    refused = lead.post(reverse("rmeval:compare-queue"), {**body, "overlap": 0, "limit": 100})
    assert refused.status_code == 302
    assert Queue.objects.count() == 1


def test_compare_asks_for_what_is_missing(project: Project, dataset: Dataset, lead: Client) -> None:
    assert "Choose what to compare" in lead.get(reverse("rmeval:compare")).content.decode()
    checkpoint = baseline(project)
    chooser = lead.get(reverse("rmeval:compare"), {"dataset": dataset.uid}).content.decode()
    assert str(checkpoint.uid) in chooser
    unscored = lead.get(reverse("rmeval:compare"), {"a": checkpoint.uid, "b": checkpoint.uid, "dataset": dataset.uid})
    assert "No pair that both have scored" in unscored.content.decode()
    assert lead.get(reverse("rmeval:compare"), {"a": "nonsense"}).status_code == 404


def test_compare_refuses_two_projects(project: Project, dataset: Dataset, lead: Client) -> None:
    other = fill(DatasetFactory())
    user = UserFactory()
    for found in (project, other.project):
        MembershipFactory(project=found, user=user)
    client = Client()
    client.force_login(user)
    a, b = baseline(project), baseline(other.project)
    query = {"a": a.uid, "b": b.uid, "dataset": dataset.uid}
    assert client.get(reverse("rmeval:compare"), query).status_code == 404
    assert lead.get(reverse("rmeval:compare"), query).status_code == 404


def test_download_only_what_the_checkpoint_holds(project: Project, lead: Client, tmp_path: Path) -> None:
    model = RewardModel.objects.create(project=project, name="m", family="scalar_head", config={})
    run = Run.objects.create(project=project, kind="train_rm", spec={}, reward_model=model)
    folder = tmp_path / "weights"
    (folder / "deep").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "deep" / "config.json").write_text("{}")
    store = {"run": run, "path": folder, "kind": "checkpoint", "name": "final", "meta": {"step": 3}}
    uid = artifact_store(root=Path(settings.ARTIFACT_DIR), **store)
    assert artifact_store(root=Path(settings.ARTIFACT_DIR), **store) == uid  # a repeated attempt
    checkpoint = Checkpoint.objects.get()
    assert (str(checkpoint.uid), checkpoint.step, checkpoint.number) == (uid, 3, 1)
    page = lead.get(reverse("rmeval:checkpoint-files", args=[uid])).content.decode()
    assert "deep/config.json" in page
    answer = lead.get(reverse("rmeval:checkpoint-download", args=[uid, "model.safetensors"]))
    assert b"".join(answer.streaming_content) == b"weights"
    for name in ("../../etc/passwd", "missing", "deep"):
        assert lead.get(f"/checkpoints/{uid}/files/{name}").status_code == 404
    stranger = Client()
    stranger.force_login(UserFactory())
    assert stranger.get(reverse("rmeval:checkpoint-download", args=[uid, "model.safetensors"])).status_code == 404


def test_lists_page_by_key(project: Project, lead: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rmeval.views.runs.PAGE", 2)
    runs = [submit(project, timezone.now()) for _ in range(5)]
    url = reverse("rmeval:run-list", args=[project.uid])
    seen, address = [], url
    while address:
        page = lead.get(address).context["page"]
        seen += [run.pk for run in page.rows]
        address = page.next_url
    assert seen == [run.pk for run in reversed(runs)]
    back = lead.get(page.previous_url).context["page"]
    assert [run.pk for run in back.rows] == seen[2:4]
    assert lead.get(url + "?before=nonsense").status_code == 200
    assert not lead.get(url + "?state=done").context["page"].rows


def test_failed_evaluation_is_shown_in_words(project: Project, dataset: Dataset, lead: Client) -> None:
    model = RewardModel.objects.create(project=project, name="m", family="scalar_head", config={})
    checkpoint = Checkpoint.objects.create(reward_model=model, number=1, path="checkpoints/gone")
    run = run_submit(
        project=project,
        kind="evaluate",
        spec={"checkpoint": str(checkpoint.uid), "source": {"dataset": str(dataset.uid)}},
        user=None,
        now=timezone.now(),
        enqueue=False,
    )
    from workers.errors import JobError
    from workers.tasks import run_job

    with pytest.raises(JobError):
        run_job(str(run.uid))
    text = lead.get(reverse("rmeval:run-detail", args=[run.uid])).content.decode()
    assert "are not on this machine" in text
    assert "STEELYARD_ARTIFACT_DIR" in text
