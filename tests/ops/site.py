"""A real launcher in a folder of its own, for tests that kill things."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from steelyard.launcher import ROOT


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clean_environment(home: Path, port: int) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STEELYARD_")}
    # No demo: these tests are about processes.
    return {**kept, "STEELYARD_HOME": str(home), "PORT": str(port), "HOST": "127.0.0.1", "STEELYARD_DEMO": "0"}


def wait_for(what: str, claim: Callable[[], object], timeout_s: float = 40) -> None:
    deadline = time.monotonic() + timeout_s
    while not claim():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.1)


class Site:
    """The launcher as a subprocess, with its output and its family of processes."""

    def __init__(self, home: Path, port: int, environment: dict[str, str] | None = None) -> None:
        self.home, self.port = home, port
        self.output_path = home / "launcher.txt"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "steelyard.launcher"],
            cwd=ROOT,
            env={**clean_environment(home, port), **(environment or {})},
            stdout=self.output_path.open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def output(self) -> str:
        return self.output_path.read_text()

    def wait_ready(self) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, self.output
            return "ready after" in self.output

        wait_for("the site is ready", ready)

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def is_ready(self) -> bool:
        return self.get("/readyz")[0] == 200

    def child(self, name: str) -> psutil.Process:
        rows = json.loads((self.home / "var" / "run" / "children.json").read_text())
        return psutil.Process(next(pid for child, pid, _ in rows if child == name))

    def postmaster(self) -> psutil.Process:
        return psutil.Process(int((self.home / "var" / "pg" / "postmaster.pid").read_text().split()[0]))

    def family(self) -> list[psutil.Process]:
        """Every process below the launcher, taken down before a kill so that orphans are found too."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.process.wait(20)


def survivors(family: list[psutil.Process]) -> list[str]:
    alive = []
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                alive.append(" ".join(process.cmdline())[:80])
    return alive


@contextlib.contextmanager
def running_site(home: Path, environment: dict[str, str] | None = None) -> Iterator[Site]:
    site = Site(home, free_port(), environment)
    try:
        yield site
    finally:
        if site.process.poll() is None:
            site.end()
