"""/healthz, /readyz and /metrics. Probes come with any Host header, so a middleware answers before it is checked."""

import logging
import secrets
from collections.abc import Callable
from typing import Any

import psycopg
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.decorators import sync_only_middleware

from steelyard.broker import conninfo
from steelyard.observability import metrics_text, workers_seen

logger = logging.getLogger(__name__)
_migrated = False


def healthz(request: HttpRequest) -> HttpResponse:
    """The process answers. Touches nothing else, so a database outage restarts no web process."""
    return JsonResponse({"status": "ok"})


def readyz(request: HttpRequest) -> HttpResponse:
    """Whether work can be done: database, migrations, broker, a worker for every queue. 503 with what is missing."""
    checks: dict[str, Any] = {}
    for name, check in CHECKS.items():
        try:
            checks[name] = check()
        except Exception as error:  # noqa: BLE001 - a probe reports whatever is wrong
            logger.warning("readyz: %s: %s", name, error)
            checks[name] = f"failed: {type(error).__name__}"  # the text may hold host names
        if name == "database" and checks[name] != "ok":
            break  # the rest would only wait for the same database
    is_ready = len(checks) == len(CHECKS) and all(state == "ok" for state in checks.values())
    body = {"status": "ok" if is_ready else "not ready", "checks": checks}
    response = JsonResponse(body, status=200 if is_ready else 503)
    response._has_been_logged = True  # type: ignore[attr-defined]  # said above, once for each check
    return response


def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus text. In production, or with STEELYARD_METRICS_TOKEN set, only for `Authorization: Bearer <it>`."""
    token = settings.METRICS_TOKEN
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if settings.PRODUCTION and not token:
        return HttpResponse("set STEELYARD_METRICS_TOKEN to open this page\n", status=403)
    if token and not secrets.compare_digest(given.encode(), token.encode()):
        return HttpResponse("token required\n", status=401, headers={"WWW-Authenticate": "Bearer"})
    try:
        return HttpResponse(metrics_text(), content_type="text/plain; version=0.0.4; charset=utf-8")
    except DatabaseError as error:
        return HttpResponse(f"# the database does not answer: {type(error).__name__}\n", status=503)


def check_database() -> str:
    """On a connection of its own: a probe should say within seconds what Django's pool waits out."""
    with psycopg.connect(conninfo(), connect_timeout=3) as own:
        own.execute("SELECT 1")
    return "ok"


def check_migrations() -> str:
    """Once up to date, a process stays so: the answer is kept."""
    global _migrated  # noqa: PLW0603
    if not _migrated:
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
        if missing:
            return f"{len(missing)} not applied"
        _migrated = True
    return "ok"


def check_broker() -> str:
    if not settings.BROKER_URL.startswith("pgmq"):
        from steelyard.celery import app

        with app.connection_for_write(connect_timeout=2) as broker:
            broker.ensure_connection(max_retries=1, timeout=2)
        return "ok"
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('pgmq.meta') IS NOT NULL")
        return "ok" if cursor.fetchone()[0] else "not installed: run manage.py broker_install"


def check_workers() -> str:
    from steelyard.celery import QUEUES

    seen = workers_seen()
    missing = [name for name in QUEUES if not seen.get(name)]
    return "ok" if not missing else f"no worker heard of in the last minute for: {', '.join(missing)}"


CHECKS: dict[str, Callable[[], str]] = {
    "database": check_database,
    "migrations": check_migrations,
    "broker": check_broker,
    "workers": check_workers,
}
PROBES: dict[str, Callable[[HttpRequest], HttpResponse]] = {
    "/healthz": healthz,
    "/readyz": readyz,
    "/metrics": metrics,
}


@sync_only_middleware
class ProbeMiddleware:
    """Answers the probes before ALLOWED_HOSTS, https redirects and sessions come into play."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return PROBES.get(request.path, self.get_response)(request)
