"""The import pipeline on small files: what is stored, byte for byte, and what is refused with which reason."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from annotator.errors import InvalidInput
from annotator.models import Dataset, Example, ImportProblem, Preference, Response
from annotator.services import import_batches
from annotator.services.datasets import DuplicateUpload, ImportRequest
from annotator.services.imports import ImportRunning, dataset_import, import_lock
from annotator.services.uploads import dataset_import_file, dataset_upload, import_cancel, sweep_imports, upload_path
from tests.factories import DatasetFactory, ProjectFactory
from workers.data.rows import Limits

pytestmark = pytest.mark.django_db
PAIR = {"prompt": "Can ducks fly?", "chosen": "Most can.", "rejected": "No."}


def jsonl(*rows: Any) -> bytes:
    return b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)


def pairs(n: int, start: int = 0) -> list[dict[str, str]]:
    return [{"prompt": f"question {i}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(start, start + n)]


def import_bytes(data: bytes, *, limits: Limits = Limits(), **request: Any) -> Dataset:  # noqa: B008
    wanted = ImportRequest(**{"name": "d", "source_name": "d.jsonl", **request})
    project = ProjectFactory()
    return dataset_import_file(
        project=project, user=None, request=wanted, stream=io.BytesIO(data), limits=limits, clock=timezone.now
    )


def test_pairs_become_examples_responses_and_preferences() -> None:
    dataset = import_bytes(jsonl({**PAIR, "id": 7, "subset": "birds", "preference_strength": 2}))
    assert (dataset.state, dataset.format, dataset.n_examples, dataset.n_responses) == ("ready", "pairs", 1, 2)
    assert "prompt" in dataset.format_reason
    example = Example.objects.get(dataset=dataset)
    assert example.prompt == [{"role": "user", "content": "Can ducks fly?"}]
    assert example.meta == {"subset": "birds", "source_id": "7"}
    assert example.position == 1
    assert dataset.metadata_keys == ["source_id", "subset"]
    chosen, rejected = example.responses.order_by("number")
    assert (chosen.text, rejected.text) == ("Most can.", "No.")
    known = Preference.objects.get(dataset=dataset)
    assert (known.response_a, known.response_b, known.verdict, known.preference_strength) == (chosen, rejected, "a", 2)
    assert dataset.n_bytes_read == dataset.n_bytes_total
    assert dataset.finished_at is not None


TEXTS = [
    " ",
    "\ttab\\t and \\N backslash\\",
    "line\nbreak\r\nand \x85 \u2028",
    "שלום עולם \u200f",
    "日本語テキスト",
    "🦆👩🏽‍🚀",
    "\\.",
    "\x01\x7f",
    'quo"te',
    "e\u0301 is not é",
]


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_text_is_kept_byte_for_byte(text: str) -> None:
    row = {"prompt": text, "responses": [{"text": text + "x", "model": "m\t\\1", "note": text}, "other"]}
    dataset = import_bytes(jsonl(row))
    example = Example.objects.get(dataset=dataset)
    response = example.responses.get(number=0)
    assert example.prompt[0]["content"] == text
    assert (response.text, response.source_model, response.meta["note"]) == (text + "x", "m\t\\1", text)


def test_large_integers_in_metadata_stay_exact() -> None:
    dataset = import_bytes(
        jsonl(b'{"prompt": "p", "chosen": "a", "rejected": "b", "n": 123456789012345678901234567890}')
    )
    assert Example.objects.get(dataset=dataset).meta["n"] == 123456789012345678901234567890


def test_one_bad_line_in_the_middle_is_reported_and_the_rest_kept() -> None:
    dataset = import_bytes(jsonl(*pairs(3), b'{"prompt": "x", "chosen": ', *pairs(3, start=3)))
    assert (dataset.state, dataset.n_rows, dataset.n_examples, dataset.n_errors) == ("ready", 7, 6, 1)
    problem = ImportProblem.objects.get(dataset=dataset)
    assert (problem.line, problem.code) == (4, "bad_json")
    assert problem.excerpt.startswith('{"prompt": "x"')
    assert list(Example.objects.filter(dataset=dataset).order_by("id").values_list("position", flat=True)) == [
        1, 2, 3, 5, 6, 7,
    ]  # fmt: skip


BAD_ROWS = {
    "identical_responses": {**PAIR, "rejected": "Most can."},
    "missing_prompt": {"chosen": "a", "rejected": "b"},
    "missing_response": {"prompt": "p", "chosen": "a", "rejected": None},
    "nul_character": {**PAIR, "chosen": "a\0b"},
    "not_an_object": [1, 2],
}


@pytest.mark.parametrize("code", BAD_ROWS)
def test_a_bad_row_says_why(code: str) -> None:
    dataset = import_bytes(jsonl(*pairs(9), BAD_ROWS[code]))
    assert (dataset.n_examples, dataset.n_errors) == (9, 1)
    problem = ImportProblem.objects.get(dataset=dataset)
    assert (problem.line, problem.code) == (10, code)


def test_a_score_that_is_not_a_number_is_refused() -> None:
    good = {"prompt": "p", "responses": [{"text": "a", "score": 1.5}, {"text": "b", "score": 0}]}
    bad = b'{"prompt": "q", "responses": [{"text": "a", "score": NaN}, {"text": "b", "score": 0}]}'
    dataset = import_bytes(jsonl(good, bad))
    assert dataset.n_examples == 1
    assert "NaN" in ImportProblem.objects.get(dataset=dataset).detail or dataset.problems.get().code.startswith(
        "number"
    )


def test_duplicates_are_counted_also_across_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_batches, "MAX_BATCH_ROWS", 5)
    dataset = import_bytes(jsonl(*pairs(12), *pairs(12), *pairs(2)))
    assert (dataset.n_rows, dataset.n_examples, dataset.n_duplicates) == (26, 12, 14)
    assert (Response.objects.filter(example__dataset=dataset).count(), dataset.n_responses) == (24, 24)


def test_the_same_file_in_another_dataset_is_no_duplicate_row() -> None:
    data = jsonl(*pairs(3))
    assert [import_bytes(data).n_examples, import_bytes(data).n_examples] == [3, 3]


def test_gzip_and_csv_and_parquet_give_the_same(tmp_path: Any) -> None:
    import pyarrow
    import pyarrow.parquet

    rows = pairs(20)
    parquet = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), parquet)
    csv = "prompt,chosen,rejected\n" + "".join(f"{r['prompt']},{r['chosen']},{r['rejected']}\n" for r in rows)
    found = [
        import_bytes(data) for data in (jsonl(*rows), gzip.compress(jsonl(*rows)), csv.encode(), parquet.getvalue())
    ]
    assert [dataset.n_examples for dataset in found] == [20] * 4
    hashes = [set(Example.objects.filter(dataset=d).values_list("prompt_hash", flat=True)) for d in found]
    assert len({frozenset(bytes(h) for h in each) for each in hashes}) == 1


def test_nothing_good_in_the_file_is_a_failure_with_its_reason() -> None:
    dataset = import_bytes(jsonl({"prompt": "p"}, {"prompt": "q"}), format="pairs")
    assert (dataset.state, dataset.n_errors) == ("failed", 2)
    assert "Line 1" in dataset.failure


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty_file"),
        (b"\n \n", "empty_file"),
        (b"PK\x03\x04zip", "unknown_type"),
        (jsonl({"colour": "red"}), "format_unknown"),
    ],
)
def test_a_file_that_cannot_be_read_leaves_nothing(data: bytes, code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        import_bytes(data)
    assert caught.value.code == code
    assert caught.value.errors[0].pointer == "/file"
    assert not Dataset.objects.exists()


def test_unknown_format_and_missing_name_are_named() -> None:
    with pytest.raises(InvalidInput) as caught:
        import_bytes(jsonl(PAIR), format="xml", name=" ")
    assert [error.pointer for error in caught.value.errors] == ["/name", "/format"]


BOMB_LIMITS = Limits(max_ratio=50, ratio_floor_bytes=1_000_000)


def test_gzip_bomb_is_refused_at_its_head() -> None:
    with pytest.raises(InvalidInput) as caught:
        import_bytes(gzip.compress(jsonl(*pairs(10)) + b" " * 40_000_000), limits=BOMB_LIMITS)
    assert caught.value.code == "gzip_bomb"


def test_gzip_bomb_further_down_fails_with_its_reason_and_keeps_what_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_batches, "MAX_BATCH_ROWS", 10)
    dataset = import_bytes(gzip.compress(jsonl(*pairs(60)) + b" " * 40_000_000), limits=BOMB_LIMITS)
    assert (dataset.state, dataset.n_examples) == ("failed", 60)
    assert "grows more than" in dataset.failure


def test_the_same_file_twice_in_a_project_needs_a_yes() -> None:
    project = ProjectFactory()
    data = jsonl(*pairs(2))

    def again(**request: Any) -> Dataset:
        wanted = ImportRequest(name="d", **request)
        stream = io.BytesIO(data)
        return dataset_import_file(
            project=project, user=None, request=wanted, stream=stream, limits=Limits(), clock=timezone.now
        )

    first = again()
    with pytest.raises(DuplicateUpload) as caught:
        again()
    assert caught.value.extra["dataset"] == str(first.uid)
    assert again(allow_duplicate=True).n_examples == 2
    Dataset.objects.update(deleted_at=timezone.now())
    assert again().n_examples == 2


def test_a_killed_import_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_batches, "MAX_BATCH_ROWS", 4)
    data = jsonl(*pairs(10), b"bad", *pairs(10, start=5))
    dataset = DatasetFactory(state="importing", format="")

    def killed(seen: Dataset) -> None:
        if seen.n_rows >= 8:
            raise KeyboardInterrupt

    run: Callable[..., Dataset] = lambda **more: dataset_import(  # noqa: E731
        dataset=dataset, stream=io.BytesIO(data), limits=Limits(), clock=timezone.now, **more
    )
    with pytest.raises(KeyboardInterrupt):
        run(on_progress=killed)
    dataset.refresh_from_db()
    assert (dataset.state, dataset.n_rows, dataset.n_examples) == ("importing", 8, 8)
    done = run()
    assert (done.state, done.n_rows, done.n_examples, done.n_duplicates, done.n_errors) == ("ready", 21, 15, 5, 1)
    assert Example.objects.filter(dataset=dataset).count() == 15
    assert ImportProblem.objects.filter(dataset=dataset).count() == 1


def test_cancel_stops_after_the_current_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_batches, "MAX_BATCH_ROWS", 4)
    dataset = DatasetFactory(state="importing", format="")

    def ask(seen: Dataset) -> None:
        Dataset.objects.filter(pk=seen.pk).update(cancel_requested_at=timezone.now())

    data = io.BytesIO(jsonl(*pairs(100)))
    done = dataset_import(dataset=dataset, stream=data, limits=Limits(), clock=timezone.now, on_progress=ask)
    assert done.state == "cancelled"
    assert done.n_examples <= 12


def test_an_error_of_the_site_is_stored_and_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = DatasetFactory(state="importing", format="")

    def broken(seen: Dataset) -> None:
        raise ZeroDivisionError("no luck")

    with pytest.raises(ZeroDivisionError):
        dataset_import(
            dataset=dataset, stream=io.BytesIO(jsonl(PAIR)), limits=Limits(), clock=timezone.now, on_progress=broken
        )
    dataset.refresh_from_db()
    assert dataset.state == "failed"
    assert "no luck" in dataset.failure
    assert dataset.n_examples == 1


def test_an_ended_import_is_left_alone() -> None:
    dataset = import_bytes(jsonl(PAIR))
    again = dataset_import(dataset=dataset, stream=io.BytesIO(jsonl(*pairs(3))), limits=Limits(), clock=timezone.now)
    assert again.n_examples == 1


def upload(tmp_path: Any, data: bytes) -> Dataset:
    request = ImportRequest(name="d", source_name="d.jsonl")
    return dataset_upload(
        project=ProjectFactory(), user=None, request=request, chunks=[data], upload_dir=tmp_path, limits=Limits(),
        now=timezone.now(),
    )  # fmt: skip


def test_a_refused_upload_leaves_no_file(tmp_path: Any) -> None:
    with pytest.raises(InvalidInput):
        upload(tmp_path, b"")
    assert list(tmp_path.iterdir()) == []


def test_cancel_before_a_worker_came(tmp_path: Any) -> None:
    dataset = upload(tmp_path, jsonl(PAIR))
    assert upload_path(dataset, tmp_path).exists()
    assert import_cancel(dataset=dataset, upload_dir=tmp_path, now=timezone.now())
    dataset.refresh_from_db()
    assert dataset.state == "cancelled"
    assert list(tmp_path.iterdir()) == []
    assert not import_cancel(dataset=dataset, upload_dir=tmp_path, now=timezone.now())


def test_sweep_asks_again_for_files_and_gives_up_on_streams(tmp_path: Any) -> None:
    stored, stream = upload(tmp_path, jsonl(PAIR)), DatasetFactory(state="importing")
    soon, later = timezone.now(), timezone.now() + timedelta(minutes=2)
    assert sweep_imports(upload_dir=tmp_path, now=soon) == []
    assert sweep_imports(upload_dir=tmp_path, now=later) == [stored]
    assert sweep_imports(upload_dir=tmp_path, now=later) == []
    stream.refresh_from_db()
    assert stream.state == "failed"
    assert "interrupted" in stream.failure


@pytest.mark.django_db(transaction=True)
def test_two_workers_never_import_the_same_dataset() -> None:
    from threading import Thread

    from django.db import connection

    dataset = DatasetFactory(state="importing", format="")
    outcome: list[str] = []

    def second() -> None:
        try:
            dataset_import(dataset=dataset, stream=io.BytesIO(jsonl(PAIR)), limits=Limits(), clock=timezone.now)
        except ImportRunning as error:
            outcome.append(error.code)
        finally:
            connection.close()

    with import_lock(dataset):
        thread = Thread(target=second)
        thread.start()
        thread.join()
    assert outcome == ["import_running"]
