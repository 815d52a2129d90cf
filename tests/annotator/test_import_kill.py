"""A worker killed with -9 in the middle of an import: the next one goes on, nothing is lost and nothing is doubled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from annotator.models import Dataset, Example, ImportProblem, Preference, Response
from annotator.services.datasets import ImportRequest
from annotator.services.imports import is_being_imported
from annotator.services.uploads import dataset_upload
from annotator.tasks import dataset_import_task, dataset_index_task
from tests.factories import ProjectFactory
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


@pytest.mark.django_db(transaction=True)
def test_kill_9_in_the_middle_of_an_import(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.UPLOAD_DIR = tmp_path
    monkeypatch.setattr(dataset_index_task, "apply_async", lambda **_: None)  # no broker in this test
    request = ImportRequest("killed", source_name="killed.jsonl")
    dataset = dataset_upload(
        project=ProjectFactory(), user=None, request=request, chunks=lines(), upload_dir=tmp_path, limits=Limits(),
        now=timezone.now(),
    )  # fmt: skip
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "steelyard.settings",
        "STEELYARD_DATABASE_URL": database_url(),
        "STEELYARD_UPLOAD_DIR": str(tmp_path),
    }
    command = [sys.executable, "-c", WORKER.format(uid=str(dataset.uid))]
    worker = subprocess.Popen(command, cwd=ROOT, env=environment)
    wait_for(lambda: Dataset.objects.get().n_rows > 0, "the first batch")
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    wait_for(lambda: not is_being_imported(dataset), "the dead worker's lock to go")
    dataset.refresh_from_db()
    assert (dataset.state, dataset.n_rows < N) == ("importing", True)
    dataset_import_task(str(dataset.uid))
    dataset.refresh_from_db()
    assert (dataset.state, dataset.n_rows, dataset.n_examples, dataset.n_errors) == ("ready", N + 3, N, 3)
    counts = [model.objects.count() for model in (Example, Response, Preference, ImportProblem)]
    assert counts == [N, 2 * N, N, 3]
    assert list(tmp_path.iterdir()) == []
