"""The embedded PostgreSQL: where it listens, how it is made, started and stopped. Standard library only.

Settings import `embedded_url` in every process, so importing this module starts and touches nothing.
"""

import contextlib
import ctypes
import hashlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

NAME = "steelyard"
PORT = "5432"
# sun_path holds 107 bytes on Linux and 103 on macOS, the socket's own file name included.
MAX_SOCKET_PATH = 100
PR_SET_PDEATHSIG = 1


class EmbeddedError(Exception):
    """The embedded server cannot run here; the text is one line for the person at the terminal."""


def socket_dir(var_dir: Path) -> Path:
    """The folder of the server's socket: below var/, or a short hashed one in /tmp when var/ lies too deep."""
    near = var_dir / "run" / "pg"
    if len(os.fsencode(near / f".s.PGSQL.{PORT}")) <= MAX_SOCKET_PATH:
        return near
    # A fixed /tmp, not TMPDIR: every process and shell must arrive at the same place.
    return Path("/tmp") / f"steelyard-{hashlib.sha256(os.fsencode(var_dir)).hexdigest()[:12]}"  # noqa: S108


def embedded_url(var_dir: Path) -> str:
    """The URL of the database that `make up` runs for this var/ folder. Pure."""
    return f"postgresql://{NAME}@/{NAME}?host={quote(str(socket_dir(var_dir)), safe='/')}"
