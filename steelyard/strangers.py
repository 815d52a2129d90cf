"""Large bodies are read from people with an account only: whoever sends one to disk has to be known first."""

from io import BytesIO
from typing import Any

import orjson
from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.sessions.backends.db import SessionStore
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.exception import response_for_exception
from django.db import Error, connections
from django.http import HttpResponse
from rest_framework.exceptions import AuthenticationFailed

Scope = dict[str, Any]


class TooMuchOfAStranger(Exception):
    """The body is larger than one that anybody may send, and its sender is nobody we know."""


class CannotTell(Exception):
    """The database did not say whose the body is; `response` is what the site answers wherever it does not."""

    def __init__(self, response: HttpResponse) -> None:
        super().__init__("the database did not say who sends this")
        self.response = response


def is_known(scope: Scope) -> bool:
    """Whether a request's session or token is somebody's, from its headers alone. Blocking; for a thread.

    Raises CannotTell when the database is away.
    """
    from annotator.authentication import TokenAuthentication

    request: Any = ASGIRequest(scope, BytesIO())
    request.session = SessionStore(request.COOKIES.get(settings.SESSION_COOKIE_NAME))
    try:
        return get_user(request).is_authenticated or TokenAuthentication().authenticate(request) is not None
    except AuthenticationFailed:
        return False
    except Error as error:
        response: HttpResponse = response_for_exception(request, error)
        response["Connection"] = "close"  # the rest of the body is not read
        raise CannotTell(response) from error
    finally:
        connections.close_all()


async def refuse(send: Any) -> None:
    """Answer 413 without reading the rest, and end the connection."""
    problem = {
        "type": "about:blank",
        "title": "Content Too Large",
        "status": 413,
        "code": "too_large_for_a_stranger",
        "detail": f"More than {settings.MAX_STRANGERS_BODY // 2**20} MiB are read from people with an account only: "
        "log in, or send a valid API token.",
    }
    headers = [(b"content-type", b"application/problem+json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": orjson.dumps(problem)})
