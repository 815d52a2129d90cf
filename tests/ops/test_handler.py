"""The ASGI handler: one thread a request, probes with threads of their own, streams that end with their reader."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core import signals
from django.db import connection, connections
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import Client, override_settings
from django.urls import path

from annotator.models import User
from annotator.services.accounts import token_create
from steelyard.handler import OneThreadHandler
from tests.factories import UserFactory
from tests.ops.site import free_port

gate = threading.Event()
threads: list[str] = []
closed = threading.Event()


def stuck(request: HttpRequest) -> HttpResponse:
    gate.wait(20)
    return HttpResponse("late")


def echo(request: HttpRequest) -> HttpResponse:
    threads.append(threading.current_thread().name)
    return HttpResponse(request.body[::-1])


async def endless() -> AsyncIterator[bytes]:
    try:
        while True:
            yield b"x"
            await asyncio.sleep(0.01)
    finally:
        closed.set()


def stream(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(endless())


def too_slow(request: HttpRequest) -> HttpResponse:
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 1; SELECT pg_sleep(1)")
    return HttpResponse("in time")


def asking(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(User.objects.count()))


urlpatterns = [path("stuck", stuck), path("echo", echo), path("stream", stream)]
urlpatterns += [path("api/v1/slow", too_slow)]
urlpatterns += [path(f"{where}ask", asking) for where in ("", "api/v1/")]
handler500 = "annotator.views.errors.server_error"
pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


async def ask(
    handler: OneThreadHandler, where: str, *body: bytes, gone: asyncio.Event | None = None, **headers: str
) -> tuple[int, bytes]:
    parts = [
        {"type": "http.request", "body": part, "more_body": number < len(body) - 1} for number, part in enumerate(body)
    ]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if parts:
            return parts.pop(0)
        await (gone or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        if gone is not None and len(sent) > 3:
            gone.set()

    named = [(name.encode(), value.encode()) for name, value in {"host": "testserver", **headers}.items()]
    scope = {"type": "http", "method": "POST", "path": where, "headers": named}
    await asyncio.wait_for(handler(scope, receive, send), 30)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


@contextmanager
def handler_with(n_threads: int) -> Iterator[OneThreadHandler]:
    with override_settings(WEB_THREADS=n_threads, MIDDLEWARE=["steelyard.health.ProbeMiddleware"]):
        handler = OneThreadHandler()
    try:
        yield handler
    finally:
        gate.set()
        handler.threads.shutdown()
        handler.probe_threads.shutdown()
        gate.clear()


async def test_bodies_in_one_piece_and_in_several() -> None:
    with handler_with(2) as handler:
        assert await ask(handler, "/echo", b"abc") == (200, b"cba")
        assert await ask(handler, "/echo", b"abc", b"", b"def") == (200, b"fedcba")


async def test_a_request_runs_from_signal_to_signal_in_one_lasting_thread() -> None:
    threads.clear()

    def note(**kwargs: object) -> None:
        threads.append(threading.current_thread().name)

    for signal in (signals.request_started, signals.request_finished):
        signal.connect(note)
    try:
        with handler_with(1) as handler:
            for _ in range(3):
                await ask(handler, "/echo", b"")
    finally:
        for signal in (signals.request_started, signals.request_finished):
            signal.disconnect(note)
    assert len(threads) == 9
    assert len(set(threads)) == 1
    assert threads[0] != threading.main_thread().name


async def test_a_probe_is_answered_while_every_request_is_stuck() -> None:
    with handler_with(2) as handler:
        waiting = [asyncio.create_task(ask(handler, "/stuck", b"")) for _ in range(5)]
        await asyncio.sleep(0.1)
        status, body = await asyncio.wait_for(ask(handler, "/healthz", b""), 5)
        assert (status, body) == (200, b'{"status": "ok"}')
        gate.set()
        assert {found for found, _ in await asyncio.gather(*waiting)} == {200}


async def test_a_stream_ends_when_its_reader_has_gone() -> None:
    closed.clear()
    with handler_with(1) as handler:
        status, body = await ask(handler, "/stream", b"", gone=asyncio.Event())
    assert status == 200
    assert body.startswith(b"xx")
    assert closed.wait(5)


@pytest.fixture
def credentials(transactional_db: None, settings: Any) -> list[dict[str, str]]:
    """Headers of somebody with an account: by token, and by session."""
    user = UserFactory()
    _, secret = token_create(user=user, name="mine")
    client = Client()
    client.force_login(user)
    name = settings.SESSION_COOKIE_NAME
    return [{"authorization": f"Token {secret}"}, {"cookie": f"{name}={client.cookies[name].value}"}]


async def test_large_bodies_are_read_from_people_with_an_account_only(
    credentials: list[dict[str, str]], settings: Any
) -> None:
    settings.MAX_STRANGERS_BODY = 10
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    parts = (b"12345678", b"12345678", b"12345678")
    with handler_with(2) as handler:
        assert await ask(handler, "/echo", b"1234567", b"890") == (200, b"0987654321")
        for headers in ({}, {"authorization": "Token made-up"}, {"cookie": "steelyard_session=made-up"}):
            status, body = await ask(handler, "/echo", *parts, **headers)
            assert status == 413
            assert b"log in, or send a valid API token" in body
        for headers in credentials:
            assert await ask(handler, "/echo", *parts, **headers) == (200, b"87654321" * 3)


@pytest.fixture
def away(credentials: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that connect from now on find nobody where the database was."""
    address = connections["default"].settings_dict
    monkeypatch.setitem(address, "HOST", "127.0.0.1")
    monkeypatch.setitem(address, "PORT", str(free_port()))


@pytest.mark.parametrize(("where", "words"), [("/ask", b"<h1>The database"), ("/api/v1/ask", b'"database_away"')])
async def test_a_large_body_in_an_outage_gets_the_answer_that_others_get(
    where: str, words: bytes, credentials: list[dict[str, str]], away: None, settings: Any
) -> None:
    settings.MAX_STRANGERS_BODY = 10
    with handler_with(1) as handler:
        usual = await ask(handler, where, b"")
        assert usual[0] == 503
        assert words in usual[1]
        assert b"does not answer" in usual[1]
        for headers in credentials:
            assert await ask(handler, where, b"12345678", b"12345678", b"more", **headers) == usual
        status, _ = await ask(handler, where, b"12345678", b"12345678")
        assert status == 413, "whoever says nothing of who they are is a stranger without a look at the database"


async def test_what_the_database_refuses_is_no_outage(settings: Any) -> None:
    with handler_with(1) as handler:
        assert (await ask(handler, "/api/v1/slow", b""))[0] == 500
