"""Where the real data sets are, for tests that use them when they are there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def shared_data(name: str) -> Path:
    """A file or folder of the shared data pack; the test is skipped, saying why, where the pack is absent."""
    base = Path(os.environ.get("SHARED_DATA", ROOT.parent / "shared" / "data"))
    path = base / name
    if not path.exists():
        pytest.skip(f"{name} is not in {base} (set SHARED_DATA to the folder of the data pack)")
    return path
