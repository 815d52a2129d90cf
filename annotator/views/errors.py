"""Errors outside any view: a problem document below /api/v1/, a page elsewhere."""

import sys

from django.core.exceptions import BadRequest
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.views import defaults

from annotator.problems import problem

RETRY_AFTER_S = 30


def problem_response(status: int, code: str, detail: str) -> HttpResponse:
    return JsonResponse(problem(status, code, detail), status=status, content_type="application/problem+json")


def is_api(request: HttpRequest) -> bool:
    return request.path.startswith("/api/v1/")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if is_api(request):
        return problem_response(404, "not_found", "There is nothing at this address. /api/schema/ lists what there is.")
    return defaults.page_not_found(request, exception)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if is_api(request):
        reason = f": {exception}" if isinstance(exception, BadRequest) and str(exception) else ""
        return problem_response(400, "bad_request", f"The request cannot be read{reason}.")
    return defaults.bad_request(request, exception)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    if is_api(request):
        return problem_response(403, "forbidden", "You may not do this.")
    return defaults.permission_denied(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """Django calls this while it handles the error. An outage of the database is told from a defect: 503, not 500."""
    if is_outage(sys.exc_info()[1]):
        return database_away(request)
    if is_api(request):
        return problem_response(500, "server_error", "Something went wrong here; it was logged. Try again later.")
    return defaults.server_error(request)


def is_outage(error: BaseException | None) -> bool:
    """Whether the database did not answer, or ended the connection. What a server refuses has another SQLSTATE."""
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    state = getattr(error.__cause__, "sqlstate", None)
    return state is None or state.startswith(("08", "57P"))


def database_away(request: HttpRequest) -> HttpResponse:
    """Made without the database, so without who asks."""
    if is_api(request):
        detail = "The database does not answer. What this request was to change is not saved: try again in a minute."
        response = problem_response(503, "database_away", detail)
    else:
        response = HttpResponse(render_to_string("503.html"), status=503)
    response["Retry-After"] = str(RETRY_AFTER_S)
    return response
