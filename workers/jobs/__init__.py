"""Job kinds: everything that takes long. Each is a class with a Spec and `run(ctx, spec) -> result`."""

from typing import TYPE_CHECKING

from workers.registry import Registry

if TYPE_CHECKING:
    from workers.jobs.base import Job

JOBS: "Registry[Job]" = Registry("workers.jobs")
