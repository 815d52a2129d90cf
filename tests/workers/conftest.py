"""What tests of pure compute share. No Django here."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
from hypothesis import settings

from tests.workers.making import LocalRun, make_pairs
from workers.data.schema import PreferencePair

# How long one example takes says more about what else the machine does than about the code.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Tiny models are fastest on one thread; the last bits depend on it, and an opened scorer may change it."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def pairs() -> list[PreferencePair]:
    return make_pairs(48)


@pytest.fixture
def local(tmp_path, pairs) -> LocalRun:
    return LocalRun(tmp_path, pairs)
