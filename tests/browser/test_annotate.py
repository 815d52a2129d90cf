"""The annotate page in a real Chromium: by keyboard alone, through faults and reloads, on a phone, in two tabs."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.utils import timezone
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from annotator.models import Assignment, Exclusion, Flag, Judgement, Queue, Role, User
from annotator.services.queues import queue_state_set
from tests.annotator.queue_helpers import queue_of
from tests.browser.sessions import NARROW, WIDE, signed_in
from tests.factories import member
from tests.web import Web

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.timeout(240)]
Open = Callable[..., Page]


@pytest.fixture
def queue() -> Queue:
    return queue_of(12, now=timezone.now(), guidelines="Prefer what is **right**.")


@pytest.fixture
def user(queue: Queue) -> User:
    person: User = member(queue.project, Role.ANNOTATOR)
    return person


@pytest.fixture
def open_page(browser: Browser, web: Web, queue: Queue, user: User) -> Iterator[Open]:
    contexts: list[BrowserContext] = []

    def open_one(**options: Any) -> Page:
        context = options.pop("context", None) or signed_in(browser, web, user, **options)
        contexts.append(context)
        page = context.new_page()
        page.goto(f"{web.url}/queues/{queue.uid}/annotate/")
        ready(page)
        return page

    yield open_one
    for context in contexts:
        context.close()


def ready(page: Page) -> None:
    expect(page.locator("body[data-annotate=ready]")).to_be_attached(timeout=20_000)


def item(page: Page, number: int) -> None:
    expect(page.locator("#prompt-heading")).to_have_text(f"Item {number}", timeout=20_000)


def test_ten_pairs_by_keyboard_alone(open_page: Open, queue: Queue) -> None:
    page = open_page()
    keys = ["1", "2", "a2", "4", "s", "d3", "6", "b", "7", "n"]
    for number, pressed in enumerate(keys, start=1):
        item(page, number)
        for key in pressed:
            page.keyboard.press(key)
        if pressed == "n":
            page.keyboard.type("Both are in a language with 1 word I do not read")  # digits are text here
        page.keyboard.press("Control+Enter")
    item(page, 11)
    expect(page.locator("#save-state")).to_contain_text("Saved")
    assert page.evaluate("document.activeElement.id") == "prompt-heading"
    expect(page.locator("#announce")).to_have_text("Item 11 loaded")
    stored = [row.answers["preference"] for row in Judgement.objects.order_by("pk")]
    assert [(a["pressed"], a["preference_strength"]) for a in stored] == [
        ("left", 3), ("left", 2), ("left", 2), ("tie", None), ("tie", None),
        ("right", 3), ("right", 2), ("both_bad", None), ("right", 3), ("cannot_judge", None),
    ]  # fmt: skip
    assert stored[-1]["justification"].endswith("not read")
    for row in Judgement.objects.select_related("assignment"):
        pressed = row.answers["preference"]["pressed"]
        if pressed in ("left", "right"):
            assert row.verdict == ("a" if (pressed == "left") == row.assignment.a_is_left else "b")
        assert row.assignment.shown["layout"] == "side_by_side"


def test_undo_redo_and_reopening_the_last_answer(open_page: Open) -> None:
    page = open_page()
    page.keyboard.press("1")
    page.keyboard.press("7")
    page.keyboard.press("z")
    expect(page.locator("input[value='left:3']")).to_be_checked()
    page.keyboard.press("Shift+Z")
    expect(page.locator("input[value='right:3']")).to_be_checked()
    page.keyboard.press("Control+Enter")
    item(page, 2)
    page.keyboard.press("z")
    expect(page.locator("#task")).to_contain_text("Reopened")
    item(page, 1)
    expect(page.locator("input[value='right:3']")).to_be_checked()
    page.keyboard.press("2")
    page.keyboard.press("Control+Enter")
    item(page, 2)
    versions = list(Judgement.objects.order_by("version").values_list("version", "is_current", "preference_strength"))
    assert versions == [(1, False, 3), (2, True, 2)]


def test_an_answer_without_2xx_stays_survives_a_reload_and_arrives_once(open_page: Open) -> None:
    page = open_page()
    keys: list[str] = []

    def fail(route: Route) -> None:
        keys.append((route.request.post_data_json or {})["idempotency_key"])
        if len(keys) % 2:
            route.abort()
        else:
            route.fulfill(status=500, body="broken")

    page.route("**/submit/", fail)
    page.keyboard.press("2")
    page.keyboard.press("j")
    page.keyboard.type("It is right")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#save-state")).to_have_text("Not saved, retrying")
    expect(page.locator("input[value='left:2']")).to_be_checked()
    item(page, 1)
    page.reload()
    ready(page)
    item(page, 1)
    expect(page.locator("input[value='left:2']")).to_be_checked()
    expect(page.locator("#justification")).to_have_value("It is right")
    expect(page.locator("#save-state")).to_have_text("Not saved, retrying")
    page.wait_for_timeout(1500)
    assert len(keys) >= 2
    assert len(set(keys)) == 1
    assert not Judgement.objects.exists()
    page.unroute("**/submit/")
    item(page, 2)
    assert [j.idempotency_key for j in Judgement.objects.all()] == [keys[0]]


def test_the_answer_lost_on_the_way_back_counts_once(open_page: Open) -> None:
    """The server has it, the browser never hears: the same key again brings the first result."""
    page = open_page()
    lost: list[int] = []

    def lose(route: Route) -> None:
        lost.append(route.fetch().status)
        route.abort() if len(lost) == 1 else route.continue_()

    page.route("**/submit/", lose)
    number = 1
    while not lost and number <= 3:  # on a busy machine the first request may leave before the route is in place
        page.keyboard.press("6")
        page.keyboard.press("Control+Enter")
        number += 1
        item(page, number)
    assert lost[0] == 201
    assert Judgement.objects.count() == number - 1


def test_a_draft_survives_a_reload_and_another_browser(open_page: Open) -> None:
    page = open_page()
    page.keyboard.press("3")
    page.keyboard.press("j")
    page.keyboard.type("half a thought")
    expect(page.locator("#save-state")).to_contain_text("Saved")
    elsewhere = open_page()
    expect(elsewhere.locator("#justification")).to_have_value("half a thought")
    expect(elsewhere.locator("input[value='left:1']")).to_be_checked()
    page.route("**/draft/", lambda route: route.abort())
    page.keyboard.type(", and the rest")
    expect(page.locator("#save-state")).to_have_text("Not saved, retrying")
    page.reload()
    expect(page.locator("#justification")).to_have_value("half a thought, and the rest")


def test_a_second_tab_is_warned_and_gets_the_same_item(open_page: Open) -> None:
    page = open_page()
    other = open_page(context=page.context)
    expect(other.locator("#tab-warning")).to_be_visible()
    expect(page.locator("#tab-warning")).to_be_visible()
    assert Assignment.objects.count() == 1
    other.keyboard.press("1")
    other.keyboard.press("Control+Enter")
    item(other, 2)
    item(page, 2)  # moved on with it
    other.close()
    expect(page.locator("#tab-warning")).to_be_hidden()


def test_a_newer_draft_of_another_browser_is_offered(open_page: Open) -> None:
    page, other = open_page(), open_page()
    other.keyboard.press("7")
    expect(other.locator("#save-state")).to_contain_text("Saved")
    page.keyboard.press("1")
    expect(page.locator("#task-notice")).to_contain_text("newer draft")
    page.get_by_role("button", name="Use the newer").click()
    expect(page.locator("input[value='right:3']")).to_be_checked()


def test_narrow_screen_wants_both_tabs_seen(open_page: Open) -> None:
    page = open_page(viewport=NARROW, has_touch=True)
    expect(page.locator("#pane-left")).to_be_visible()
    expect(page.locator("#pane-right")).to_be_hidden()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.locator("label.side-left").first.click()
    page.locator("#submit").click()
    expect(page.locator("#hint")).to_contain_text("right response too")
    expect(page.locator("#pane-right")).to_be_visible()
    page.locator("#submit").click()
    item(page, 2)
    shown = Assignment.objects.get(state="submitted").shown
    assert (shown["layout"], sorted(shown["viewed"])) == ("tabs", ["left", "right"])


def test_desktop_page_does_not_scroll_and_modes_work(open_page: Open) -> None:
    page = open_page()
    assert page.evaluate("document.documentElement.scrollHeight <= window.innerHeight")
    page.keyboard.press("q")
    expect(page.locator("#pane-right")).to_be_hidden()
    page.keyboard.press("q")
    expect(page.locator("#pane-right")).to_be_visible()
    page.keyboard.press("m")
    expect(page.locator("#pane-left .raw-text")).to_be_visible()
    page.keyboard.press("w")
    expect(page.locator("#pane-left mark").first).to_be_visible()
    page.keyboard.press("g")
    expect(page.locator("#guidelines")).to_contain_text("Prefer what is right")
    centre = "e => { const r = e.getBoundingClientRect(); return r.left + r.width / 2 }"
    page.keyboard.press("g")
    assert abs(page.locator("#scale").evaluate(centre) - WIDE["width"] / 2) < 2


def test_cheat_sheet_lists_every_key_and_a_key_can_be_changed(open_page: Open, user: User) -> None:
    from annotator.shortcuts import SHORTCUTS

    page = open_page()
    page.keyboard.press("?")
    expect(page.locator("#help-dialog .key-row")).to_have_count(len(SHORTCUTS))
    row = page.locator(".key-row[data-action=skip]")
    row.get_by_role("button").click()
    page.keyboard.press("a")
    expect(page.locator("#keys-state")).to_contain_text("already means")
    row.get_by_role("button").click()
    page.keyboard.press("x")
    expect(row.locator("kbd")).to_have_text("x")
    user.refresh_from_db()
    assert user.preferences["keys"] == {"skip": "x"}
    page.keyboard.press("Escape")
    page.keyboard.press("x")
    expect(page.locator("#skip-dialog")).to_be_visible()


def test_skip_and_flag_by_keyboard(open_page: Open) -> None:
    page = open_page()
    page.keyboard.press("f")
    page.keyboard.type("Both are the same")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#flag-dialog")).to_be_hidden()
    first = Assignment.objects.get().item_id
    page.keyboard.press("k")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#skip-dialog")).to_be_hidden()
    page.keyboard.press("4")
    page.keyboard.press("Control+Enter")
    item(page, 2)
    assert Flag.objects.get().detail == "Both are the same"
    assert Exclusion.objects.get().reason == "expertise"
    assert Judgement.objects.get().item_id != first


def test_a_key_counts_as_soon_as_a_dialog_has_closed(open_page: Open) -> None:
    """The focus stays in the closed dialog until the next frame; the key pressed there is for the page."""
    page = open_page()
    page.keyboard.press("f")
    page.evaluate(
        """() => {
            const dialog = document.getElementById("flag-dialog");
            const text = document.getElementById("flag-detail");
            dialog.close();
            text.dispatchEvent(new KeyboardEvent("keydown", { key: "k", code: "KeyK", bubbles: true }));
        }"""
    )
    expect(page.locator("#skip-dialog")).to_be_visible()
    page.locator("#skip-detail").press("4")
    expect(page.locator("#skip-detail")).to_have_value("4")


def test_keys_by_place_on_a_cyrillic_and_a_french_keyboard(open_page: Open) -> None:
    page = open_page()
    press = "([key, code]) => document.dispatchEvent(new KeyboardEvent('keydown', { key, code, bubbles: true }))"
    page.evaluate(press, ["ф", "KeyA"])
    expect(page.locator("#scale")).to_have_attribute("data-pending", "left")
    page.evaluate(press, ["&", "Digit1"])
    expect(page.locator("input[value='left:1']")).to_be_checked()
    page.evaluate(press, ["d", "KeyD"])
    expect(page.locator("#scale")).to_have_attribute("data-pending", "right")


def test_paused_queue_says_so_and_opens_by_itself(open_page: Open, queue: Queue) -> None:
    queue_state_set(queue=queue, state="paused", actor=None)
    page = open_page()
    expect(page.locator("#nothing")).to_contain_text("paused")
    expect(page.locator("body[data-live=ready]")).to_be_attached()
    queue_state_set(queue=queue, state="open", actor=None)
    item(page, 1)


def test_logged_out_in_the_middle(open_page: Open) -> None:
    page = open_page()
    cookies = page.context.cookies()
    page.context.clear_cookies()
    page.keyboard.press("1")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#task-notice")).to_contain_text("logged out")
    page.context.add_cookies(cookies)  # logged in again in another tab
    item(page, 2)
    assert Judgement.objects.count() == 1


def test_works_without_scripts(browser: Browser, web: Web, queue: Queue, user: User) -> None:
    context = signed_in(browser, web, user, java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{web.url}/queues/{queue.uid}/annotate/")
    page.locator("label.side-left").first.click()
    page.locator("#submit").click()
    item(page, 2)
    assert Judgement.objects.get().preference_strength == 3
    context.close()


def test_pure_cores(open_page: Open) -> None:
    """The functions behind the page, called as they are."""
    page = open_page()
    outcome = page.evaluate(
        """async () => {
          const [answer, outbox, timer, diff, panes] = await Promise.all(
            ["answer", "outbox", "timer", "diff", "panes"].map((name) => import(`/static/js/${name}.js`)));
          const clock = new timer.ActiveClock(0);
          clock.input(30000); clock.tick(200000);           // idle from 90 s on
          clock.show(false, 200000); clock.show(true, 300000); clock.tick(310000);
          const [onlyA, onlyB] = diff.unmatched(diff.words("the old cat sat"), diff.words("the cat sat down"));
          const question = { name: "q", points: 7, allow_tie: true, allow_both_bad: false, allow_cannot_judge: true,
                             justification: "required", reasons: ["Clear"], reason_first: true };
          const locked = answer.choose(question, answer.EMPTY, "left", 2);
          const open = answer.choose(question, { ...answer.EMPTY, justification: "x" }, "left", 2);
          return {
            seconds: clock.seconds(310000), onlyA, onlyB, locked: locked.choice, open: open.choice,
            mirrored: answer.mirror(open).choice, none: answer.choose(question, open, "both_bad").choice,
            outcomes: [201, 409, 403, 500, 0, 429].map(outbox.outcome),
            waits: [0, 3, 20].map((n) => outbox.delayMs(n, () => 0.5)),
            lease: [timer.leaseText(500000, 0), timer.leaseText(105000, 0), timer.leaseText(5, 10)],
            top: panes.syncedTop({ scrollTop: 50, scrollHeight: 200, clientHeight: 100 },
                                 { scrollHeight: 500, clientHeight: 100 }),
          };
        }"""
    )
    assert outcome["seconds"] == 100
    assert outcome["onlyA"] == [False, True, False, False]
    assert outcome["onlyB"] == [False, False, False, True]
    assert (outcome["locked"], outcome["open"], outcome["mirrored"], outcome["none"]) == (None, "left", "right", "left")
    assert outcome["outcomes"] == ["done", "refused", "login", "retry", "retry", "retry"]
    assert outcome["waits"] == [1000, 8000, 30000]
    assert outcome["lease"] == ["", "1:45 left", "Time is up"]
    assert outcome["top"] == 200


def test_no_duplicate_keys() -> None:
    from annotator.shortcuts import SHORTCUTS, keys_check

    keys = [shortcut.key for shortcut in SHORTCUTS]
    assert len(set(keys)) == len(keys)
    assert keys_check({"skip": "k"}) == {}
    assert uuid.uuid4().hex
