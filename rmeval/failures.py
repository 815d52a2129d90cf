"""Why a run failed and what to change, in words for its page."""

import traceback
from typing import Any

from annotator.errors import DomainError
from workers.errors import JobError

TRACE_CHARS = 8000
MEMORY_HINT = (
    "Make token_budget or batch_pairs smaller (accumulation keeps the effective batch), shorten max_length, "
    "or use a smaller backbone; then start the run again."
)
TIME_HINT = (
    "Train fewer steps or epochs, or raise STEELYARD_JOB_TIME_LIMIT_S; a retry resumes from the last checkpoint."
)
OWN_FAULT_HINT = "This was not foreseen. The trace below says where it happened; please report it."


def describe(error: BaseException) -> dict[str, Any]:
    """{message, hint, trace} of an exception that ended a run."""
    message, hint = words(error)
    trace = "".join(traceback.format_exception(error))[-TRACE_CHARS:]
    return {"message": message.replace("\0", ""), "hint": hint, "trace": trace.replace("\0", "")}


def words(error: BaseException) -> tuple[str, str]:
    if isinstance(error, JobError):
        return error.message, error.hint
    if isinstance(error, DomainError):
        return error.detail, ""
    if is_out_of_memory(error):
        return "The machine ran out of memory.", MEMORY_HINT
    if type(error).__name__ == "SoftTimeLimitExceeded":
        return "The run took longer than a job may.", TIME_HINT
    if isinstance(error, OSError) and error.errno == 28:
        return "The disk is full.", "Free some space below STEELYARD_HOME, then press Retry: the run resumes."
    return f"{type(error).__name__}: {error}"[:2000], OWN_FAULT_HINT


def is_out_of_memory(error: BaseException) -> bool:
    """By name and text, so that torch need not be imported to ask."""
    text = str(error).lower()
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or "out of memory" in text or "can't allocate memory" in text or "cannot allocate memory" in text
