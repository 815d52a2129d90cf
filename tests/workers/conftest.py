"""What tests of pure compute share. No Django here."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest

from tests.workers.making import LocalRun, make_pairs
from workers.data.schema import PreferencePair


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tiny models are fastest on one thread, and the machine is shared."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def pairs() -> list[PreferencePair]:
    return make_pairs(48)


@pytest.fixture
def local(tmp_path, pairs) -> LocalRun:
    return LocalRun(tmp_path, pairs)
