"""Real web processes on the test's own database, for browsers, load over HTTP and kill tests."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import urlopen

from django.db import connection

from steelyard.launcher import ROOT
from tests.ops.site import free_port, wait_for


def test_database_url() -> str:
    """The URL of the database that this test uses, for another process."""
    values = connection.settings_dict
    host = quote(str(values["HOST"]), safe="/")
    return f"postgresql://{values['USER']}@/{values['NAME']}?host={host}&port={values['PORT'] or 5432}"


test_database_url.__test__ = False  # type: ignore[attr-defined]


class Web:
    """One web process. `kill()` is kill -9; `start()` brings it back at the same port."""

    def __init__(self, port: int, url: str, **environment: str) -> None:
        self.port = port
        own = {"STEELYARD_DATABASE_URL": url, "STEELYARD_LOG_LEVEL": "WARNING"}
        self.environment = {**os.environ, **own, **environment}
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "steelyard.web", "--port", str(self.port)]
        self.process = subprocess.Popen(command, cwd=ROOT, env=self.environment)
        wait_for("the web process answers", self.answers, timeout_s=60)

    def answers(self) -> bool:
        try:
            urlopen(f"{self.url}/login/", timeout=5).read()
        except HTTPError:
            return True
        except OSError:
            return False
        return True

    def kill(self) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(8)
            except subprocess.TimeoutExpired:
                self.kill()


@contextmanager
def web_processes(n: int, url: str, **environment: str) -> Iterator[list[Web]]:
    with tempfile.TemporaryDirectory(prefix="steelyard-web-") as home:
        webs = [Web(free_port(), url, STEELYARD_HOME=str(Path(home)), **environment) for _ in range(n)]
        try:
            for web in webs:
                web.start()
            yield webs
        finally:
            for web in webs:
                web.stop()
