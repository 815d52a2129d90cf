"""Failures of a computation in words that say what to change."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from safetensors import SafetensorError

from workers.errors import JobError

SIGNS = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory", "bad_alloc")


@contextmanager
def explaining_memory(advice: str) -> Iterator[None]:
    """Turn every way torch reports a lack of memory into a JobError with `advice`."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _no_memory(advice) from error
    except RuntimeError as error:
        if any(sign in str(error).lower() for sign in SIGNS):
            raise _no_memory(advice) from error
        raise


@contextmanager
def explaining_disk(what: str) -> Iterator[None]:
    """A full disk as a JobError; what was saved before is still there, whole."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _no_disk(what) from error
    except SafetensorError as error:  # safetensors tells of it in words only
        if "no space left" not in str(error).lower() and "os error 28" not in str(error).lower():
            raise
        raise _no_disk(what) from error


class NotFinite(JobError):
    """The loss or a gradient is no number any more."""


def _no_disk(what: str) -> JobError:
    return JobError(
        f"The disk is full: {what} could not be written.",
        "Free some space (old artifacts, other runs), then run it again; it goes on from the last saved state.",
    )


def _no_memory(advice: str) -> JobError:
    return JobError("The machine ran out of memory.", advice)
