"""Django behind ASGI with one change of thread a request."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from io import BytesIO
from typing import IO, Any

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.conf import settings
from django.core import signals
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.db import close_old_connections
from django.http import FileResponse
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix

from steelyard.health import PROBES
from steelyard.strangers import CannotTell, TooMuchOfAStranger, is_known, refuse

Scope = dict[str, Any]


class OneThreadHandler(ASGIHandler):
    """Every middleware and view here is synchronous, so a request runs from signal to signal as one job of a thread.

    The threads stay: Django starts one for each request and goes back to the event loop between the signals, each
    middleware and the view (decision 010 has the measurement). Streamed answers go Django's way once they are made.
    """

    def __init__(self) -> None:
        super().__init__()
        self.threads = ThreadPoolExecutor(settings.WEB_THREADS, thread_name_prefix="request")
        # A database that answers nobody fills the threads above; whoever asks whether the process lives hears yes.
        self.probe_threads = ThreadPoolExecutor(2, thread_name_prefix="probe")

    def load_middleware(self, is_async: bool = False) -> None:
        super().load_middleware(is_async=False)

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise ValueError(f"Django answers HTTP, not {scope['type']}")
        try:
            body = await self.read_known_body(scope, receive)
        except RequestAborted:
            return
        except TooMuchOfAStranger:
            await refuse(send)
            return
        except CannotTell as told:
            await self.send_response(told.response, send)
            return
        context = copy_context()
        loop = asyncio.get_running_loop()
        threads = self.probe_threads if scope["path"] in PROBES else self.threads
        response = await loop.run_in_executor(threads, context.run, self.answer, scope, body)
        if not response.streaming:
            await self.send_response(response, send)
            return
        async with ThreadSensitiveContext():
            sending = asyncio.create_task(self.send_response(response, send), context=context)
            await self.until_done_or_gone(sending, receive)
            await sync_to_async(response.close)()
        body.close()

    async def read_known_body(self, scope: Scope, receive: Any) -> IO[bytes]:
        """The body in memory when it comes in one piece, as nearly all do; else spooled to disk by Django.

        Raises TooMuchOfAStranger where it is large and its sender is not known, CannotTell where nobody can say.
        """
        first = await receive()
        if first["type"] == "http.request" and not first.get("more_body", False):
            return BytesIO(first.get("body", b""))
        waiting, n_bytes, may_be_large = [first], 0, False

        async def counted() -> Any:
            nonlocal n_bytes, may_be_large
            message = waiting.pop() if waiting else await receive()
            n_bytes += len(message.get("body", b""))
            if n_bytes > settings.MAX_STRANGERS_BODY and not may_be_large:
                may_be_large = await asyncio.get_running_loop().run_in_executor(self.threads, is_known, scope)
                if not may_be_large:
                    raise TooMuchOfAStranger
            return message

        spooled: IO[bytes] = await self.read_body(counted)
        return spooled

    def answer(self, scope: Scope, body: IO[bytes]) -> HttpResponseBase:
        """In the request's thread: from request_started to request_finished."""
        set_script_prefix(get_script_prefix(scope))
        signals.request_started.send(sender=self.__class__, scope=scope)
        request, refusal = self.create_request(scope, body)
        response: Any = refusal if request is None else self.get_response(request)
        response._handler_class = self.__class__
        if response.streaming:
            if isinstance(response, FileResponse):
                response.block_size = self.chunk_size
            close_old_connections()  # request_finished comes in another thread
        else:
            response.close()
            body.close()
        kept: HttpResponseBase = response
        return kept

    async def until_done_or_gone(self, sending: "asyncio.Task[None]", receive: Any) -> None:
        """Wait until a streamed answer is sent; stop making it when nobody listens any more."""
        listening = asyncio.create_task(self.listen_for_disconnect(receive))
        await asyncio.wait([sending, listening], return_when=asyncio.FIRST_COMPLETED)
        for task in (listening, sending):
            if not task.done():
                task.cancel()
        with suppress(RequestAborted, asyncio.CancelledError):
            await listening
        with suppress(asyncio.CancelledError):
            await sending
