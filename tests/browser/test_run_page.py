"""A run's page in a real Chromium, watched from submit to done: what it says is new, what the reader opened stays."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import Browser, Page, expect

from annotator.models import Project
from rmeval.models import Run
from rmeval.services.runs import run_environment, run_finish, run_start
from rmeval.services.submission import run_submit
from tests.browser.sessions import signed_in
from tests.factories import DatasetFactory, ProjectFactory, member
from tests.rmeval.conftest import fill
from tests.rmeval.test_evaluation import baseline
from tests.web import Web

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.timeout(240)]


@pytest.fixture
def run() -> Run:
    project: Project = ProjectFactory()
    dataset = fill(DatasetFactory(project=project, name="Pairs"))
    spec = {"checkpoint": str(baseline(project).uid), "source": {"dataset": str(dataset.uid)}}
    return run_submit(project=project, kind="evaluate", spec=spec, user=None, now=timezone.now(), enqueue=False)


@pytest.fixture
def page(browser: Browser, web: Web, run: Run) -> Iterator[Page]:
    context = signed_in(browser, web, member(run.project), color_scheme="dark", viewport={"width": 420, "height": 800})
    page = context.new_page()
    page.goto(f"{web.url}/runs/{run.uid}/")
    yield page
    context.close()


def poked(page: Page, run: Run) -> None:
    """As live.js says it when the run has changed."""
    page.evaluate("topic => document.body.dispatchEvent(new CustomEvent(topic))", f"live:run.{run.uid}")


def test_what_repeats_it_comes_without_a_reload(page: Page, run: Run) -> None:
    repeat = page.locator("#repeat")
    expect(repeat).to_contain_text("not read yet")
    page.locator("body[data-live=ready]").wait_for()
    page.locator("#run-spec-summary").click()
    page.locator("#run-spec-json-summary").click()
    page.evaluate("window.before = document.getElementById('run-spec')")
    with page.expect_response(lambda answer: "part=repeat" in answer.url) as asked:
        poked(page, run)
    assert asked.value.status == 204
    assert page.evaluate("window.before.isConnected"), "what has not changed is left as it is"
    assert run_start(run=run, worker="w", now=timezone.now(), stale=timedelta(seconds=60), max_attempts=3)
    run.refresh_from_db()
    data = {"name": "Pairs", "sha256": "5" * 64, "kind": "dataset"}
    run_environment(run=run, data=data, commit="c0ffee", python="3.11", versions={"numpy": "2"}, n_cpus=2)
    run_finish(run=run, attempt=run.attempt, state="done", result={"n_pairs": 6}, now=timezone.now())
    top = page.evaluate("window.scrollY")
    poked(page, run)
    for known in ("5" * 64, "c0ffee", "numpy 2", "2 cores"):
        expect(repeat).to_contain_text(known)
    expect(repeat.get_by_role("button", name="Repeat this run")).to_be_visible()
    assert not page.evaluate("window.before.isConnected")
    for summary in ("run-spec", "run-spec-json"):
        assert page.locator(f"#{summary}").get_attribute("open") is not None, f"{summary} stays open"
    assert page.evaluate("document.activeElement.id") == "run-spec-json-summary"
    assert abs(page.evaluate("window.scrollY") - top) < 400
    expect(page).to_have_title("Evaluate length #1 on Pairs · done · Steelyard")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
