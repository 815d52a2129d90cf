"""Session fixtures of every test: a throw-away PostgreSQL and the search for a browser.

The server starts when the first test asks for a database, so tests of `workers/` never wait for it. Under xdist the
controller starts one server and each worker process makes its own database in it.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.postgres import throwaway_cluster

URL = "STEELYARD_TEST_DATABASE_URL"
CONTROLLER = pytest.StashKey[ExitStack]()


def pytest_configure(config: pytest.Config) -> None:
    is_controller = bool(getattr(config.option, "numprocesses", None)) and not hasattr(config, "workerinput")
    if is_controller and URL not in os.environ:
        stack = config.stash[CONTROLLER] = ExitStack()
        os.environ[URL] = stack.enter_context(throwaway_cluster())
        stack.callback(os.environ.pop, URL, None)


def pytest_unconfigure(config: pytest.Config) -> None:
    if stack := config.stash.get(CONTROLLER, None):
        stack.close()


@pytest.fixture(scope="session")
def database_url() -> Iterator[str]:
    """The URL of the session's own PostgreSQL server (or of the one named in STEELYARD_TEST_DATABASE_URL)."""
    if URL in os.environ:
        yield os.environ[URL]
        return
    with throwaway_cluster() as url:
        yield url


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None, database_url: str) -> None:
    """Point Django at the test server before its first connection."""
    from django.conf import settings
    from django.db import connections

    from steelyard.env import database_from_url

    # No pool: tests with threads close what they open, and a test database can be dropped.
    connections["default"].settings_dict.update(database_from_url(database_url, pool_size=0))
    settings.DATABASE_URL = database_url


def find_browser() -> str | None:
    """The Chromium that browser journeys drive; STEELYARD_CHROMIUM names another."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    named = os.environ.get("STEELYARD_CHROMIUM", "")
    return named or next((found for name in names if (found := shutil.which(name))), None)


@pytest.fixture(scope="session")
def browser_path() -> str:
    """Path of the system's Chromium. Tests marked `browser` are skipped where there is none."""
    found = find_browser()
    if found is None:
        pytest.skip("no Chromium on this machine")
    return found


ALONE = re.compile(
    r"tests/(browser|live|ops)/|test_race|_kill|/test_(machines|parallel|processes|scoring_settings|sharding)"
)
"""Tests that start processes, race, or drive a browser: what runs beside them makes them late, not wrong."""


@pytest.hookimpl(tryfirst=True)  # before -m selects by the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    has_browser = find_browser() is not None
    for item in items:
        if ALONE.search(item.nodeid.split("::")[0]):
            item.add_marker(pytest.mark.alone)
        if not has_browser and item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.skip(reason="no Chromium on this machine"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not find_browser():
        terminalreporter.section("browser journeys were NOT run")
        terminalreporter.line(
            "No Chromium was found. Install it (Debian: apt-get install chromium) or set STEELYARD_CHROMIUM."
        )
