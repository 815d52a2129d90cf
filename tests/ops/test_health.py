"""Probes, metrics and request ids."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import AsyncClient, Client
from django.utils import timezone

from rmeval.models import WorkerHeartbeat
from steelyard import health
from steelyard.broker import broker_install
from steelyard.celery import QUEUES


@pytest.fixture
def broker(db: None) -> None:
    broker_install()


@pytest.fixture
def workers(db: None) -> None:
    WorkerHeartbeat.objects.create(name="w1", queues=["default"], seen_at=timezone.now())
    WorkerHeartbeat.objects.create(name="w2", queues=["gpu", "judge"], seen_at=timezone.now())


def test_healthz_asks_nobody(client: Client, django_db_blocker: Any) -> None:
    with django_db_blocker.block():
        response = client.get("/healthz", headers={"Host": "10.0.0.7:8000"})
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_healthz_under_asgi(async_client: AsyncClient) -> None:
    assert (await async_client.get("/healthz")).status_code == 200


def test_readyz_when_all_is_there(client: Client, broker: None, workers: None) -> None:
    response = client.get("/readyz")
    assert response.json() == {"status": "ok", "checks": dict.fromkeys(health.CHECKS, "ok")}
    assert response.status_code == 200


def test_readyz_names_queues_without_a_worker(client: Client, broker: None, workers: None) -> None:
    WorkerHeartbeat.objects.filter(name="w2").update(seen_at=timezone.now() - timedelta(seconds=90))
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["checks"]["workers"] == "no worker heard of in the last minute for: gpu, judge"


def test_readyz_without_broker(client: Client, db: None, workers: None) -> None:
    assert "broker_install" in client.get("/readyz").json()["checks"]["broker"]


def test_readyz_without_database(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> str:
        raise ConnectionError("host db.internal refused")

    monkeypatch.setitem(health.CHECKS, "database", refuse)
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["checks"] == {"database": "failed: ConnectionError"}


def test_broker_is_installed_once(db: None) -> None:
    assert broker_install() is True
    assert broker_install() is False


def test_metrics_show_queues_runs_workers_and_times(client: Client, broker: None, workers: None) -> None:
    with connection.cursor() as cursor:
        for queue in QUEUES:
            cursor.execute("SELECT pgmq.create(%s)", [queue])
        cursor.execute("SELECT pgmq.send('gpu', '{}'), pgmq.send('gpu', '{}', 3600)")  # the second is not due yet
        cursor.execute("UPDATE pgmq.q_gpu SET vt = now() WHERE vt < now() + interval '1 minute'")
    client.get("/nowhere/")
    text = client.get("/metrics").content.decode()
    assert 'steelyard_queue_depth{queue="gpu"} 1.0' in text
    assert 'steelyard_queue_depth{queue="default"} 0.0' in text
    assert 'steelyard_workers{queue="judge"} 1.0' in text
    assert 'steelyard_request_seconds_count{method="GET",route="unmatched",status="404"}' in text
    assert "/nowhere/" not in text


def test_metrics_can_need_a_token(client: Client, broker: None, settings: Any) -> None:
    settings.METRICS_TOKEN = "s3cret"
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert client.get("/metrics", headers={"Authorization": "Bearer s3cret"}).status_code == 200


def test_metrics_are_closed_in_production_without_a_token(client: Client, broker: None, settings: Any) -> None:
    settings.PRODUCTION, settings.METRICS_TOKEN = True, ""
    assert client.get("/metrics").status_code == 403


@pytest.mark.parametrize("given", ["", "short", "a" * 80, "with space in it", "<script>alert(1)"])
def test_request_id_is_made_when_none_or_an_odd_one_is_given(client: Client, db: None, given: str) -> None:
    made = client.get("/nowhere/", headers={"X-Request-ID": given} if given else {})["X-Request-ID"]
    assert made != given
    assert len(made) == 32


def test_request_id_of_a_proxy_is_kept(client: Client, db: None) -> None:
    assert client.get("/nowhere/", headers={"X-Request-ID": "proxy-12345678"})["X-Request-ID"] == "proxy-12345678"
