"""Errors a caller caused or can act on. One handler each makes a page and an API problem of them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FieldError:
    """One wrong value: a JSON pointer to it, a stable code, and what to do."""

    pointer: str
    code: str
    detail: str


class DomainError(Exception):
    """A request that cannot be carried out as asked. `detail` says why and what to do."""

    status = 409
    code = "conflict"
    title = "This cannot be done now"

    def __init__(
        self,
        detail: str,
        *,
        code: str = "",
        status: int = 0,
        errors: list[FieldError] | None = None,
        **extra: object,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or type(self).code
        self.status = status or type(self).status
        self.errors = errors or []
        self.extra = extra  # further members of the problem document


class InvalidInput(DomainError):
    status = 422
    code = "invalid"
    title = "Some values are not valid"


class ProjectArchived(DomainError):
    code = "project_archived"
    title = "This project is archived"


class NotAllowed(DomainError):
    status = 403
    code = "forbidden"
    title = "Your role does not allow this"


class NotFound(DomainError):
    status = 404
    code = "not_found"
    title = "Not found"
