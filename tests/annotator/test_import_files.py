"""Files broken as a whole: each gets a clear answer, none a traceback."""

from __future__ import annotations

import gzip
import io
import json
import os
from contextlib import suppress
from typing import Any

import pytest
from django.utils import timezone

from annotator.errors import InvalidInput
from annotator.models import Dataset
from annotator.services.datasets import ImportRequest
from annotator.services.streams import seekable
from annotator.services.uploads import dataset_import_file
from tests.factories import ProjectFactory
from workers.data.rows import Limits

pytestmark = pytest.mark.django_db
ROWS = b"".join(
    json.dumps({"prompt": f"q{i}", "chosen": f"a{i}", "rejected": f"b{i}"}).encode() + b"\n" for i in range(200)
)


def import_bytes(data: Any, **request: Any) -> Dataset:
    stream = io.BytesIO(data) if isinstance(data, bytes) else data
    return dataset_import_file(
        project=ProjectFactory(), user=None, request=ImportRequest("x", **request), stream=stream, limits=Limits(),
        clock=timezone.now,
    )  # fmt: skip


HOPELESS = {
    "parquet without an end": b"PAR1" + b"\x00" * 100,
    "gzip without content": gzip.compress(b""),
    "gzip cut at its start": gzip.compress(ROWS)[:12],
    "gzip of noise": b"\x1f\x8b\x08\x00" + b"\xff" * 500,
    "utf-16": ROWS.decode().encode("utf-16"),
    "an open array": b"[",
    "one object over lines": b'{\n"prompt": "x"\n}\n',
    "zeros": b"\0" * 5000,
    "a header alone": b"prompt,chosen,rejected\n",
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(200),
}


@pytest.mark.parametrize("name", HOPELESS)
@pytest.mark.parametrize("format_name", ["auto", "pairs"])
def test_hopeless_files(name: str, format_name: str) -> None:
    """Refused before anything is stored, or kept as a failed import that says why."""
    with suppress(InvalidInput):
        import_bytes(HOPELESS[name], format=format_name)
    for dataset in Dataset.objects.all():
        assert dataset.state == "failed", dataset.n_examples
        assert len(dataset.failure) > 15


@pytest.mark.parametrize("share", [0.3, 0.99])
def test_a_gzip_file_cut_off_keeps_what_arrived(share: float) -> None:
    data = gzip.compress(ROWS)
    dataset = import_bytes(data[: int(len(data) * share)])
    assert dataset.state == "ready"
    assert 0 < dataset.n_examples <= 200
    assert dataset.problems.get().code == "truncated_gzip"


def test_an_array_that_is_never_closed_keeps_its_rows() -> None:
    rows = b",".join(ROWS.splitlines())
    assert import_bytes(b"[" + rows + b"]").n_examples == 200
    dataset = import_bytes(b"[" + rows)
    assert (dataset.n_examples, dataset.problems.get().code) == (199, "array_not_closed")


def test_a_file_over_the_limit_fails_and_says_so() -> None:
    limits = Limits(max_bytes=len(ROWS) // 2)
    with pytest.raises(InvalidInput) as caught:
        dataset_import_file(
            project=ProjectFactory(), user=None, request=ImportRequest("x"), stream=io.BytesIO(ROWS), limits=limits,
            clock=timezone.now,
        )  # fmt: skip
    assert caught.value.code == "file_too_large"


def test_a_pipe_is_walked_twice_from_disk() -> None:
    out, into = os.pipe()
    with os.fdopen(into, "wb") as end:
        end.write(ROWS[:5000])
    with os.fdopen(out, "rb") as pipe:
        assert not pipe.seekable()
        copy = seekable(pipe)
        assert copy.read() == ROWS[:5000]
        copy.seek(0)
        assert import_bytes(copy).n_examples > 50
