"""A real Celery worker, killed with -9 in the middle of training, and asked to stop: nothing lost, nothing doubled."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone
from kombu import pools

from annotator.models import Project
from rmeval.models import Checkpoint, Evaluation, Run, RunEvent
from rmeval.selectors.runs import run_curves
from rmeval.services.reward_models import reward_model_register
from rmeval.services.runs import run_cancel
from rmeval.services.submission import run_submit
from rmeval.services.sweep import sweep_once
from steelyard.broker import SCHEMA, broker_install
from steelyard.celery import app
from tests.factories import DatasetFactory
from tests.rmeval.conftest import fill

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(280)]
ROOT = Path(__file__).resolve().parents[2]
STALE = timedelta(seconds=4)


class Worker:
    """`celery worker` as `make up` starts it, on the test database."""

    def __init__(self, home: Path) -> None:
        values = connection.settings_dict
        environment = {
            **os.environ,
            "STEELYARD_DATABASE_URL": f"postgresql://{values['USER']}@/{values['NAME']}?host={values['HOST']}",
            "STEELYARD_BROKER_URL": "pgmq://",
            "STEELYARD_HOME": str(home),
            "STEELYARD_HEARTBEAT_STALE_S": str(STALE.seconds),
            "DJANGO_SETTINGS_MODULE": "steelyard.settings",
        }
        self.log = home / f"worker-{time.monotonic_ns()}.log"
        command = [sys.executable, "-m", "celery", "-A", "steelyard.celery", "worker", "--concurrency", "1"]
        self.process = subprocess.Popen(
            [*command, "-n", "kill@%h", "-Q", "default,gpu", "--without-gossip", "--without-mingle"],
            cwd=ROOT,
            env=environment,
            stdout=self.log.open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        until(lambda: "ready." in self.log.read_text(), "the worker listens")

    def kill(self) -> None:
        """SIGKILL to the worker and its task process, as a power cut would."""
        family = [self.process, *psutil.Process(self.process.pid).children(recursive=True)]
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        psutil.wait_procs([p for p in family if isinstance(p, psutil.Process)], timeout=5)


def until(claim: Callable[[], object], what: str, timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not claim():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)


def state_of(run: Run) -> str:
    run.refresh_from_db()
    return run.state


@pytest.fixture
def start(tmp_path: Path, settings: Any) -> Iterator[Callable[[], Worker]]:
    settings.RUN_HEARTBEAT_STALE = STALE
    broker_install()
    workers: list[Worker] = []

    def start_worker() -> Worker:
        workers.append(Worker(tmp_path))
        return workers[-1]

    yield start_worker
    for worker in workers:
        if worker.process.poll() is None:
            worker.kill()
    pools.reset()  # this process's own connections to the broker, or the test database cannot be dropped
    app._after_fork()
    with connection.cursor() as cursor:
        cursor.execute(f"DROP SCHEMA {SCHEMA} CASCADE")


@pytest.fixture
def training(project: Project) -> dict[str, Any]:
    """Spec of a training that takes some seconds on a tiny model."""
    dataset = fill(DatasetFactory(project=project), 60)
    made = reward_model_register(
        project=project,
        name="tiny",
        family="scalar_head",
        config={"backbone": "tiny-encoder", "max_length": 64},
        user=None,
    )
    return {
        "reward_model": str(made.uid),
        "source": {"dataset": str(dataset.uid)},
        "evaluate_on": [{"dataset": str(dataset.uid)}],
        "max_steps": 120,
        "epochs": 100,
        "batch_pairs": 8,
        "checkpoint_every": 10,
        "eval_every": 40,
        "learning_rate": 0.001,
    }


def train(project: Project, spec: dict[str, Any]) -> Run:
    return run_submit(project=project, kind="train_rm", spec=spec, user=None, now=timezone.now())


def n_steps(run: Run) -> int:
    return RunEvent.objects.filter(run=run, kind="metric").count()


def loss_by_step(run: Run) -> dict[int, float]:
    loss = run_curves(run=run)["loss"]
    return dict(zip(loss.steps, loss.values, strict=True))


def weights(run: Run) -> str:
    checkpoint = Checkpoint.objects.get(run=run)
    file = Path(settings.ARTIFACT_DIR) / checkpoint.path / "weights.safetensors"
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_worker_killed_in_training_loses_nothing(
    project: Project, training: dict[str, Any], start: Callable[[], Worker]
) -> None:
    worker = start()
    killed = train(project, training)
    until(lambda: n_steps(killed) > 30, "thirty steps are reported")
    worker.kill()
    assert state_of(killed) == "running"
    n_before = n_steps(killed)
    assert n_before < 120

    start()
    until(lambda: sweep_once(timezone.now()).n_requeued, "the sweep finds the lost run")
    until(lambda: state_of(killed) in Run.ENDED, "the run ends")
    assert (killed.state, killed.attempt) == ("done", 2), killed.error
    said = [event.message for event in RunEvent.objects.filter(run=killed, kind="log")]
    assert any(line.startswith("Going on after step") for line in said)

    whole = train(project, training)
    until(lambda: state_of(whole) in Run.ENDED, "the uninterrupted run ends")
    assert (whole.state, whole.attempt) == ("done", 1), whole.error

    assert weights(killed) == weights(whole)
    first, second = Checkpoint.objects.order_by("number")
    assert first.sha256 == second.sha256
    assert (first.run, second.run) == (killed, whole)
    points, expected = loss_by_step(killed), loss_by_step(whole)
    assert list(expected) == list(range(1, 121))
    assert points.items() <= expected.items()  # to the last bit, on both sides of the kill
    assert len(points) > 60  # what was said in the last half second before the kill is not in the curves
    assert killed.environment["data"]["sha256"] == whole.environment["data"]["sha256"]

    until(lambda: Evaluation.objects.count() == 2, "both checkpoints are evaluated by themselves")
    assert {evaluation.checkpoint for evaluation in Evaluation.objects.all()} == {first, second}
    assert Run.objects.filter(kind="evaluate", parent__in=[killed, whole]).count() == 2


def test_a_cancel_takes_less_than_two_seconds_and_a_killed_task_process_is_replaced(
    project: Project, training: dict[str, Any], start: Callable[[], Worker]
) -> None:
    start()
    importing = train(project, training)
    until(lambda: state_of(importing) == "running", "the run starts")
    assert cancelled_within_s(importing) < 2  # torch is still being imported
    assert not Checkpoint.objects.exists()

    stepping = train(project, {**training, "max_steps": 10_000, "epochs": 1000})
    until(lambda: n_steps(stepping) > 5, "the next run trains")  # the worker went on
    assert cancelled_within_s(stepping) < 2

    # The kernel kills the task process when memory runs out: the worker stays, and the run goes on by the sweep.
    after = train(project, {**training, "max_steps": 60})
    until(lambda: n_steps(after) > 15, "it trains")
    after.refresh_from_db()
    os.kill(int(after.worker.rpartition(":")[2]), signal.SIGKILL)
    until(lambda: sweep_once(timezone.now()).n_requeued or state_of(after) != "running", "the sweep finds it")
    until(lambda: state_of(after) in Run.ENDED, "the run ends")
    assert (after.state, after.attempt) == ("done", 2), after.error


def cancelled_within_s(run: Run) -> float:
    """Seconds from the request to the end of the run."""
    began = time.monotonic()
    run_cancel(run=run, now=timezone.now(), stale=STALE)
    until(lambda: state_of(run) == "cancelled", "the run is cancelled", timeout_s=10)
    took_s = time.monotonic() - began
    print(f"cancelled in {took_s:.2f} s")
    return took_s
