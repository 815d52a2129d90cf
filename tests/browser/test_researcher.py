"""What researchers do on their pages in a browser: the playground, a label audit, names of any length."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from steelyard.embedded import embedded_url
from steelyard.launcher import ROOT
from tests.ops.site import Site, running_site

pytestmark = [pytest.mark.browser, pytest.mark.timeout(420)]
LONG = "a name that goes on and on " * 7
PASSWORD = "a long enough password"
MAKE_WORLD = f"""
from annotator.models import User
from annotator.services.projects import project_create
from django.utils import timezone
from rmeval.services.reward_models import reward_model_register as register
from rmeval.services.submission import run_submit
from tests.factories import DatasetFactory
from tests.rmeval.conftest import fill
lead = User.objects.create_superuser("leda", "l@x.org", {PASSWORD!r})
project = project_create(name="Lab", creator=lead)
dataset = fill(DatasetFactory(project=project, name="Pairs"), 24)
members = []
for name, family in (({LONG!r}, "length"), ("x" * 200, "random")):
    made = register(project=project, name=name, family=family, config={{}}, user=lead)
    members.append(str(made.checkpoints.get().uid))
both = register(project=project, name="Both", family="ensemble", config={{"members": members}}, user=lead)
spec = {{"reward_model": str(both.uid), "source": {{"dataset": str(dataset.uid)}}}}
run_submit(project=project, kind="train_rm", spec=spec, user=lead, now=timezone.now())
print("made", project.uid)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("researcher")) as running:
        running.wait_ready()
        yield running


@pytest.fixture(scope="module")
def project(site: Site) -> str:
    url = embedded_url(site.home / "var")
    environment = {**os.environ, "STEELYARD_HOME": str(site.home), "STEELYARD_DATABASE_URL": url}
    command = [sys.executable, "manage.py", "shell", "-c", MAKE_WORLD]
    told = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    return told.stdout.split("made ")[-1].strip()


@pytest.fixture(scope="module")
def browser(browser_path: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser, site: Site, project: str) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 420, "height": 900})
    opened = context.new_page()
    opened.goto(f"http://127.0.0.1:{site.port}/")
    opened.get_by_label("Username").fill("leda")
    opened.get_by_label("Password", exact=True).fill(PASSWORD)
    opened.keyboard.press("Enter")
    expect(opened.get_by_role("heading", name="My projects")).to_be_visible()
    yield opened
    context.close()


def overflow(page: Page) -> int:
    return int(page.evaluate("document.querySelector('main').scrollWidth - document.documentElement.clientWidth"))


def test_responses_come_and_go_and_are_scored(page: Page, site: Site, project: str) -> None:
    page.goto(f"http://127.0.0.1:{site.port}/projects/{project}/playground/")
    page.get_by_label("Conversation").fill("Why?")
    page.get_by_label("Response 1", exact=True).fill("First of all.")
    page.get_by_role("button", name="Add a response").click()
    third = page.get_by_label("Response 3", exact=True)
    expect(third).to_be_focused()
    third.fill("Third.")
    page.get_by_role("button", name="Remove response 2").click()
    expect(third).to_have_count(0)
    expect(page.get_by_label("Response 2", exact=True)).to_have_value("Third.")
    expect(page.get_by_label("Response 1", exact=True)).to_have_value("First of all.")
    assert overflow(page) <= 0
    page.get_by_role("button", name="Score", exact=True).click()
    expect(page.get_by_role("heading", name="Rewards")).to_be_visible(timeout=120_000)
    assert overflow(page) <= 0


def test_what_a_model_tells_opens_below_its_row(page: Page, site: Site, project: str) -> None:
    """The ensemble tells of its members; one opens that with the keyboard, and the page stays as wide as it is."""
    page.goto(f"http://127.0.0.1:{site.port}/projects/{project}/reward-models/")
    page.get_by_role("link", name="Both").click()
    expect(page.get_by_role("link", name="#1")).to_be_visible(timeout=120_000)  # it has been measured
    page.get_by_role("link", name="Playground").first.click()
    page.get_by_label("Conversation").fill("Why?")
    page.get_by_label("Response 1", exact=True).fill("First of all, because.")
    page.get_by_label("Response 2", exact=True).fill("Second.")
    page.get_by_role("button", name="Score", exact=True).click()
    more = page.locator(".typed-more > summary")
    expect(more).to_have_count(1, timeout=120_000)
    members = page.locator("caption", has_text="Members of the ensemble")
    expect(members).to_be_hidden()
    more.focus()
    page.keyboard.press("Enter")
    expect(members).to_be_visible()
    assert overflow(page) <= 0


def test_an_audit_starts_and_shows_its_progress(page: Page, site: Site, project: str) -> None:
    page.goto(f"http://127.0.0.1:{site.port}/projects/{project}/reward-models/")
    assert overflow(page) <= 0
    page.get_by_role("link", name="Audit labels").click()
    page.get_by_label("Labels of").select_option(label="Pairs (25 pairs)")
    page.get_by_label("Members").fill("1")
    page.get_by_role("button", name="Start the audit").click()
    expect(page.get_by_role("alert").first).to_contain_text("Members")
    page.get_by_label("Members").fill("3")
    page.get_by_role("button", name="Start the audit").click()
    expect(page.get_by_role("heading", name="Suspects")).to_be_visible(timeout=90_000)
    assert overflow(page) <= 0
