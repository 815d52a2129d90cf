"""A hub that does not answer is told in seconds."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.ops.site import free_port
from workers.errors import JobError
from workers.families import FAMILIES
from workers.nn.hub import insist_reachable
from workers.nn.tiny import TINY_LANGUAGE_MODELS, TINY_NAMES
from workers.specs import parse_spec


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """As on a machine that may use the network, and has nothing from the hub."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return monkeypatch


@pytest.fixture
def answering() -> Iterator[str]:
    """The address of a hub that answers, if only that it has nothing."""
    asked = []

    class Nothing(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Nothing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    assert len(asked) == 1


def test_a_hub_that_is_away_is_told_at_once(online) -> None:
    online.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free_port()}")
    family = FAMILIES.get("scalar_head")
    began = time.monotonic()
    with pytest.raises(JobError, match=r"no-such/model is not on this machine, and http.* cannot be reached") as caught:
        family.load_backbone(parse_spec(family.Config, {"backbone": "no-such/model"}))
    assert caught.value.hint
    assert time.monotonic() - began < 8  # its own client asks for 23 s


def test_a_hub_that_answers_is_asked_for_the_model(online, answering) -> None:
    online.setattr(constants, "ENDPOINT", answering)
    insist_reachable("no-such/model")


@pytest.mark.parametrize("name", ["minilm", "tiny-encoder", "/no/such/folder", "three/part/name"])
def test_what_is_none_of_the_hubs_asks_nobody(online, name) -> None:
    online.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free_port()}")
    family = FAMILIES.get("scalar_head")
    config = parse_spec(family.Config, {"backbone": name})
    if name in ("minilm", "tiny-encoder"):
        family.load_backbone(config)
    else:
        insist_reachable(name)


@pytest.mark.parametrize("name", ["minilm", *TINY_NAMES, *TINY_LANGUAGE_MODELS])
def test_what_comes_with_the_package_needs_no_hub(online, name) -> None:
    online.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free_port()}")
    insist_reachable(name)
