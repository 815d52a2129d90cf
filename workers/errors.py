"""What a job may raise. Messages and hints are read by people on a run's page: plain words, no class names."""

from typing import TypedDict


class FieldProblem(TypedDict):
    pointer: str
    code: str
    detail: str


class JobError(Exception):
    """The run fails. `hint` says what to change before trying again."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.message, self.hint)


class JobCancelled(Exception):
    """Somebody asked the run to stop; raised by `ctx.checkpoint()`."""


class TransientError(Exception):
    """Something outside failed (a connection, a lock); trying the same thing later may work."""


class SpecError(JobError):
    """A spec or config that does not fit its schema; `errors` point at the fields."""

    def __init__(self, errors: list[FieldProblem]) -> None:
        self.errors = errors
        lines = "; ".join(f"{e['pointer'] or '/'}: {e['detail']}" for e in errors)
        super().__init__(f"The spec is not valid: {lines}", "Correct the named fields and submit again.")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.errors,)
