"""What a run ran on: enough to repeat it, and to tell two results apart."""

import os
import socket
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings

from workers.environment import describe_environment


@cache
def commit() -> str | None:
    """The commit of the code, where it runs from a git checkout (an image names it in STEELYARD_COMMIT)."""
    root = Path(settings.BASE_DIR)
    if not (root / ".git").exists():
        return os.environ.get("STEELYARD_COMMIT")
    try:
        told = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return told.stdout.strip() or None


def environment() -> dict[str, Any]:
    return {**describe_environment(), "commit": commit(), "host": socket.gethostname()}
