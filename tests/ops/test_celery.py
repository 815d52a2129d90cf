"""The Celery app's settings, the sweeper, and what a worker does when it is told to go."""

import socket
from datetime import datetime
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from rmeval.models import Run
from rmeval.services.release import runs_release
from steelyard.celery import QUEUES, app, refuse_shared_gpu, transport_options
from steelyard.heartbeat import Heartbeat
from steelyard.management.commands import sweep
from tests.factories import ProjectFactory


def test_each_queue_has_its_own_route() -> None:
    assert [(q.name, q.exchange.name, q.routing_key) for q in app.conf.task_queues] == [(n, n, n) for n in QUEUES]


def test_messages_stay_hidden_longer_than_the_longest_job() -> None:
    for url in ("pgmq://localhost", "redis://cache:6379/0"):
        assert transport_options(url, 86_400)["visibility_timeout"] > 86_400
    assert transport_options("amqp://rabbit//", 86_400) == {}


def test_nothing_but_json_is_accepted_and_work_is_acknowledged_late() -> None:
    assert app.conf.accept_content == ["json"]
    assert app.conf.task_acks_late
    assert app.conf.worker_prefetch_multiplier == 1
    assert app.conf.task_soft_time_limit < app.conf.task_time_limit


@pytest.mark.parametrize("options", [{"queues": "gpu", "concurrency": 2}, {"queues": None, "concurrency": 4}])
def test_gpu_worker_with_two_processes_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SystemExit, match="--concurrency 1"):
        refuse_shared_gpu(conf=app.conf, options=options)


def test_other_workers_may_have_many() -> None:
    refuse_shared_gpu(conf=app.conf, options={"queues": "default", "concurrency": 8})
    refuse_shared_gpu(conf=app.conf, options={"queues": "gpu,judge", "concurrency": 1})


def test_heartbeat_is_written_renewed_and_withdrawn(transactional_db: None) -> None:
    from rmeval.models import WorkerHeartbeat

    beat = Heartbeat(name="gpu@here", queues=["gpu", "judge"], is_pgmq=True)
    beat.beat()
    first = WorkerHeartbeat.objects.get(name="gpu@here")
    beat.beat()
    second = WorkerHeartbeat.objects.get(name="gpu@here")
    assert second.queues == ["gpu", "judge"]
    assert second.seen_at > first.seen_at
    beat.leave()
    assert not WorkerHeartbeat.objects.exists()


def running(worker: str, **values: Any) -> Run:
    now = timezone.now()
    return Run.objects.create(
        project=ProjectFactory(), kind="train_rm", spec={}, state=Run.State.RUNNING, attempt=2, worker=worker,
        heartbeat_at=now, enqueued_at=now, **values,
    )  # fmt: skip


def test_stopped_worker_hands_back_its_own_runs_and_no_attempt_is_lost(db: None) -> None:
    host = socket.gethostname()
    mine, alive, elsewhere = running(f"{host}:111"), running(f"{host}:222"), running("other:111")
    n_released = runs_release(host=host, is_alive=lambda pid: pid == 222, now=timezone.now())
    for run in (mine, alive, elsewhere):
        run.refresh_from_db()
    assert n_released == 1
    assert (mine.state, mine.attempt, mine.worker) == (Run.State.QUEUED, 1, "")
    assert (alive.state, elsewhere.state) == (Run.State.RUNNING, Run.State.RUNNING)


def test_one_failing_sweep_does_not_stop_the_others(
    db: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[datetime] = []

    def broken(now: datetime) -> None:
        raise ValueError("no")

    monkeypatch.setattr(sweep, "registered_sweeps", lambda: [("broken", broken), ("works", seen.append)])
    call_command("sweep")
    assert len(seen) == 1
    assert "broken failed" in caplog.text


def test_both_applications_register_a_sweep() -> None:
    assert [name for name, _ in sweep.registered_sweeps()] == list(sweep.SWEEPS)
