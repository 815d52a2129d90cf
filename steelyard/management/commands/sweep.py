"""The sweeper: hands stale work back, again and again."""

import logging
import signal
import threading
from collections.abc import Callable
from datetime import datetime
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import DatabaseError, connection
from django.utils import timezone

logger = logging.getLogger(__name__)
SWEEPS = ("annotator.services.sweep", "annotator.tasks", "rmeval.services.sweep")
SWEEP_LOCK = 7_203_116  # any fixed number: of several sweepers one works at a time

Sweep = Callable[[datetime], Any]


def registered_sweeps() -> list[tuple[str, Sweep]]:
    """Each application's `sweep_once(now)`."""
    return [(name, import_module(name).sweep_once) for name in SWEEPS if find_spec(name)]


def sweep_all(now: datetime) -> bool:
    """Call every sweep once. One that fails is logged and stops no other. False when another sweeper is at it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [SWEEP_LOCK])
        if not cursor.fetchone()[0]:
            return False
        try:
            for name, sweep in registered_sweeps():
                try:
                    sweep(now)
                except DatabaseError:
                    raise
                except Exception:
                    logger.exception("%s failed", name)
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [SWEEP_LOCK])
    return True


class Command(BaseCommand):
    requires_system_checks: list[str] = []  # they would import every page
    help = "Hand back expired leases and restart runs whose worker went silent."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--forever", action="store_true", help="sweep until told to stop")
        parser.add_argument("--every", type=float, default=5.0, metavar="SECONDS")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["forever"]:
            sweep_all(timezone.now())
            return
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        while not stop.is_set():
            try:
                sweep_all(timezone.now())
            except DatabaseError as error:
                logger.warning("the database does not answer, trying again: %s", error)
            connection.close()
            stop.wait(options["every"])
