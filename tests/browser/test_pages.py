"""Pages in a real Chromium: names without a space on narrow screens, copying, leaving with an unsent answer."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.utils import timezone
from playwright.sync_api import Browser, BrowserContext, Dialog, Page, expect

from annotator.models import Project, Queue, Role, User
from tests.annotator.queue_helpers import answer, held, queue_of, raters, submit
from tests.browser.sessions import NARROW, signed_in
from tests.factories import member
from tests.web import Web

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.timeout(240)]
LONG = "W" * 150
Open = Callable[..., Page]


@pytest.fixture
def queue() -> Queue:
    queue = queue_of(3, overlap=2, now=timezone.now())
    Project.objects.filter(pk=queue.project_id).update(name=LONG)
    Queue.objects.filter(pk=queue.pk).update(name=LONG)
    queue.dataset.name = LONG
    queue.dataset.save(update_fields=["name"])
    for rater in raters(2):
        submit(held(queue, rater), answer("left", 1), now=timezone.now())
    queue.refresh_from_db()
    return queue


@pytest.fixture
def lead(queue: Queue) -> User:
    person: User = member(queue.project)
    User.objects.filter(pk=person.pk).update(username=LONG)
    return person


@pytest.fixture
def open_as(browser: Browser, web: Web) -> Iterator[Open]:
    contexts: list[BrowserContext] = []

    def open_one(user: User, path: str, **options: Any) -> Page:
        contexts.append(signed_in(browser, web, user, **options))
        page = contexts[-1].new_page()
        page.goto(f"{web.url}{path}")
        return page

    yield open_one
    for context in contexts:
        context.close()


@pytest.mark.parametrize("width", [360, 420, 1280])
def test_no_page_is_wider_than_its_window(open_as: Open, web: Web, queue: Queue, lead: User, width: int) -> None:
    project, queues = f"/projects/{queue.project.uid}/", f"/queues/{queue.uid}/"
    page = open_as(lead, "/", viewport={"width": width, "height": 800})
    paths = ["/", "/account/", "/api/"]
    paths += [project + part for part in ("", "queues/", "datasets/", "snapshots/", "members/", "queues/new/", "runs/")]
    paths += [
        queues + part for part in ("", "?names=1", "items/", "review/", "agreement/", "snapshots/new/", "annotate/")
    ]
    paths += [f"/datasets/{queue.dataset.uid}/"]
    wide = []
    for path in paths:
        page.goto(f"{web.url}{path}")
        if page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
            wide.append(path)
    assert wide == []


def test_the_name_of_the_project_stays_while_its_tabs_scroll(open_as: Open, queue: Queue, lead: User) -> None:
    page = open_as(lead, f"/projects/{queue.project.uid}/members/", viewport={"width": 420, "height": 800})
    expect(page.locator(".project-tabs [aria-current]")).to_be_in_viewport(ratio=1)
    assert page.locator(".project-name").evaluate("e => e.getBoundingClientRect().left") >= 0


def test_a_link_is_copied_where_the_browser_has_no_clipboard(open_as: Open, queue: Queue, lead: User) -> None:
    """As on plain HTTP: navigator.clipboard is for secure pages alone."""
    page = open_as(lead, f"/projects/{queue.project.uid}/members/")
    page.add_init_script("Object.defineProperty(Navigator.prototype, 'clipboard', { get: () => undefined })")
    page.add_init_script("document.addEventListener('copy', () => { window.copied = String(getSelection()) })")
    page.get_by_role("button", name="Make a link").click()
    link = page.locator("#new-link").inner_text()
    page.get_by_role("button", name="Copy", exact=True).click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("window.copied") == link


def test_leaving_with_an_answer_that_was_not_sent_is_asked_about(open_as: Open, queue: Queue) -> None:
    asked: list[str] = []

    def seen(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.accept()

    page = open_as(member(queue.project, Role.ANNOTATOR), f"/queues/{queue.uid}/annotate/")
    page.on("dialog", seen)
    expect(page.locator("body[data-annotate=ready]")).to_be_attached()
    page.reload()
    expect(page.locator("body[data-annotate=ready]")).to_be_attached()
    assert asked == []  # nothing was answered yet
    page.route("**/submit/", lambda route: route.abort())
    page.keyboard.press("2")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#save-state")).to_have_text("Not saved, retrying")
    page.reload()
    assert asked == ["beforeunload"]


def test_a_blank_response_says_that_it_is_blank(open_as: Open, queue: Queue) -> None:
    for example in queue.dataset.examples.all():
        for response in example.responses.all():
            response.messages = [{"role": "assistant", "content": " \n"}]
            response.save(update_fields=["messages"])
    page = open_as(member(queue.project, Role.ANNOTATOR), f"/queues/{queue.uid}/annotate/")
    expect(page.locator("#pane-left .rendered")).to_have_text("(blank)")


def test_the_text_is_as_before_when_differences_are_no_longer_marked(open_as: Open, queue: Queue) -> None:
    page = open_as(member(queue.project, Role.ANNOTATOR), f"/queues/{queue.uid}/annotate/")
    expect(page.locator("body[data-annotate=ready]")).to_be_attached()
    raw, rendered = page.locator("#pane-left .raw-text"), page.locator("#pane-left .rendered")
    page.keyboard.press("w")
    expect(raw.locator("mark").first).to_be_visible()
    page.keyboard.press("w")
    expect(rendered).to_be_visible()
    expect(raw).to_be_hidden()
    for key in "mww":
        page.keyboard.press(key)
    expect(raw).to_be_visible()  # raw was asked for by itself


def test_a_phone_shows_the_question_too(open_as: Open, queue: Queue) -> None:
    page = open_as(member(queue.project, Role.ANNOTATOR), f"/queues/{queue.uid}/annotate/", viewport=NARROW)
    expect(page.locator("#question-title")).to_be_in_viewport()
