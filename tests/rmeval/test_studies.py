"""Studies: the form that starts one, the page and the API that tell what it found."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotator.models import Dataset, Project, Role
from rmeval.models import Checkpoint, RewardModel, Run
from rmeval.services.reward_models import reward_model_register
from rmeval.services.runs import run_finish, run_start
from rmeval.studies import study_outcome
from rmeval.study_charts import study_charts
from rmeval.study_forms import read_settings
from tests.factories import DatasetFactory
from tests.rmeval.conftest import fill
from tests.rmeval.test_pages import client_of
from workers.jobs import JOBS
from workers.jobs.train_study import arms_of
from workers.specs import parse_spec
from workers.stats.study import study_summary
from workers.stats.study_sources import source_differences
from workers.tasks import run_job

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("sent")]


@pytest.fixture
def lead(project: Project) -> Client:
    return client_of(project, Role.LEAD)


@pytest.fixture
def model(project: Project) -> RewardModel:
    config = {"backbone": "tiny-encoder", "max_length": 64}
    return reward_model_register(project=project, name="m", family="scalar_head", config=config, user=None)


def form_of(model: RewardModel, question: str) -> str:
    return f"{reverse('rmeval:study-create', args=[model.uid])}?question={question}"


def finished(model: RewardModel, spec: dict[str, Any], value: Any, *, metric: str = "accuracy") -> Run:
    """A study that has ended, with the figures that `value(arm number, seed)` gives."""
    job: Any = JOBS.get("train_study")
    full = parse_spec(job.Spec, {"reward_model": str(model.uid), "source": {"dataset": str(model.uid)}, **spec})
    arms = list(arms_of(full))
    rows = [
        {
            "arm": arm.name,
            "seed": seed,
            "value": value(i, seed),
            "metric": metric,
            "n_train": 100 * (i + 1),
            "loss": 0.5,
        }
        | {"n_validation": 40, "seconds": 2.5, "peak_rss_mib": 100, "checkpoint": None}
        for i, arm in enumerate(arms)
        for seed in range(full.n_seeds)
    ]
    result = {"question": full.question, "runs": rows, **study_summary(rows, [arm.name for arm in arms])}
    result["arms"] = [arm.model_dump(mode="json") for arm in arms]
    run = Run.objects.create(
        project=model.project, kind="train_study", spec=full.model_dump(mode="json"), reward_model=model
    )
    now = timezone.now()
    assert run_start(run=run, worker="h:1", now=now, stale=timedelta(0), max_attempts=3)
    run_finish(run=run, attempt=1, state="done", result=result, now=now)
    run.refresh_from_db()
    return run


def page_of(client: Client, run: Run, **query: str) -> str:
    return client.get(reverse("rmeval:study-detail", args=[run.uid]), query).content.decode()


def test_from_the_form_to_the_answer(project: Project, model: RewardModel, lead: Client) -> None:
    dataset = fill(DatasetFactory(project=project), 24)
    body = {"source": f"dataset:{dataset.uid}", "n_seeds": 2, "shares": "0.5, 1", "keep_checkpoints": "on"}
    answer = lead.post(form_of(model, "learning_curve"), {**body, "shared": "max_steps = 2\nvalidation_share = 0.3"})
    run = Run.objects.get()
    assert answer["Location"] == reverse("rmeval:study-detail", args=[run.uid])
    waiting = page_of(lead, run)
    assert f"live:run.{run.uid}" in waiting
    assert "The answer stands here when all trainings are done" in waiting
    run_job(str(run.uid))
    run.refresh_from_db()
    assert run.state == "done", run.error
    page = page_of(lead, run)
    assert run.result is not None
    assert run.result["answer"] in page
    assert page.index(run.result["answer"]) < page.index("<figure")
    assert page.count("<figure") == 2
    assert 'style="' not in page
    assert Checkpoint.objects.count() == 4
    for checkpoint in Checkpoint.objects.all():
        assert reverse("rmeval:checkpoint-files", args=[checkpoint.uid]) in page
    assert (
        reverse("rmeval:study-detail", args=[run.uid])
        in lead.get(reverse("rmeval:run-detail", args=[run.uid])).content.decode()
    )
    told = lead.get(reverse("rmeval-api:study-detail", args=[run.uid])).json()
    assert (told["answer"], told["metric"], len(told["runs"])) == (run.result["answer"], "accuracy", 4)
    assert [arm["is_baseline"] for arm in told["arms"]] == [True, False]


def test_a_comparison_says_what_it_shows(model: RewardModel, lead: Client) -> None:
    arms = [{"name": "usual"}, {"name": "slow", "settings": {"learning_rate": 1e-6}, "config": {"head_depth": 2}}]
    run = finished(model, {"arms": arms}, lambda i, seed: 0.7 - 0.2 * i + 0.01 * seed)
    page = page_of(lead, run)
    assert "usual is best; shown to be better than 1 of 1 others." in page
    assert "<b>−20.0</b> points" in page
    assert "config.head_depth" in page
    assert ">worse</span>" in page
    part = lead.get(reverse("rmeval:study-detail", args=[run.uid]), headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in part
    found = study_outcome(run)
    assert found is not None
    (chart,) = study_charts(found)
    assert chart.rows[1][0] == "slow"
    assert chart.rows[1][1] == "51.0%"


def test_a_grid_has_a_heat_map_and_marginals(model: RewardModel, lead: Client) -> None:
    grid = {"learning_rate": [1e-4, 1e-3], "config.head_depth": [1, 2, 3]}
    run = finished(model, {"question": "grid", "grid": grid, "n_seeds": 2}, lambda i, seed: 0.5 + 0.05 * i)
    found = study_outcome(run)
    assert found is not None
    means = {(one.setting, one.value): one.mean["value"] for one in found.marginals}
    assert means["learning_rate", 1e-4] == pytest.approx(0.55)
    assert means["learning_rate", 1e-3] == pytest.approx(0.7)
    assert means["config.head_depth", 3] == pytest.approx((0.6 + 0.75) / 2)
    assert [chart.name for chart in study_charts(found)] == ["grid", "arms"]
    heat = study_charts(found)[0]
    assert {row[:3] for row in heat.rows} >= {("1", "0.0001", "50.0%"), ("3", "0.001", "75.0%")}
    page = page_of(lead, run)
    assert "By setting, whatever the others were" in page
    assert "Two seeds hardly tell" in page
    one_way = finished(
        model, {"question": "grid", "grid": {"epochs": [1, 2]}}, lambda i, seed: -0.5, metric="negative loss"
    )
    found = study_outcome(one_way)
    assert found is not None
    assert [chart.name for chart in study_charts(found)] == ["arms"]
    assert "<b>−0.5</b>" in page_of(lead, one_way)


def test_one_seed_shows_no_interval(model: RewardModel, lead: Client) -> None:
    spec = {"question": "learning_curve", "shares": [0.1, 1.0], "n_seeds": 1}
    page = page_of(lead, finished(model, spec, lambda i, seed: 0.5 + i / 10))
    assert "One seed cannot show a difference" in page
    assert "no interval" in page


def test_a_failed_study_says_why(model: RewardModel, lead: Client) -> None:
    run = Run.objects.create(project=model.project, kind="train_study", spec={}, reward_model=model)
    assert run_start(run=run, worker="h:1", now=timezone.now(), stale=timedelta(0), max_attempts=3)
    error = {"message": "It broke.", "hint": "Mend it.", "trace": ""}
    run_finish(run=run, attempt=1, state="failed", error=error, now=timezone.now())
    page = page_of(lead, run)
    assert "It broke." in page
    assert "Mend it." in page


def test_other_runs_are_no_studies(project: Project, lead: Client) -> None:
    run = Run.objects.create(project=project, kind="score", spec={})
    assert lead.get(reverse("rmeval:study-detail", args=[run.uid])).status_code == 404
    assert lead.get(reverse("rmeval-api:study-detail", args=[run.uid])).status_code == 404


@pytest.mark.parametrize(
    ("question", "change", "said"),
    [
        ("compare", {"name_1": "one"}, "two arms or more"),
        ("compare", {"name_1": "one", "name_2": "one"}, "same name"),
        ("compare", {"name_1": "one", "name_2": "b", "text_2": "learning_rate"}, "not of the form setting = value"),
        ("compare", {"name_1": "one", "name_2": "b", "text_2": "nope = 1"}, "b, nope: This key is not known."),
        ("compare", {"name_1": "a", "name_2": "b", "text_2": "config.nope = 1"}, "b, config/nope"),
        ("compare", {"text_1": "epochs = 2"}, "Give this row a name."),
        ("grid", {"name_1": "epochs", "text_1": "1"}, "two values or more"),
        ("grid", {"text_1": "1, 2"}, "Name the setting."),
        ("learning_curve", {"shares": "2"}, "Shares lie above 0"),
        ("learning_curve", {"shares": "x"}, "valid number"),
        ("learning_curve", {"shared": "epochs = -1"}, "greater than 0"),
        ("learning_curve", {"source": ""}, "This field is required"),
    ],
)
def test_a_refused_study_says_why(
    model: RewardModel, dataset: Dataset, lead: Client, question: str, change: dict[str, str], said: str
) -> None:
    body = {"source": f"dataset:{dataset.uid}", "n_seeds": 2, "shares": "0.5, 1", **change}
    answer = lead.post(form_of(model, question), body)
    assert answer.status_code == 422
    assert said in answer.content.decode()
    assert not Run.objects.exists()


def test_arms_and_grids_of_the_form(model: RewardModel, dataset: Dataset, lead: Client) -> None:
    body = {"source": f"dataset:{dataset.uid}", "n_seeds": 2, "shared": "epochs = 1, config.dropout = 0.1"}
    rows = {"name_1": "usual", "name_2": "deep"}
    page = lead.get(form_of(model, "compare") + "&rows=8").content.decode()
    assert page.count('name="text_') == 8
    answer = lead.post(form_of(model, "compare"), {**body, **rows, "text_2": "config.head_depth = 2"})
    assert answer.status_code == 302, answer.content
    spec = Run.objects.latest("pk").spec
    assert spec["settings"] == {"epochs": 1}
    assert spec["arms"] == [
        {"name": "usual", "settings": {}, "config": {"dropout": 0.1}},
        {"name": "deep", "settings": {}, "config": {"dropout": 0.1, "head_depth": 2}},
    ]
    grid = {"name_1": "learning_rate", "text_1": "0.0001, 0.001"}
    assert lead.post(form_of(model, "grid"), {**body, **grid}).status_code == 302
    assert Run.objects.latest("pk").spec["grid"] == {"config.dropout": [0.1], "learning_rate": [0.0001, 0.001]}
    assert read_settings('a = [1, 2], b = {"c": 1, "d": 2}\nc = yes') == {"a": [1, 2], "b": {"c": 1, "d": 2}, "c": True}


def test_pages_of_few_queries(model: RewardModel, lead: Client, django_assert_max_num_queries: Any) -> None:
    grid = {"learning_rate": [1e-4, 1e-3], "config.head_depth": [1, 2, 3]}
    run = finished(model, {"question": "grid", "grid": grid}, lambda i, seed: 0.5 + 0.05 * i)
    with django_assert_max_num_queries(12):
        page_of(lead, run)
    with django_assert_max_num_queries(12):
        lead.get(form_of(model, "compare"))
    with django_assert_max_num_queries(8):
        lead.get(reverse("rmeval-api:study-detail", args=[run.uid]))


@pytest.mark.parametrize("question", ["compare", "grid"])
def test_a_way_of_training_opens_no_other_folder(
    model: RewardModel, dataset: Dataset, lead: Client, question: str, tmp_path: Path, settings: Any
) -> None:
    settings.MODEL_DIRS = [tmp_path / "models"]
    rows = {
        "compare": {"name_1": "usual", "name_2": "other", "text_2": f"config.backbone = {tmp_path}"},
        "grid": {"name_1": "config.backbone", "text_1": f"minilm, {tmp_path}"},
    }
    answer = lead.post(form_of(model, question), {"source": f"dataset:{dataset.uid}", "n_seeds": 1, **rows[question]})
    assert answer.status_code == 422
    assert "is not open to this site" in answer.content.decode()
    assert not Run.objects.exists()


def test_sources_are_charted_apart(model: RewardModel, lead: Client) -> None:
    arms = [{"name": "usual"}, {"name": "weighed"}]
    run = finished(model, {"arms": arms}, lambda i, seed: 0.7 + 0.01 * seed)
    assert run.result is not None
    for row in run.result["runs"]:
        is_second = row["arm"] == "weighed"
        told = {"value": 0.6 + 0.2 * is_second + 0.01 * row["seed"], "ece": 0.1}
        row["by_source"] = {"web <b>": told, "chat": {"value": 0.8, "ece": 0.2 - 0.1 * is_second}}
    run.result["by_source"] = source_differences(run.result["runs"], [arm["name"] for arm in arms])
    run.save()
    outcome = study_outcome(run)
    assert outcome is not None
    charts = {chart.name: chart for chart in study_charts(outcome)}
    accuracy, ece = charts["source-accuracy"], charts["source-ece"]
    assert [row[:2] for row in accuracy.rows] == [
        ("chat", "usual"),
        ("chat", "weighed"),
        ("web <b>", "usual"),
        ("web <b>", "weighed"),
    ]
    assert accuracy.rows[3][-1] == "better"
    assert accuracy.rows[3][6] == pytest.approx(0.2)
    assert "Less is better" in ece.note
    assert 'aria-label="chat: usual 0.800;' in accuracy.svg
    page = page_of(lead, run)
    assert page.count("<figure") == 3
    assert "web <b>" not in page
    assert "web &lt;b&gt;" in page


def test_no_difference_is_an_answer(model: RewardModel, lead: Client) -> None:
    run = finished(model, {"arms": [{"name": "usual"}, {"name": "other"}]}, lambda i, seed: 0.7 + 0.01 * seed)
    page = page_of(lead, run)
    assert "usual and 1 other share the highest mean, and no difference from usual is shown." in page
    assert page.count(">highest mean<") == 2
    ahead = {"arms": [{"name": "usual"}, {"name": "other"}, {"name": "third"}]}
    page = page_of(lead, finished(model, ahead, lambda i, seed: 0.7 + 0.01 * seed * (1 if i == 0 else -1)))
    assert "usual has the highest mean, but is not shown to be better than any of the 2 others." in page
    assert page.count(">highest mean<") == 1
    page = page_of(lead, finished(model, ahead, lambda i, seed: 0.7 + 0.01 * seed * (-1 if i == 0 else 1)))
    assert "other and 1 other share the highest mean, but no difference from usual is shown over" in page
    assert 'class="callout ok"' not in page


def test_no_interval_of_an_accuracy_leaves_its_bounds(model: RewardModel, lead: Client) -> None:
    """Student's t over two seeds that are far apart reaches beyond 0 and 1; a difference may."""
    run = finished(model, {"arms": [{"name": "a"}, {"name": "b"}], "n_seeds": 2}, lambda i, seed: 0.3 + 0.4 * seed * i)
    page = page_of(lead, run)
    assert "<b>50.0%</b> <span" in page
    assert "[0.0%, 100.0%]" in page
    assert "[−234.1, +274.1]" in page


def test_the_run_of_a_study_tells_its_seeds_and_leaves_figures_to_its_page(model: RewardModel, lead: Client) -> None:
    run = finished(model, {"arms": [{"name": "a"}, {"name": "b"}], "n_seeds": 3}, lambda i, seed: 0.7 + 0.1 * i)
    page = lead.get(reverse("rmeval:run-detail", args=[run.uid])).content.decode()
    assert "<dt>Seed</dt><dd><code>0</code> to <code>2</code>" in page
    assert "nothing here is drawn at random" not in page
    assert "Answer, plots and table of this study" in page
    assert "Means: " not in page
    assert "no verdicts or labels were read" in page  # this run is made by hand: it read nothing


def test_more_rows_keep_what_was_typed(model: RewardModel, dataset: Dataset, lead: Client) -> None:
    address = form_of(model, "compare")
    page = lead.get(address).content.decode()
    assert f'formaction="{address.partition("/studies/new/")[2].replace("&", "&amp;")}&amp;rows=8"' in page
    body = {
        "source": f"dataset:{dataset.uid}",
        "n_seeds": "7",
        "name_1": "usual",
        "text_2": "no sign",
        "change": "rows",
    }
    answer = lead.post(f"{address}&rows=8", {**body, "keep_checkpoints": "on"})
    page = answer.content.decode()
    assert (answer.status_code, Run.objects.exists()) == (200, False)
    for kept in (
        'value="7"',
        'value="usual"',
        "no sign</textarea>",
        f'value="dataset:{dataset.uid}" selected',
        " checked",
    ):
        assert kept in page.replace("\n", "")
    assert "name_8" in page
    assert "is not of the form" not in page
