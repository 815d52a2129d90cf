"""Request ids, request times and the figures behind /metrics."""

import logging
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from django.apps import apps
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import sync_only_middleware
from prometheus_client import CollectorRegistry, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

request_id: ContextVar[str] = ContextVar("request_id", default="")
WELL_FORMED = re.compile(r"^[A-Za-z0-9_.-]{8,64}$")
WORKER_SEEN_S = 60

disable_created_metrics()
registry = CollectorRegistry()
REQUEST_TIME = Histogram(
    "steelyard_request_seconds",
    "Time from the first middleware to the response, by route.",
    ["method", "route", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
    registry=registry,
)


@sync_only_middleware
class RequestMetricsMiddleware:
    """Times every request and gives it an id for logs, from X-Request-ID when a proxy has set a sane one."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        started, given = time.perf_counter(), request.headers.get("X-Request-ID", "")
        token = request_id.set(given if WELL_FORMED.match(given) else uuid.uuid4().hex)
        try:
            response = self.get_response(request)
            match = request.resolver_match
            route = f"/{match.route}" if match else "unmatched"  # never the raw path: labels must stay few
            method = request.method if request.method in KNOWN_METHODS else "other"
            REQUEST_TIME.labels(method, route, str(response.status_code)).observe(time.perf_counter() - started)
            response["X-Request-ID"] = request_id.get()
            return response
        finally:
            request_id.reset(token)


KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class RequestIdFilter(logging.Filter):
    """Puts the id of the request being answered on every log record."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get() or None
        return True


class SiteCollector(Collector):
    """Figures of the whole site, read from the database when Prometheus asks."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield from (queue_gauge(), run_gauge(), worker_gauge())


def queue_gauge() -> GaugeMetricFamily:
    """Messages by broker queue; no samples with a broker other than PGMQ, which has exporters of its own."""
    gauge = GaugeMetricFamily("steelyard_queue_depth", "Messages that wait for a worker, by queue.", labels=["queue"])
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('pgmq.meta') IS NOT NULL")
        if cursor.fetchone()[0]:
            cursor.execute("SELECT queue_name, queue_visible_length FROM pgmq.metrics_all()")
            for queue, length in cursor.fetchall():
                gauge.add_metric([queue], length)
    return gauge


def run_gauge() -> GaugeMetricFamily:
    gauge = GaugeMetricFamily("steelyard_runs", "Runs by kind and state.", labels=["kind", "state"])
    with connection.cursor() as cursor:
        table = apps.get_model("rmeval", "Run")._meta.db_table
        cursor.execute(f"SELECT kind, state, count(*) FROM {table} GROUP BY kind, state")  # noqa: S608 - our own table
        for kind, state, n_runs in cursor.fetchall():
            gauge.add_metric([kind, state], n_runs)
    return gauge


def worker_gauge() -> GaugeMetricFamily:
    gauge = GaugeMetricFamily("steelyard_workers", "Workers heard of in the last minute, by queue.", labels=["queue"])
    for queue, n_workers in sorted(workers_seen().items()):
        gauge.add_metric([queue], n_workers)
    return gauge


def workers_seen() -> dict[str, int]:
    """Workers whose heartbeat is younger than a minute, counted by queue."""
    with connection.cursor() as cursor:
        table = apps.get_model("rmeval", "WorkerHeartbeat")._meta.db_table
        cursor.execute(
            f"SELECT queue, count(*) FROM {table}, jsonb_array_elements_text(queues) AS queue "  # noqa: S608
            "WHERE seen_at > now() - make_interval(secs => %s) GROUP BY queue",
            [WORKER_SEEN_S],
        )
        return dict(cursor.fetchall())


registry.register(SiteCollector())


def metrics_text() -> bytes:
    return generate_latest(registry)
