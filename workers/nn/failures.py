"""Failures of a computation in words that say what to change."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

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


def _no_memory(advice: str) -> JobError:
    return JobError("The machine ran out of memory.", advice)
