"""A worker killed with -9 in the middle of an import: the next one goes on, nothing is lost and nothing is doubled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from annotator.models import Dataset, Example, ImportProblem, Preference, Response, Role
from annotator.services.datasets import ImportRequest
from annotator.services.imports import is_being_imported
from annotator.services.uploads import dataset_upload, sweep_imports
from annotator.tasks import dataset_import_task, dataset_index_task
from tests.factories import ApiTokenFactory, ProjectFactory, member
from workers.data.rows import Limits

ROOT = Path(__file__).resolve().parents[2]
N = 30_000
WORKER = "import django; django.setup(); from annotator.tasks import dataset_import_task as t; t({uid!r})"


def lines() -> Any:
    for i in range(N):
        yield json.dumps({"prompt": f"question {i}", "chosen": f"good {i}", "rejected": f"bad {i}"}).encode() + b"\n"
        if i % 10_000 == 0:
            yield b"broken\n"


def database_url() -> str:
    """The address of the test database, for another process."""
    values = connection.settings_dict
    return f"postgresql://{values['USER']}@/{values['NAME']}?host={values['HOST']}"


def wait_for(condition: Any, what: str, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited too long for {what}"
        time.sleep(0.02)


@contextmanager
def killed_in_the_middle(code: str, upload_dir: Path) -> Iterator[None]:
    """Run Python code in a process of its own and kill it -9 after the first batch of its import."""
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "steelyard.settings",
        "STEELYARD_DATABASE_URL": database_url(),
        "STEELYARD_UPLOAD_DIR": str(upload_dir),
    }
    worker = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment)
    try:
        wait_for(lambda: Dataset.objects.filter(n_rows__gt=0).exists(), "the first batch")
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    yield


@pytest.mark.django_db(transaction=True)
def test_kill_9_in_the_middle_of_an_import(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.UPLOAD_DIR = tmp_path
    monkeypatch.setattr(dataset_index_task, "apply_async", lambda **_: None)  # no broker in this test
    request = ImportRequest("killed", source_name="killed.jsonl")
    dataset = dataset_upload(
        project=ProjectFactory(), user=None, request=request, chunks=lines(), upload_dir=tmp_path, limits=Limits(),
        now=timezone.now(),
    )  # fmt: skip
    with killed_in_the_middle(WORKER.format(uid=str(dataset.uid)), tmp_path):
        pass
    finish_by_worker(dataset)
    assert list(tmp_path.iterdir()) == []


COMMAND = (
    "import sys; from django.core.management import execute_from_command_line as run; run(['manage.py', *{args!r}])"
)
API = """
import django; django.setup()
from pathlib import Path
from rest_framework.test import APIClient
client = APIClient()
client.credentials(HTTP_AUTHORIZATION="Token {token}")
body = Path({file!r}).read_bytes()
client.post("/api/v1/projects/{project}/datasets/?name=killed", body, content_type="application/x-ndjson")
"""


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("way", ["command line", "API"])
def test_kill_9_of_who_imports_in_its_own_process(
    way: str, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep finds the file that was kept and has a worker go on, whoever brought it."""
    settings.UPLOAD_DIR = tmp_path / "uploads"
    monkeypatch.setattr(dataset_index_task, "apply_async", lambda **_: None)  # no broker in this test
    project, file = ProjectFactory(), tmp_path / "pairs.jsonl"
    file.write_bytes(b"".join(lines()))
    if way == "API":
        ApiTokenFactory(user=member(project, Role.RESEARCHER), secret="killed")
        code = API.format(token="killed", file=str(file), project=project.uid)
    else:
        code = COMMAND.format(args=["dataset_import", str(file), "--project", str(project.uid)])
    with killed_in_the_middle(code, settings.UPLOAD_DIR):
        dataset = Dataset.objects.get()
    wait_for(lambda: not is_being_imported(dataset), "the dead importer's lock to go")
    assert sweep_imports(upload_dir=settings.UPLOAD_DIR, now=timezone.now()) == []  # not at once: it may be slow
    assert sweep_imports(upload_dir=settings.UPLOAD_DIR, now=timezone.now() + timedelta(seconds=61)) == [dataset]
    finish_by_worker(dataset)
    assert list(settings.UPLOAD_DIR.iterdir()) == []


def finish_by_worker(dataset: Dataset) -> None:
    """What was left half is whole after the task has run again: nothing lost, nothing doubled."""
    wait_for(lambda: not is_being_imported(dataset), "the dead importer's lock to go")
    dataset.refresh_from_db()
    assert (dataset.state, dataset.n_rows < N) == ("importing", True)
    dataset_import_task(str(dataset.uid))
    dataset.refresh_from_db()
    assert (dataset.state, dataset.n_rows, dataset.n_examples, dataset.n_errors) == ("ready", N + 3, N, 3)
    counts = [model.objects.count() for model in (Example, Response, Preference, ImportProblem)]
    assert counts == [N, 2 * N, N, 3]
