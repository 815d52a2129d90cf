"""The whole loop in two browsers, through pages alone: a lead and an annotator from an empty site to a leaderboard row.

The site is the one `make up` runs: launcher, embedded PostgreSQL, web process, Celery workers, sweeper.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from steelyard.embedded import embedded_url
from steelyard.launcher import ROOT
from tests.ops.site import Site, running_site

pytestmark = [pytest.mark.browser, pytest.mark.timeout(420)]
PASSWORD = "a long enough password"
N_PAIRS = 10
TRAINING_MS = 180_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("loop")) as running:
        running.wait_ready()
        yield running


@pytest.fixture(scope="module")
def browser(browser_path: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        launched = playwright.chromium.launch(executable_path=browser_path, args=arguments)
        yield launched
        launched.close()


def make_lead(site: Site) -> None:
    """The first account of a site is made on the command line, as the README says."""
    environment = {
        **os.environ,
        "STEELYARD_HOME": str(site.home),
        "STEELYARD_DATABASE_URL": embedded_url(site.home / "var"),
        "DJANGO_SUPERUSER_PASSWORD": PASSWORD,
    }
    command = [sys.executable, "manage.py", "createsuperuser", "--noinput", "--username", "leda", "--email", "l@x.org"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)


def pairs_file(folder: Path) -> Path:
    path = folder / "pairs.jsonl"
    rows = [
        {
            "prompt": f"Name the town with number {i}.",
            "chosen": f"The town with number {i} is Steelyard, a market town on a small river.",
            "rejected": f"no idea {i}",
        }
        for i in range(N_PAIRS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def open_page(browser: Browser, url: str) -> Page:
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    page.goto(url)
    return page


def log_in(page: Page, user: str) -> None:
    page.get_by_label("Username").fill(user)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="My projects")).to_be_visible()


def wait_live(page: Page) -> None:
    """The page's socket is subscribed: from here on every change must arrive by itself."""
    expect(page.locator("body[data-live=ready]")).to_be_attached()


def test_from_an_empty_site_to_a_leaderboard_row(site: Site, browser: Browser, tmp_path: Path) -> None:
    make_lead(site)
    base = f"http://127.0.0.1:{site.port}"
    lead = open_page(browser, f"{base}/login/")
    log_in(lead, "leda")

    project = create_project(lead)
    import_pairs(lead, pairs_file(tmp_path))
    queue = create_queue(lead)
    annotator = join_as_annotator(browser, lead, project)

    lead.goto(queue)
    wait_live(lead)
    label_by_keyboard(annotator, queue)
    # The lead's page moved without a reload.
    done = lead.locator(".stat").filter(has_text="Judgements done")
    expect(done.locator(".stat-value")).to_have_text(str(N_PAIRS))

    snapshot = cut_snapshot(lead, queue)
    leaderboard = f"{base}/leaderboards/{snapshot.rstrip('/').rpartition('/')[2]}/"
    watching = lead.context.new_page()
    watching.goto(leaderboard)
    wait_live(watching)
    train_and_evaluate(lead, project)
    expect(watching.locator("tbody tr[data-checkpoint]")).to_have_count(1, timeout=TRAINING_MS)
    expect(watching.locator("tbody tr[data-checkpoint]")).to_contain_text("tiny")


def create_project(lead: Page) -> str:
    lead.get_by_role("link", name=re.compile("new project|create a project", re.I)).first.click()
    lead.get_by_label("Name").fill("Towns")
    lead.get_by_role("button", name=re.compile("create|save", re.I)).click()
    expect(lead.get_by_role("heading", name="Towns")).to_be_visible()
    return lead.url


def import_pairs(lead: Page, path: Path) -> None:
    lead.locator(".project-tabs").get_by_role("link", name="Datasets").click()
    lead.get_by_role("link", name=re.compile("import", re.I)).first.click()
    lead.locator("input[type=file]").set_input_files(path)
    lead.get_by_label("Name", exact=True).fill("towns")
    lead.get_by_role("button", name="Import").click()
    expect(lead.locator("main")).to_contain_text("ready", timeout=30_000)
    expect(lead.locator("main")).to_contain_text(str(N_PAIRS))


def create_queue(lead: Page) -> str:
    lead.locator(".project-tabs").get_by_role("link", name="Queues").click()
    lead.get_by_role("link", name=re.compile("new queue", re.I)).first.click()
    lead.get_by_label("Name", exact=True).fill("Which is better?")
    lead.locator("select[name=dataset]").select_option(index=1)
    lead.get_by_role("button", name="Make the queue").click()
    expect(lead.get_by_role("heading", name="Which is better?")).to_be_visible()
    return lead.url


def join_as_annotator(browser: Browser, lead: Page, project: str) -> Page:
    lead.goto(f"{project}members/")
    lead.locator("select[name=role]").first.select_option("annotator")
    lead.get_by_role("button", name="Make a link").click()
    link = lead.locator("#new-link").inner_text()
    annotator = open_page(browser, link)
    annotator.locator("input[name=username]").fill("anna")
    for field in annotator.locator("input[type=password]").all():
        field.fill(PASSWORD)
    annotator.get_by_role("button", name="Create account and join").click()
    expect(annotator.locator("main")).to_contain_text("Towns")
    return annotator


def label_by_keyboard(annotator: Page, queue: str) -> None:
    annotator.goto(f"{queue}annotate/")
    for number in range(1, N_PAIRS + 1):
        expect(annotator.locator("main")).to_contain_text(f"Item {number}")
        left = annotator.locator("#pane-left").inner_text()
        annotator.keyboard.press("2" if "Steelyard" in left else "6")
        annotator.keyboard.press("Control+Enter")
    expect(annotator.locator("main")).to_contain_text("This queue is finished")


def cut_snapshot(lead: Page, queue: str) -> str:
    lead.goto(f"{queue}snapshots/new/")
    lead.get_by_role("button", name=re.compile("cut|freeze", re.I)).click()
    expect(lead.locator("main")).to_contain_text(re.compile("[0-9a-f]{12}"))
    return lead.url


def train_and_evaluate(lead: Page, project: str) -> None:
    lead.goto(f"{project}reward-models/new/?family=scalar_head")
    lead.locator("input[name=name]").fill("tiny")
    lead.locator("[name$=backbone]").fill("tiny-encoder")
    lead.get_by_role("button", name="Register").click()
    train = lead.locator("#train")
    train.locator("select[name$=source]").select_option(index=1)
    train.get_by_role("button", name="Start training").click()
    lead.wait_for_url("**/runs/**")
    expect(lead.locator("main")).to_contain_text("done", timeout=TRAINING_MS)
    lead.goto(f"{project}reward-models/")
    lead.get_by_role("link", name="tiny").click()
    evaluate = lead.locator("#evaluate")
    source = evaluate.locator("select[name$=source]")
    source.select_option(source.locator("option", has_text="Which is better").get_attribute("value"))
    evaluate.get_by_role("button", name="Start evaluation").click()
