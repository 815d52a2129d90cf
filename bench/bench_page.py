"""Weight, time and queries of the annotate page, as a production site serves it.

    make bench ARGS=page

Bytes are those on the wire: what a browser without a cache fetches for the first item, and what each next item costs.
Time is from navigation to the moment the page takes keys, in a real Chromium where one is installed.
"""

import gzip
import re
import shutil
import statistics
from dataclasses import dataclass
from urllib.parse import urljoin
from urllib.request import Request, urlopen

from bench.queue_site import make_dataset, make_queue, make_raters, site

PORT = 8798
TARGET_BYTES, TARGET_READY_S = 150_000, 0.5
PRODUCTION = {
    "STEELYARD_ENV": "production",
    "STEELYARD_SECRET_KEY": "bench-" * 10,
    "STEELYARD_ALLOWED_HOSTS": "127.0.0.1",
    "STEELYARD_HTTPS": "false",
}
LINKS = re.compile(rb'(?:src|href)="(/static/[^"]+)"')
IMPORTS = re.compile(rb'from "(\./[\w.-]+)"')


@dataclass
class Fetched:
    """One resource: its text and its size on the wire."""

    text: bytes
    n_bytes: int


def fetch(url: str, cookie: str, **headers: str) -> Fetched:
    with urlopen(Request(url, headers={"Accept-Encoding": "gzip", "Cookie": cookie, **headers})) as response:
        raw = response.read()
        return Fetched(gzip.decompress(raw) if response.headers.get("Content-Encoding") == "gzip" else raw, len(raw))


def page_and_assets(base: str, path: str, cookie: str) -> dict[str, Fetched]:
    """The page with every style, script and imported module."""
    found = {path: fetch(base + path, cookie)}
    waiting = [link.decode() for link in LINKS.findall(found[path].text)]
    while waiting:
        link = waiting.pop()
        if link in found:
            continue
        found[link] = fetch(base + link, cookie)
        if ".js" in link:
            waiting += [urljoin(link, name.decode()) for name in IMPORTS.findall(found[link].text)]
    return found


def session_cookie() -> str:
    """Log the first rater in."""
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.sessions.backends.db import SessionStore

    from annotator.models import User

    make_raters(1)
    user = User.objects.get(username="rater0")
    session = SessionStore()
    session[SESSION_KEY], session[HASH_SESSION_KEY] = str(user.pk), user.get_session_auth_hash()
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session.save()
    return f"steelyard_session={session.session_key}"


def query_counts(path: str, cookie: str) -> dict[str, int]:
    """Statements of a first load, of a next card, of a claim and of a submit."""
    import json

    from django.conf import settings
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    client = Client(headers={"host": "127.0.0.1"})
    client.cookies[settings.SESSION_COOKIE_NAME] = cookie.partition("=")[2]

    def count(call) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert call().status_code < 300
        return len(captured)

    queue = path.split("/")[2]
    task = client.post(f"/api/v1/queues/{queue}/claim/", "{}", content_type="application/json").json()
    body = {"answers": {"preference": {"choice": "tie"}}, "active_seconds": 1, "idempotency_key": "bench"}
    submit = f"/api/v1/assignments/{task['assignment']['uid']}/submit/"
    return {
        "page": count(lambda: client.get(path)),
        "submit": count(lambda: client.post(submit, json.dumps(body), content_type="application/json")),
        "next card": count(lambda: client.get(path, headers={"hx-request": "true"})),
    }


def ready_times(base: str, path: str, cookie: str) -> list[float]:
    """Seconds from navigation until the page takes keys, each with an empty cache."""
    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    if browser_path is None:
        return []
    from playwright.sync_api import sync_playwright

    times = []
    name, _, value = cookie.partition("=")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        for _ in range(6):
            context = browser.new_context()
            context.add_cookies([{"name": name, "value": value, "url": base}])
            page = context.new_page()
            page.goto(base + path, wait_until="commit")
            page.wait_for_selector("body[data-annotate=ready]", state="attached")
            times.append(page.evaluate("performance.now()") / 1000)
            context.close()
        browser.close()
    return times[1:]


def main() -> None:
    with site(PORT, **PRODUCTION) as here:
        queue, _ = make_queue(make_dataset(50), 1)
        cookie = session_cookie()
        path = f"/queues/{queue.uid}/annotate/"
        found = page_and_assets(here.url, path, cookie)
        total = sum(resource.n_bytes for resource in found.values())
        kinds = {kind: sum(r.n_bytes for n, r in found.items() if kind in n) for kind in (".css", ".js", ".svg")}
        print(f"first item  {total:,} bytes in {len(found)} requests (target {TARGET_BYTES:,})")
        print(f"            of which html {found[path].n_bytes:,}, {kinds}")
        print(f"next item   {fetch(here.url + path, cookie, **{'HX-Request': 'true'}).n_bytes:,} bytes")
        print(f"queries     {query_counts(path, cookie)}")
        times = ready_times(here.url, path, cookie)
        if times:
            median = statistics.median(times)
            print(f"takes keys  median {median:.2f} s, worst {max(times):.2f} s (target {TARGET_READY_S})")
        print("target " + ("met" if total < TARGET_BYTES else "MISSED"))


if __name__ == "__main__":
    main()
