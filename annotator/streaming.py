"""Bytes that leave while they are made, in flat memory, under ASGI as well as in tests."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

from django.core.handlers.asgi import ASGIRequest
from django.db import connections
from django.http import HttpRequest, StreamingHttpResponse
from rest_framework.request import Request

logger = logging.getLogger(__name__)


def streaming_response(
    request: HttpRequest | Request, chunks: Iterator[bytes], *, content_type: str, filename: str, **headers: str
) -> StreamingHttpResponse:
    """A download. Django collects a synchronous iterator whole before it sends it under ASGI, so a thread runs it."""
    inner = request._request if isinstance(request, Request) else request
    body = in_thread(chunks) if isinstance(inner, ASGIRequest) else chunks
    response = StreamingHttpResponse(body, content_type=content_type)
    response["Content-Disposition"] = f'attachment; filename="{filename}"'
    response["X-Accel-Buffering"] = "no"
    for name, value in headers.items():
        response[name.replace("_", "-")] = value
    return response


async def in_thread(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Pull each chunk in one thread when the client has taken the last: back-pressure reaches the database."""
    loop = asyncio.get_running_loop()
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="stream")
    try:
        while (chunk := await loop.run_in_executor(executor, pull, chunks)) is not None:
            yield chunk
    finally:  # also when the client went away; nothing is awaited here, the thread ends on its own
        executor.submit(finish, chunks)
        executor.shutdown(wait=False)


def pull(chunks: Iterator[bytes]) -> bytes | None:
    """The next chunk. The connection goes back to the pool while the client reads, however slowly."""
    try:
        return next(chunks, None)
    finally:
        connections.close_all()


def finish(chunks: Iterator[bytes]) -> None:
    try:
        if close := getattr(chunks, "close", None):
            close()
    except Exception:
        logger.exception("a stream did not close")
    finally:
        connections.close_all()
