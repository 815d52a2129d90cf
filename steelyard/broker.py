"""Celery over the site's own PostgreSQL: kombu's PGMQ transport, opened with the full connection string.

The stock client rebuilds a DSN from host, port, user and password and so drops sslmode, socket folders and passwords
with spaces; it also keeps ten connections. Here each side gets a small pool that tests a connection before use.
"""

import time
from typing import Any

from django.db import connection, transaction
from kombu.transport import TRANSPORT_ALIASES, pgmq

SCHEMA = "pgmq"
INSTALL_LOCK = 7_203_115  # any fixed number: two installers wait for each other
_last_drain_at = time.monotonic()


class Transport(pgmq.Transport):
    """kombu's transport with our pool, and a note of when the worker last looked for messages."""

    _notify_waiter: Any

    def _create_pgmq_client(self) -> pgmq.PGMQueue:
        from psycopg_pool import ConnectionPool

        options = self.client.transport_options
        pool = ConnectionPool(
            conninfo(),
            min_size=0,
            max_size=2,
            timeout=float(options.get("pool_timeout", 10)),
            reconnect_timeout=30,
            kwargs={"application_name": "steelyard-broker"},
            check=ConnectionPool.check_connection,
            name="broker",
            open=True,
        )
        client = pgmq.PGMQueue(pool=pool, vt=int(options["visibility_timeout"]), init_extension=False)
        client._own_pool = True  # so that closing the transport closes the pool
        return client

    def _get_notify_waiter(self) -> Any:
        if self._notify_waiter is None:
            self._notify_waiter = pgmq._NotifyWaiter(conninfo())
        return self._notify_waiter

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:
        global _last_drain_at  # noqa: PLW0603 - one worker loop a process
        _last_drain_at = time.monotonic()
        super().drain_events(connection, timeout=timeout)


def use_pgmq() -> None:
    """Make `pgmq://` mean the transport above."""
    TRANSPORT_ALIASES["pgmq"] = "steelyard.broker:Transport"


def conninfo() -> str:
    """libpq's view of Django's default database, asked late so that a test database counts."""
    from annotator.live import listen_dsn

    return listen_dsn()


def drained_ago_s() -> float:
    """Seconds since this process last looked into its queues."""
    return time.monotonic() - _last_drain_at


@transaction.atomic
def broker_install() -> bool:
    """Install PGMQ's SQL once. True when this call did it, False when it was there."""
    from pgmq.install import get_embedded_install_sql

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [INSTALL_LOCK])
        cursor.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [SCHEMA])
        if cursor.fetchone():
            return False
        cursor.execute(get_embedded_install_sql())
    return True
