"""Exports: the rows of each layout, and files that `datasets` loads unchanged."""

from __future__ import annotations

import io
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

os.environ["HF_HUB_OFFLINE"] = "1"

from workers.data import formats_page
from workers.data.card import CardFacts, dataset_card
from workers.data.exporters import EXPORTS, export_labels, export_named, export_rows
from workers.data.exporters.record import SnapshotRecord
from workers.data.importing import open_examples
from workers.data.writing import jsonl_chunks, parquet_chunks
from workers.registry import UnknownName


def turn(role: str, content: str) -> dict[str, str]:
    return {"content": content, "role": role}  # in the other order on purpose


def judgement(verdict: str, **more: Any) -> dict[str, Any]:
    return {
        "rater": "r1",
        "verdict": verdict,
        "preference_strength": None,
        "left": "b",
        "justification": "",
        "reasons": [],
        "active_s": None,
        "form_version": 1,
        "guidelines_version": None,
        "submitted_at": "2026-11-21T04:00:00+00:00",
    } | more


def record(verdict: str | None, **more: Any) -> SnapshotRecord:
    columns: dict[str, Any] = {
        "example_uid": "e1",
        "prompt": [turn("user", "q 漢字")],
        "response_a": [turn("assistant", "good")],
        "response_b": [turn("assistant", " ")],
        "verdict": verdict,
        "n_judgements": 1,
        "judgements": [judgement(verdict or "cannot_judge")],
    }
    return SnapshotRecord(**(columns | more))


RECORDS = [
    record("a", share_a=1, judgements=[judgement("a", preference_strength=2, reasons=["style"], active_s=3)] * 2),
    record("b", prompt=[turn("user", "1"), turn("assistant", "2"), turn("user", "3")], meta={"id": 2**70, "נ": None}),
    record("tie"),
    record("both_bad"),
    record(None),
]


def rows_of(label: str, records: list[SnapshotRecord] = RECORDS) -> tuple[list[dict[str, Any]], Counter[str]]:
    tally: Counter[str] = Counter()
    return list(export_rows(export_named(label), records, tally)), tally


def test_ties_and_both_bad_are_never_chosen_or_rejected() -> None:
    for label in ("trl-preference", "trl-conversational"):
        rows, tally = rows_of(label)
        assert len(rows) == 2
        assert tally == {"n_records": 5, "n_rows": 2, "skipped_tie": 1, "skipped_both_bad": 1, "skipped_undecided": 1}
        assert list(rows[0]) == ["prompt", "chosen", "rejected"]


def test_standard_layout_keeps_single_turns_and_writes_transcripts_of_more() -> None:
    rows, _ = rows_of("trl-preference")
    assert rows[0] == {"prompt": "q 漢字", "chosen": "good", "rejected": " "}
    assert rows[1]["prompt"] == "\n\nHuman: 1\n\nAssistant: 2\n\nHuman: 3\n\nAssistant: "
    assert (rows[1]["chosen"], rows[1]["rejected"]) == (" ", "good")


def test_unpaired_rows() -> None:
    rows, tally = rows_of("trl-unpaired")
    assert [(row["completion"], row["label"]) for row in rows] == [
        ("good", True),
        (" ", False),
        ("good", False),
        (" ", True),
        ("good", False),
        (" ", False),
    ]
    assert tally["skipped_tie"] == 1


def test_raw_keeps_every_judgement_and_has_no_nulls() -> None:
    rows, tally = rows_of("raw")
    assert [row["verdict"] for row in rows] == ["a", "a", "b", "tie", "both_bad", "cannot_judge"]
    assert tally["n_rows"] == 6
    assert rows[0]["left"] == "b"
    assert (rows[0]["preference_strength"], rows[0]["active_s"], rows[0]["reasons"]) == (2, 3.0, '["style"]')
    assert (rows[2]["preference_strength"], rows[2]["active_s"], rows[2]["reasons"]) == (0, -1.0, "[]")
    assert rows[2]["meta"] == '{"id": 1180591620717411303424, "נ": null}'
    assert not any(value is None or value == [] for row in rows for value in row.values())


@pytest.mark.parametrize("label", export_labels())
def test_every_export_loads_with_datasets_unchanged(label: str, tmp_path: Path) -> None:
    import datasets

    export = export_named(label)
    assert EXPORTS.get(export.name).__doc__
    rows, tally = rows_of(label)
    assert [list(row) for row in rows] == [list(export.columns)] * len(rows)
    schema = export.schema()
    assert schema.names == list(export.columns)
    (tmp_path / "data.jsonl").write_bytes(b"".join(jsonl_chunks(rows)))
    (tmp_path / "data.parquet").write_bytes(b"".join(parquet_chunks(rows, schema)))
    cache = str(tmp_path / "cache")
    for kind, name in (("json", "data.jsonl"), ("parquet", "data.parquet")):
        loaded = datasets.load_dataset(kind, data_files=str(tmp_path / name), split="train", cache_dir=cache)
        assert loaded.to_list() == rows
    folder = tmp_path / "card"
    folder.mkdir()
    (folder / "part.parquet").write_bytes(b"".join(parquet_chunks(rows, schema)))
    facts = CardFacts('A "title": x', "uid", "ab" * 32, "majority", "2026-11-21", ["part.parquet"], tally)
    (folder / "README.md").write_text(dataset_card(export, facts))
    assert datasets.load_dataset(str(folder), split="train", cache_dir=cache).to_list() == rows
    front = yaml.safe_load(dataset_card(export, facts).split("---")[1])
    assert front["pretty_name"] == 'A "title": x'


def test_exports_come_back_through_the_import() -> None:
    for label, format_name in (("trl-preference", "pairs"), ("trl-conversational", "messages")):
        rows, _ = rows_of(label)
        opened = open_examples(io.BytesIO(b"".join(jsonl_chunks(rows))), name="back.jsonl")
        examples: list[Any] = list(opened.examples)
        assert opened.detection.format == format_name
        for example, source in zip(examples, RECORDS, strict=False):
            assert example.prompt == source.prompt
            assert [response.messages for response in example.responses] == [source.chosen, source.rejected]


def test_writers_stream_in_pieces_and_write_an_empty_file() -> None:
    import pyarrow.parquet as pq

    export = export_named("trl-preference")
    big = [{"prompt": str(n), "chosen": "x" * 2000, "rejected": "y"} for n in range(12_000)]
    chunks = list(parquet_chunks(iter(big), export.schema()))
    assert len(chunks) >= 3
    assert max(map(len, chunks)) < 20_000_000
    assert pq.ParquetFile(io.BytesIO(b"".join(chunks))).metadata.num_rows == 12_000
    assert pq.read_table(io.BytesIO(b"".join(parquet_chunks([], export.schema())))).num_rows == 0
    lines = list(jsonl_chunks(iter(big)))
    assert len(lines) > 50
    assert b"".join(lines).count(b"\n") == 12_000
    assert list(jsonl_chunks([])) == []


def test_unknown_exports_are_named() -> None:
    with pytest.raises(UnknownName, match="trl_preference"):
        export_named("csv")


def test_raw_json_lines_load_when_the_first_block_holds_no_answers(tmp_path: Path) -> None:
    """`datasets` types a JSON Lines column by its first 10 MB: values that come later must still fit."""
    import datasets

    bare = record("a", response_a=[turn("assistant", "x" * 20_000)])
    full = record(
        "b", judgements=[judgement("b", preference_strength=3, reasons=["tone"], active_s=2.5)], meta={"k": [1]}
    )
    rows, _ = rows_of("raw", [bare] * 700 + [full])
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"".join(jsonl_chunks(rows)))
    assert path.stat().st_size > 12_000_000
    loaded = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded[-1] == rows[-1]


def test_the_formats_page_is_fresh() -> None:
    page = Path(__file__).resolve().parents[3] / "docs" / "formats.md"
    assert page.read_text() == formats_page.page(), "run: python -m workers.data.formats_page > docs/formats.md"
