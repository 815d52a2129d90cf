"""Every API error as application/problem+json (RFC 9457)."""

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

from annotator.errors import DomainError, FieldError

TITLES = {
    400: "The request cannot be read",
    401: "Who are you?",
    403: "Not allowed",
    404: "Not found",
    405: "Wrong method",
    415: "Wrong content type",
    422: "Some values are not valid",
    429: "Too many requests",
    503: "Not now",
}


def problem_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler. None (a 500) only for what nobody foresaw."""
    problem = problem_of(error)
    if problem is None:
        return None
    set_rollback()
    response = Response(problem, status=problem["status"], content_type="application/problem+json")
    if isinstance(error, exceptions.APIException):
        for name in ("auth_header", "wait"):
            if value := getattr(error, name, None):
                response["WWW-Authenticate" if name == "auth_header" else "Retry-After"] = str(value)
    return response


def problem_of(error: Exception) -> dict[str, Any] | None:
    if isinstance(error, DomainError):
        return problem(error.status, error.code, error.detail, error.title, error.errors, **error.extra)
    if isinstance(error, Http404):
        return problem(404, "not_found", "There is nothing at this address.")
    if isinstance(error, PermissionDenied):
        return problem(403, "forbidden", "You may not do this.")
    if isinstance(error, exceptions.ValidationError):
        errors = list(flatten(error.detail))
        detail = "; ".join(f"{e.pointer or '/'}: {e.detail}" for e in errors)
        return problem(422, "invalid", detail, errors=errors)
    if isinstance(error, exceptions.APIException):
        reason = error.detail
        code = reason.code if isinstance(reason, exceptions.ErrorDetail) else "error"
        return problem(error.status_code, str(code), str(reason))
    return None


def problem(
    status: int, code: str, detail: str, title: str = "", errors: list[FieldError] | None = None, **extra: Any
) -> dict[str, Any]:
    body: dict[str, Any] = {
        "type": f"/api/problems/{code}",
        "title": title or TITLES.get(status, "Error"),
        "status": status,
        "detail": detail,
        "code": code,
    }
    if errors:
        body["errors"] = [{"pointer": e.pointer, "code": e.code, "detail": e.detail} for e in errors]
    return {**body, **extra}


def flatten(detail: Any, pointer: str = "") -> Any:
    """FieldErrors from DRF's nested validation detail."""
    if isinstance(detail, dict):
        for key, value in detail.items():
            yield from flatten(value, pointer if key == "non_field_errors" else f"{pointer}/{key}")
    elif isinstance(detail, list):
        nested = any(isinstance(value, dict | list) for value in detail)
        for index, value in enumerate(detail):
            yield from flatten(value, f"{pointer}/{index}" if nested else pointer)
    else:
        yield FieldError(pointer, getattr(detail, "code", "invalid"), str(detail))


PROBLEM_SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong and what to do."},
        "code": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {name: {"type": "string"} for name in ("pointer", "code", "detail")},
            },
        },
    },
}


def add_problem_schema(result: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """drf-spectacular hook: every operation may answer with a problem document."""
    result.setdefault("components", {}).setdefault("schemas", {})["Problem"] = PROBLEM_SCHEMA
    answer = {
        "description": "A problem",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for operations in result.get("paths", {}).values():
        for operation in operations.values():
            operation.get("responses", {}).setdefault("default", answer)
    return result
