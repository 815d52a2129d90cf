"""One throw-away PostgreSQL server for a test session, in a folder of its own; several sessions run side by side."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from steelyard.embedded import Cluster, embedded_url
from steelyard.processes import is_alive, stop_process

PREFIX = "steelyard-test-"
# Nothing here outlives the session, so nothing has to reach the disk.
UNSAFE_AND_FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "300",
    "shared_buffers": "128MB",
}


@contextmanager
def throwaway_cluster() -> Iterator[str]:
    """Run a server and yield the URL of its database; the folder goes at the end, also after a killed session."""
    remove_leftovers()
    # /tmp by name: TMPDIR may be too deep for a socket.
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir="/tmp"))
    cluster = Cluster(folder, settings=UNSAFE_AND_FAST, death_signal=signal.SIGQUIT)
    try:
        cluster.start()
        yield embedded_url(folder)
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers() -> None:
    """Clear the folders of test sessions that were killed; their servers died with them (or are stopped here)."""
    for folder in Path("/tmp").glob(f"{PREFIX}*-*"):
        owner = folder.name.removeprefix(PREFIX).partition("-")[0]
        if not owner.isdigit() or is_alive(int(owner)):
            continue
        lock = folder / "pg" / "postmaster.pid"
        if lock.exists() and is_alive(pid := int(lock.read_text().split()[0])):
            stop_process(pid, (signal.SIGQUIT, 5))
        shutil.rmtree(folder, ignore_errors=True)
