"""The commands: the same service as the page, JSON out, clear errors."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
from django.core.management import CommandError, call_command

from annotator.models import Dataset
from annotator.services.fetch import PUBLIC_SETS, FetchFailed, HubOnly, public_set_fetch
from tests.factories import ProjectFactory

pytestmark = pytest.mark.django_db
PAIRS = b"".join(
    json.dumps({"prompt": f"q{i}", "chosen": "good", "rejected": "bad"}).encode() + b"\n" for i in range(3)
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(PAIRS + b"oops\n")
    return path


def run(*arguments: Any) -> dict[str, Any]:
    out = io.StringIO()
    call_command("dataset_import", *map(str, arguments), stdout=out, stderr=io.StringIO())
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def test_a_file_is_imported_and_summed_up(file: Path) -> None:
    project = ProjectFactory(name="Ducks")
    found = run(file, "--project", "Ducks", "--name", "first", "--format", "pairs", "--licence", "CC0")
    assert (found["n_examples"], found["n_errors"], found["format"]) == (3, 1, "pairs")
    assert found["errors"][0]["line"] == 4
    dataset = Dataset.objects.get(uid=found["uid"])
    assert (dataset.project, dataset.name, dataset.licence, dataset.n_indexed) == (project, "first", "CC0", 3)
    assert run(file, "--project", project.uid, "--allow-duplicate")["name"] == "pairs.jsonl"


def test_what_goes_wrong_is_said_in_one_line(file: Path, tmp_path: Path) -> None:
    ProjectFactory(name="Ducks")
    ProjectFactory.create_batch(2, name="Twins")
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    wrong = {
        "There is no project": (file, "--project", "Geese"),
        "Several projects": (file, "--project", "Twins"),
        "cannot be opened": (tmp_path / "nothing", "--project", "Ducks"),
        "is empty": (empty, "--project", "Ducks"),
        "None of the 4 rows": (file, "--project", "Ducks", "--format", "hh"),
    }
    for text, arguments in wrong.items():
        with pytest.raises(CommandError, match=text):
            run(*arguments)


class Answer(io.BytesIO):
    def __init__(self, data: bytes, length: int | None = None) -> None:
        super().__init__(data)
        self.headers = {"Content-Length": str(length or len(data))}


class Hub:
    """Stands in for the network, which tests do not have."""

    def __init__(self, *, data: bytes = PAIRS, length: int | None = None, error: Exception | None = None) -> None:
        self.data, self.length, self.error = data, length, error

    def open(self, request: Any, timeout: float) -> Answer:
        assert request.full_url.startswith("https://huggingface.co/datasets/")
        if self.error:
            raise self.error
        return Answer(self.data, self.length)


def fetch(hub: Any, max_bytes: int = 10**6) -> bytes:
    out = io.BytesIO()
    public_set_fetch(found=PUBLIC_SETS["helpsteer2"], out=out, max_bytes=max_bytes, opener=hub)
    return out.getvalue()


def test_a_public_set_is_fetched_whole_or_not_at_all() -> None:
    assert fetch(Hub()) == PAIRS
    with pytest.raises(FetchFailed, match="Only"):
        fetch(Hub(length=10**6))
    with pytest.raises(FetchFailed, match="larger than"):
        fetch(Hub(), max_bytes=10)
    with pytest.raises(FetchFailed, match="dataset_import FILE"):
        fetch(Hub(error=URLError("no network")))


@pytest.mark.parametrize("url", ["http://huggingface.co/x", "https://10.0.0.1/x", "https://huggingface.co.evil.org/x"])
def test_redirects_stay_with_the_hub(url: str) -> None:
    from urllib.request import Request

    request = Request(PUBLIC_SETS["hh-rlhf"].url)
    with pytest.raises(FetchFailed, match="not followed"):
        HubOnly().redirect_request(request, None, 302, "Found", {}, url)
    followed = HubOnly().redirect_request(request, None, 302, "Found", {}, "https://cdn-lfs.hf.co/x")
    assert followed is not None


def test_fetching_offline_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    ProjectFactory(name="Ducks")
    monkeypatch.setattr("annotator.services.fetch.build_opener", lambda *_: Hub(error=URLError("no network")))
    with pytest.raises(CommandError, match="cannot be reached"):
        call_command("dataset_fetch", "hh-rlhf", "--project", "Ducks", stdout=io.StringIO(), stderr=io.StringIO())


def test_fetching_imports_under_its_own_licence(monkeypatch: pytest.MonkeyPatch) -> None:
    ProjectFactory(name="Ducks")
    monkeypatch.setattr("annotator.services.fetch.build_opener", lambda *_: Hub())
    call_command("dataset_fetch", "reward-bench-2", "--project", "Ducks", stdout=io.StringIO(), stderr=io.StringIO())
    dataset = Dataset.objects.get()
    assert (dataset.n_examples, dataset.licence, dataset.name) == (3, "ODC-BY", "RewardBench 2")
