"""Live updates: topics, poke() and the relay. A message only says "look again"; the database holds the truth."""

import asyncio
import contextlib
import json
import logging
import re
from typing import Any
from uuid import UUID

import psycopg
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.conf import settings
from django.db import connection

from annotator.models import Membership, User

logger = logging.getLogger(__name__)
TOPIC = re.compile(r"^(run|queue|project|dataset|comparison)\.([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$")
RECONNECT_AFTER_S = 0.2
LISTEN_WITHIN_S = 5
_relay_task: "asyncio.Task[None] | None" = None
_listening = asyncio.Event()


def poke(topic: str, event: str) -> None:
    """Tell open pages that a topic changed. Part of the transaction: it leaves at commit or not at all."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify('live', %s)", [message(topic, event)])


def message(topic: str, event: str) -> str:
    """What a poke carries, for a statement that sends it itself: pg_notify('live', <message>)."""
    return json.dumps({"topic": topic, "event": event})


def user_topic(user: User) -> str:
    """What every socket of a person also hears. Poke it with event "membership" when rights or account changed."""
    return f"user.{user.uid}"


def may_subscribe(user: User, topic: str) -> bool:
    """Members hear of their project's objects, and only that something changed."""
    match = TOPIC.match(topic)
    if match is None or not user.is_authenticated:
        return False
    kind, uid = match.group(1), UUID(match.group(2))
    project_id = _project_id(kind, uid)
    return project_id is not None and Membership.objects.filter(user=user, project_id=project_id).exists()


def is_active(user: User) -> bool:
    """Whether the account still stands. Asked of the database: a socket's user is as old as the socket."""
    return User.objects.filter(pk=user.pk, is_active=True).exists()


TABLES = {
    "run": "rmeval_run",
    "queue": "annotator_queue",
    "dataset": "annotator_dataset",
    "comparison": "rmeval_evaluation",
}


def _project_id(kind: str, uid: UUID) -> int | None:
    """By table name, so that annotator need not import rmeval."""
    column, table = ("id", "annotator_project") if kind == "project" else ("project_id", TABLES[kind])
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {column} FROM {table} WHERE uid = %s", [uid])  # noqa: S608 - names from the tables above
        row = cursor.fetchone()
    return row[0] if row else None


async def ensure_relay() -> None:
    """Start this process's relay with its first consumer (a strong reference keeps it alive) and wait until it listens.

    A page that is told "ready" then misses nothing: what changed before is fetched now, what changes later is heard.
    """
    global _relay_task, _listening  # noqa: PLW0603 - one relay a process is the point
    if _relay_task is None or _relay_task.done() or _relay_task.get_loop().is_closed():
        _listening = asyncio.Event()
        _relay_task = asyncio.get_running_loop().create_task(relay(_listening), name="live-relay")
    with contextlib.suppress(TimeoutError):  # the database is away; after the reconnect every page is told to look
        await asyncio.wait_for(_listening.wait(), LISTEN_WITHIN_S)


async def relay(listening: asyncio.Event) -> None:
    """LISTEN on a connection of its own and hand every poke to the channel layer; after a reconnect, poke everybody."""
    first = True
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(listen_dsn(), autocommit=True) as connected:
                await connected.execute("LISTEN live")
                listening.set()
                if not first:
                    await broadcast({"topic": "*", "event": "resync"})
                first = False
                async for notification in connected.notifies():
                    await broadcast(json.loads(notification.payload))
        except psycopg.Error as error:
            first = False
            listening.clear()
            logger.warning("live relay lost its connection, reconnecting: %s", error)
            await asyncio.sleep(RECONNECT_AFTER_S)


async def broadcast(message: dict[str, Any]) -> None:
    layer = get_channel_layer()
    if layer is None:
        return
    group = "everyone" if message["topic"] == "*" else message["topic"]
    text = json.dumps({"topic": message["topic"], "event": message["event"]})
    await layer.group_send(group, {"type": "live.poke", "text": text, **message})


def broadcast_now(message: dict[str, Any]) -> None:
    """For tests without a relay: hand a poke straight to the layer."""
    async_to_sync(broadcast)(message)


def listen_dsn() -> str:
    """Connection string of the default database, outside Django's pool."""
    values = connection.settings_dict
    known = {
        "dbname": values["NAME"],
        "user": values["USER"],
        "password": values["PASSWORD"],
        "host": values["HOST"],
        "port": values["PORT"],
    }
    options: dict[str, Any] = settings.DATABASES["default"]["OPTIONS"]  # type: ignore[assignment]
    extra = {k: v for k, v in options.items() if k != "pool"}
    return psycopg.conninfo.make_conninfo(**{k: v for k, v in {**known, **extra}.items() if v})
