"""What every test of annotation gets."""

from datetime import datetime
from typing import Any

import pytest
from django.utils import timezone


@pytest.fixture(autouse=True)
def quick_passwords(settings: Any) -> None:
    """A real password hash takes long on purpose, and no test here is about the hash."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def still_clock(monkeypatch: pytest.MonkeyPatch) -> datetime:
    """Time stands still, so that a busy machine does not wait out what a throttle counts in seconds."""
    now = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: now)
    return now
