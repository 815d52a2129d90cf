"""A site to talk to over HTTP: one of its own on a temporary home, or one that runs already."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ENDED = {"done", "failed", "cancelled"}
ACCOUNT = """
from annotator.models import User
User.objects.create_superuser("bench", "bench@example.org", None)
"""


class RefusedError(Exception):
    """What the site answered instead of doing it."""


class Api:
    """A client of the REST interface with a project of its own."""

    def __init__(self, url: str, token: str) -> None:
        self.base, self.token = f"{url.rstrip('/')}/api/v1/", token
        self.project = ""
        self.project = self.post("projects/", {"name": f"Real data {time.strftime('%Y-%m-%d %H:%M:%S')}"})["uid"]

    def get(self, path: str) -> Any:
        return self._call("GET", path)

    def post(self, path: str, body: Any) -> Any:
        return self._call("POST", path, json.dumps(body).encode(), "application/json")

    def dataset(self, name: str, rows: list[dict[str, Any]]) -> tuple[str, int]:
        """Import rows as JSON Lines; (uid, rows refused)."""
        body = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        query = urllib.parse.urlencode({"name": name, "allow_duplicate": "true"})
        made = self._call("POST", f"projects/{self.project}/datasets/?{query}", body, "application/x-ndjson")
        found = self.get(f"datasets/{made['uid']}/") if "uid" in made else made["dataset"]
        return found["uid"], int(found["n_errors"])

    def reward_model(self, name: str, family: str, config: dict[str, Any]) -> str:
        body = {"name": name, "family": family, "config": config}
        return str(self.post(f"projects/{self.project}/reward-models/", body)["uid"])

    def run(self, kind: str, **spec: Any) -> dict[str, Any]:
        """Submit a run, wait until it has ended, and give its result. RefusedError where it failed."""
        uid = self.post(f"projects/{self.project}/runs/", {"kind": kind, "spec": spec})["uid"]
        while True:
            found = self.get(f"runs/{uid}/")
            if found["state"] in ENDED:
                break
            time.sleep(1)
        if found["state"] != "done":
            raise RefusedError(f"{kind} {found['state']}: {found['error']}")
        result: dict[str, Any] = found["result"]
        return result

    def _call(self, method: str, path: str, body: bytes | None = None, kind: str = "") -> Any:
        headers = {"Authorization": f"Token {self.token}", **({"Content-Type": kind} if kind else {})}
        request = urllib.request.Request(self.base + path, data=body, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=600) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise RefusedError(f"{method} {path}: {error.code} {error.read().decode()[:2000]}") from error


@contextmanager
def own_site() -> Iterator[tuple[str, str]]:
    """(address, token) of a site on a temporary home, which is stopped and removed in the end."""
    with tempfile.TemporaryDirectory(prefix="steelyard-rest-", dir="/tmp") as home:
        port = _free_port()
        environment = {**os.environ, "STEELYARD_HOME": home, "STEELYARD_DEMO": "0", "STEELYARD_LOG_LEVEL": "WARNING"}
        environment.pop("STEELYARD_DATABASE_URL", None)
        command = [sys.executable, "-m", "steelyard.launcher", "--port", str(port), "--follow-parent"]
        launcher = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=sys.stderr)
        try:
            _wait_ready(f"http://127.0.0.1:{port}/healthz", launcher)
            _manage(environment, "shell", "-c", ACCOUNT)
            yield f"http://127.0.0.1:{port}", _manage(environment, "token", "bench").split()[-1]
        finally:
            launcher.terminate()
            launcher.wait(60)


def _manage(environment: dict[str, str], *words: str) -> str:
    command = [sys.executable, "manage.py", *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    return done.stdout


def _wait_ready(url: str, launcher: "subprocess.Popen[bytes]", timeout_s: float = 300) -> None:
    until = time.monotonic() + timeout_s
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).read()
            return
        except OSError:
            if launcher.poll() is not None or time.monotonic() > until:
                raise
            time.sleep(0.3)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
