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


@cache
def is_changed() -> bool | None:
    """Does the code differ from its commit? None where there is no checkout to ask."""
    root = Path(settings.BASE_DIR)
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "status", "--porcelain", "--untracked-files=no", "--", "*.py"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return bool(told.stdout.strip()) if told.returncode == 0 else None


def environment() -> dict[str, Any]:
    return {
        **describe_environment(),
        "commit": commit(),
        "is_changed": is_changed(),
        "host": socket.gethostname(),
    }
