"""A DomainError raised by a page becomes a readable answer, never a 500."""

from collections.abc import Callable

from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.decorators import sync_only_middleware

from annotator.access import reading, writing
from annotator.errors import DomainError
from annotator.views.errors import bad_request

READING_METHODS = {"GET", "HEAD", "OPTIONS"}
#: What an archived project allows: to take it back out, to stop work, to take away rights.
STILL_POSSIBLE = ("-archive", "-cancel", "-revoke", "-remove")


def changes_something(method: str, name: str) -> bool:
    """Whether a request by this method to the address of this name is refused in an archived project."""
    takes_rights = name.endswith(STILL_POSSIBLE) or (method, name) == ("DELETE", "member-detail")
    return method not in READING_METHODS and not takes_rights


@sync_only_middleware
class DomainErrorMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if "%00" in request.META.get("QUERY_STRING", ""):  # PostgreSQL takes no NUL, and no address of ours has one
            return bad_request(request, BadRequest("the address holds a NUL character, which no text here can have"))
        with reading():
            return self.get_response(request)

    def process_view(self, request: HttpRequest, *view: object) -> None:
        """Say whether this request changes something; archived projects refuse that (docs/decisions/075)."""
        name = request.resolver_match.url_name or "" if request.resolver_match else ""
        if changes_something(request.method or "", name):
            writing()

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Full pages get the error page; htmx requests get a 422 fragment that is shown as a message."""
        if not isinstance(error, DomainError):
            return None
        template = "components/error_message.html" if getattr(request, "htmx", False) else "error.html"
        response = render(request, template, {"error": error}, status=error.status)
        if getattr(request, "htmx", False):
            response["HX-Retarget"] = "#messages"
            response["HX-Reswap"] = "innerHTML"
        return response
