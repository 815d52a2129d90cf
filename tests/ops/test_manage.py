"""manage.py without a database: people hear at once what to do, and the sweeper waits."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from steelyard.embedded import Cluster
from steelyard.launcher import ROOT
from tests.ops.site import clean_environment, free_port, wait_for

HINT = "Start the site with `make up`, or name the one that runs"


def manage(home: Path, *args: str, **environment: str) -> tuple[subprocess.CompletedProcess[str], float]:
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "manage.py", *args],
        cwd=ROOT,
        env={**clean_environment(home, free_port()), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done, time.monotonic() - started


@pytest.mark.parametrize("args", [("token", "lead"), ("run", "score", "--spec", "{}", "--project", "x")])
@pytest.mark.parametrize("place", ["home", "url"])
def test_without_a_database_a_command_ends_with_one_line(tmp_path: Path, place: str, args: tuple[str, ...]) -> None:
    url = f"postgresql://steelyard:secret@127.0.0.1:{free_port()}/steelyard"
    done, took_s = manage(tmp_path, *args, **({"STEELYARD_DATABASE_URL": url} if place == "url" else {}))
    assert done.returncode == 1, done.stdout
    (line,) = done.stderr.splitlines()
    assert HINT in line
    assert ("Connection refused" if place == "url" else "No such file") in line
    assert "secret" not in line
    assert took_s < 10  # 22 s before; a second or two where nothing else runs


def test_what_needs_no_database_asks_for_none(tmp_path: Path) -> None:
    done, _ = manage(tmp_path, "run", "--help")
    assert done.returncode == 0, done.stderr
    assert not done.stderr


def test_a_command_works_with_a_database_that_answers(tmp_path: Path, database_url: str) -> None:
    done, _ = manage(tmp_path, "showmigrations", "annotator", STEELYARD_DATABASE_URL=database_url)
    assert done.returncode == 0, done.stderr
    assert "0001_initial" in done.stdout


def test_the_sweeper_waits_for_a_database_that_is_slow_to_start(tmp_path: Path) -> None:
    log = tmp_path / "sweep.log"
    with log.open("wb") as out:
        sweeper = subprocess.Popen(
            [sys.executable, "manage.py", "sweep", "--forever", "--every", "0.2"],
            cwd=ROOT,
            env={**clean_environment(tmp_path, free_port()), "PYTHONUNBUFFERED": "1"},
            stdout=out,
            stderr=out,
        )
    cluster = Cluster(tmp_path / "var")
    try:
        wait_for("it has tried", lambda: "No such file" in log.read_text())
        assert sweeper.poll() is None
        cluster.start()
        wait_for("it has been answered", lambda: "does not exist" in log.read_text())  # a table: nothing is made yet
        assert sweeper.poll() is None
    finally:
        sweeper.kill()
        sweeper.wait()
        cluster.stop()
