"""The Celery app: `celery -A steelyard.celery worker -Q default`."""

import os
from typing import Any

from celery import Celery, signals
from django.conf import settings
from kombu import Exchange, Queue

from steelyard.broker import use_pgmq

QUEUES = ("default", "gpu", "judge")

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "steelyard.settings")
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")  # Django's checks import every page; `make check` runs them
use_pgmq()
app = Celery("steelyard")


def transport_options(broker_url: str, time_limit_s: int) -> dict[str, Any]:
    """What the chosen broker needs. A message stays hidden longer than the longest job, so nothing runs twice."""
    hidden_s = time_limit_s + 3600
    if broker_url.startswith("pgmq"):
        return {
            "visibility_timeout": hidden_s,
            "use_notify": True,  # a new message wakes the worker at once
            "notify_throttle_interval_ms": 50,
            "wait_time_seconds": 0,  # NOTIFY instead of a query that sleeps inside the server
            "polling_interval": 0.5,
            "pool_timeout": 5,
        }
    if broker_url.startswith("redis"):
        return {"visibility_timeout": hidden_s, "socket_keepalive": True, "health_check_interval": 20}
    return {}


@app.on_configure.connect
def configure(sender: Celery, **_: object) -> None:
    hard_s = settings.JOB_TIME_LIMIT_S
    broker_url = "pgmq://localhost" if settings.BROKER_URL == "pgmq://" else settings.BROKER_URL
    sender.conf.update(
        broker_url=broker_url,
        broker_transport_options=transport_options(broker_url, hard_s),
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # a worker waits for its broker for ever; /readyz says so meanwhile
        broker_pool_limit=2,
        task_publish_retry_policy={"max_retries": 2, "interval_start": 0.1, "interval_step": 0.3},
        task_queues=[Queue(name, Exchange(name), routing_key=name) for name in QUEUES],
        task_default_queue="default",
        task_default_exchange="default",
        task_default_routing_key="default",
        task_create_missing_queues=False,
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_time_limit=hard_s,
        task_soft_time_limit=int(hard_s * 0.9),
        worker_prefetch_multiplier=1,
        worker_concurrency=1,
        worker_enable_remote_control=False,  # PGMQ has none; cancelling is a flag on the run
        worker_send_task_events=False,
        worker_soft_shutdown_timeout=10,
        worker_hijack_root_logger=False,
        enable_utc=True,
        timezone="UTC",
        imports=("workers.tasks", "annotator.tasks"),
    )


@signals.celeryd_init.connect
def refuse_shared_gpu(conf: Any = None, options: dict[str, Any] | None = None, **_: object) -> None:
    """Two processes on one GPU exhaust its memory and hide each other's: a gpu worker runs one job at a time."""
    chosen = options or {}
    queues = chosen.get("queues") or QUEUES
    names = queues.split(",") if isinstance(queues, str) else list(queues)
    concurrency = chosen.get("concurrency") or conf.worker_concurrency
    if "gpu" in names and (int(concurrency) != 1 or chosen.get("autoscale")):
        raise SystemExit(
            "a worker of the queue gpu must run with --concurrency 1; start one worker for each GPU "
            "(CUDA_VISIBLE_DEVICES) instead"
        )


@app.on_after_finalize.connect
def add_worker_steps(sender: Celery, **_: object) -> None:
    from steelyard.heartbeat import Presence

    sender.steps["consumer"].add(Presence)


@signals.setup_logging.connect
def use_site_logging(**_: object) -> None:
    """Celery keeps its hands off logging: Django's LOGGING has been applied already."""
