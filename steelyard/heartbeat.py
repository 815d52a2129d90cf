"""A worker says in the database that it is alive, and ends itself when it no longer hears its queues."""

import json
import logging
import os
import threading

import psycopg
from django.apps import apps

from steelyard.broker import conninfo, drained_ago_s

logger = logging.getLogger(__name__)
EVERY_S = 10.0
DEAF_AFTER_S = 120.0
EXIT_DEAF = 75


class Heartbeat(threading.Thread):
    """A daemon thread of the worker's main process, on connections of its own."""

    def __init__(self, *, name: str, queues: list[str], is_pgmq: bool) -> None:
        super().__init__(name="steelyard-heartbeat", daemon=True)
        self.worker, self.queues, self.is_pgmq = name, queues, is_pgmq
        self.table = apps.get_model("rmeval", "WorkerHeartbeat")._meta.db_table
        self.stopped = threading.Event()

    def run(self) -> None:
        while not self.stopped.is_set():
            try:
                self.beat()
            except psycopg.Error as error:
                logger.warning("heartbeat not written, trying again: %s", error)
            else:
                self.end_if_deaf()
            self.stopped.wait(EVERY_S)

    def beat(self) -> None:
        with psycopg.connect(conninfo(), connect_timeout=5, autocommit=True) as connection:
            connection.execute(
                f"INSERT INTO {self.table} (name, queues, seen_at) VALUES (%s, %s, now()) "  # noqa: S608 - our own table
                "ON CONFLICT (name) DO UPDATE SET queues = excluded.queues, seen_at = excluded.seen_at",
                [self.worker, json.dumps(self.queues)],
            )

    def end_if_deaf(self) -> None:
        """The database answers but the worker's loop does not look into its queues: only a new process helps."""
        if self.is_pgmq and drained_ago_s() > DEAF_AFTER_S:
            logger.critical("no look into the queues for %.0f s; ending so that I am started anew", drained_ago_s())
            os._exit(EXIT_DEAF)
