"""`make up` for real: started, crashed in every way we know, and looked after for what is left behind."""

import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from steelyard.embedded import embedded_url
from steelyard.launcher import ROOT
from tests.ops.site import Site, clean_environment, free_port, running_site, survivors, wait_for

pytestmark = pytest.mark.timeout(120)


def enqueue(home: Path) -> None:
    """A job for a run that does not exist: the worker takes it and finds nothing to do."""
    code = (
        "import django; django.setup(); from workers.tasks import run_job; "
        "run_job.apply_async(args=['00000000-0000-4000-8000-000000000000'], queue='default')"
    )
    environment = {**clean_environment(home, 1), "DJANGO_SETTINGS_MODULE": "steelyard.settings"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)


def n_done(home: Path) -> int:
    return (home / "var" / "log" / "worker-default.log").read_text().count("succeeded")


def test_site_survives_crashes_and_leaves_nothing(tmp_path: Path) -> None:
    with running_site(tmp_path) as site:
        site.wait_ready()
        assert site.get("/healthz") == (200, '{"status": "ok"}')
        wait_for("workers report", site.is_ready)
        enqueue(tmp_path)
        wait_for("a worker takes the job", lambda: n_done(tmp_path) == 1)

        site.child("web").kill()
        wait_for("web is restarted", lambda: "web was killed by SIGKILL" in site.output)
        # The launcher keeps the port: requests wait for the new process instead of being refused.
        assert site.get("/healthz")[0] == 200

        site.postmaster().kill()
        wait_for("PostgreSQL is restarted", lambda: "PostgreSQL ended" in site.output)
        wait_for("everything reconnects", site.is_ready)
        enqueue(tmp_path)
        wait_for("the worker hears its queue again", lambda: n_done(tmp_path) == 2)

        worker = site.child("worker-default")
        worker.kill()
        wait_for("the worker is restarted", lambda: "worker-default was killed" in site.output)
        enqueue(tmp_path)
        wait_for("the new worker takes a job", lambda: n_done(tmp_path) == 3)

        again = subprocess.run(
            [sys.executable, "-m", "steelyard.launcher"],
            cwd=ROOT,
            env=clean_environment(tmp_path, site.port),
            capture_output=True,
            text=True,
            check=False,
        )
        assert again.returncode == 1
        assert f"already running from {tmp_path} at http://127.0.0.1:{site.port}/" in again.stderr
        assert len(again.stderr.splitlines()) == 1

        family = site.family()
        assert site.end(signal.SIGINT) == 0
        assert survivors(family) == []
        assert "Traceback" not in site.output


def test_kill_9_of_the_launcher_is_recovered_from(tmp_path: Path) -> None:
    first = Site(tmp_path, free_port())
    first.wait_ready()
    family = first.family()
    with psycopg.connect(embedded_url(tmp_path / "var")) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS row")
    first.process.kill()
    first.process.wait()
    second = Site(tmp_path, first.port)
    try:
        second.wait_ready()
        assert survivors(family) == []
        with psycopg.connect(embedded_url(tmp_path / "var")) as connection:
            assert connection.execute("SELECT row FROM kept").fetchone() == (1,)
        family = second.family()
    finally:
        assert second.end() == 0
    assert survivors(family) == []
