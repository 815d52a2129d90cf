"""Reading uploaded files: every type, every way a row or a file can be bad, in bounded memory."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, repeat

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.shared import shared_data
from workers.data.readers import open_rows
from workers.data.rows import FileError, Limits, Row, RowError

SMALL = Limits(max_row_bytes=1000)
TEXT = "RTL שלום, CJK 漢字, emoji 👩‍👩‍👧, tab\t, one space: , CR \r\n end"


def read(raw: bytes, limits: Limits = SMALL) -> list[Row | RowError]:
    return list(open_rows(io.BytesIO(raw), name="upload", limits=limits))


def codes(raw: bytes, limits: Limits = SMALL) -> list[tuple[int, str]]:
    return [(row.line, row.code if isinstance(row, RowError) else "row") for row in read(raw, limits)]


def parquet(columns: dict[str, list[object]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


class Trickle:
    """A stream that cannot seek and hands out a few bytes at a time, as a request body does."""

    def __init__(self, raw: bytes) -> None:
        self.inner = io.BytesIO(raw)

    def read(self, size: int = -1) -> bytes:
        return self.inner.read(min(size, 7))


ROWS = [{"prompt": TEXT, "chosen": " ", "rejected": "no"}, {"prompt": "p", "chosen": "a", "rejected": "b"}]
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def as_csv(delimiter: str) -> bytes:
    sink = io.StringIO()
    writer = csv.DictWriter(sink, list(ROWS[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return sink.getvalue().encode()


FILES = {
    "jsonl": JSONL,
    "jsonl with CR LF": JSONL.replace(b"\n", b"\r\n"),
    "jsonl with BOM": b"\xef\xbb\xbf" + JSONL,
    "jsonl without a last newline": JSONL.rstrip(),
    "array": json.dumps(ROWS).encode(),
    "indented array": json.dumps(ROWS, indent=2).encode(),
    "csv": as_csv(","),
    "csv with BOM": b"\xef\xbb\xbf" + as_csv(","),
    "semicolons": as_csv(";"),
    "tsv": as_csv("\t"),
    "parquet": parquet({name: [row[name] for row in ROWS] for name in ROWS[0]}),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.parametrize("trickled", [False, True])
def test_every_type_gives_the_same_rows(kind: str, gzipped: bool, trickled: bool) -> None:
    raw = gzip.compress(FILES[kind]) if gzipped else FILES[kind]
    stream = Trickle(raw) if trickled else io.BytesIO(raw)
    rows = list(open_rows(stream, name="upload"))  # type: ignore[arg-type]
    assert [row.data for row in rows if isinstance(row, Row)] == ROWS
    assert len(rows) == len(ROWS)


def test_bad_lines_are_named_and_good_ones_kept() -> None:
    raw = b"\n".join(
        [
            b'{"a": 1}',
            b"",
            b"[1]",
            b'{"a": NaN}',
            b'{"a": {"b": ["x\\u0000"]}}',
            b'{"a": "\\ud83d"}',
            b"{bad",
            b'{"a": "\xff"}',
            b'{"a": "x\x00y"}',
            b'{"a": 1e400}',
            b'{"a": ' + b"[" * 70 + b"]" * 70 + b"}",
            b'{"a": ' + b"[" * 3000,
            b'{"a": "' + b"x" * 2000 + b'"}',
            b'{"a": 2}',
        ]
    )
    assert codes(raw, Limits(max_row_bytes=1990)) == [
        (1, "row"),
        (3, "not_an_object"),
        (4, "number_not_finite"),
        (5, "nul_character"),
        (6, "lone_surrogate"),
        (7, "bad_json"),
        (8, "invalid_utf8"),
        (9, "nul_character"),
        (10, "number_not_finite"),
        (11, "too_deep"),
        (12, "row_too_long"),
        (13, "row_too_long"),
        (14, "row"),
    ]


def test_the_field_at_fault_is_named() -> None:
    details = [row.detail for row in read(b'{"p": {"q": ["\\u0000"]}}\n{"r": {"s": NaN}}') if isinstance(row, RowError)]
    assert "field p.q[0] holds a NUL character, which PostgreSQL text cannot store" in details[0]
    assert "field r.s holds nan" in details[1]


def test_an_escaped_backslash_before_u0000_is_plain_text() -> None:
    assert read(b'{"a": "\\\\u0000"}') == [Row(1, {"a": "\\u0000"}, 16)]


def test_large_integers_stay_exact() -> None:
    huge = 123456789012345678901234567890
    assert read(json.dumps({"meta": {"id": huge}, "x": 2**64, "y": -(2**63) - 1}).encode())[0].data == {  # type: ignore[union-attr]
        "meta": {"id": huge},
        "x": 2**64,
        "y": -(2**63) - 1,
    }


class Pieces:
    """A stream made while it is read, so that a test can be larger than its memory."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self.pieces = pieces
        self.rest = b""

    def read(self, size: int) -> bytes:
        self.rest = self.rest or next(self.pieces, b"")
        part, self.rest = self.rest[:size], self.rest[size:]
        return part


def test_a_huge_line_is_skipped_in_bounded_memory() -> None:
    filling = b"x" * 1_000_000
    pieces = chain([b'{"a": 0}\n{"b": "'], repeat(filling, 200), [b'"}\n{"a": 1}\n'])
    tracemalloc.start()
    rows = list(open_rows(Pieces(pieces), name="huge.jsonl", limits=Limits()))  # type: ignore[arg-type]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [(row.line, getattr(row, "code", "row")) for row in rows] == [(1, "row"), (2, "row_too_long"), (3, "row")]
    assert "190.7 MiB" in rows[1].detail  # type: ignore[union-attr]
    assert peak < 64 * 1024 * 1024


def test_arrays_keep_good_elements_around_bad_ones() -> None:
    assert codes(b'[{"a": "]}\\"["}, 3, {"b": }, {"c": [1, {"d": 2}]}]') == [
        (1, "row"),
        (2, "not_an_object"),
        (3, "bad_json"),
        (4, "row"),
    ]
    assert codes(b"[]") == []
    assert codes(b'[{"a": 1}') == [(1, "array_not_closed")]
    assert codes(b'[{"a": 1}, {"b": "open]') == [(1, "row"), (2, "array_not_closed")]
    assert codes(b'[{"a": 1}] {"b": 2}') == [(1, "row"), (2, "text_after_array")]
    assert codes(b'[{"a": "' + b"x" * 5000 + b'"}, {"b": 1}]') == [(1, "row_too_long"), (2, "row")]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.dictionaries(st.text(max_size=3), st.recursive(st.text(max_size=5) | st.integers(), st.lists), max_size=3)
    ),
    st.integers(1, 9),
)
def test_arrays_read_the_same_in_any_pieces(rows: list[dict[str, object]], size: int) -> None:
    from workers.data.json_rows import split_array

    raw = json.dumps(rows, ensure_ascii=False).encode("utf-8", "surrogatepass")
    pieces = [raw[place : place + size] for place in range(0, len(raw), size)]
    assert [json.loads(part.decode("utf-8", "surrogatepass")) for part in split_array(iter(pieces), 10**6)] == rows


def test_csv_rows_that_do_not_fit_the_header() -> None:
    raw = b'a,b\n"x ""y""\nz",2\n1,2,3\n"open,3\n4,5\n"stray"q,1\n"\x00",1\n\xff,1\n"quoted",6\n'
    assert codes(raw) == [
        (2, "row"),
        (4, "column_count"),
        (5, "bad_quotes"),
        (6, "row"),
        (7, "bad_quotes"),
        (8, "nul_character"),
        (9, "invalid_utf8"),
        (10, "row"),
    ]
    assert read(raw)[0].data == {"a": 'x "y"\nz', "b": "2"}  # type: ignore[union-attr]


def test_an_index_column_without_a_name_gets_one() -> None:
    assert read(b",prompt\n0,hi\n")[0].data == {"column_1": "0", "prompt": "hi"}  # type: ignore[union-attr]


def test_quotes_in_tsv_wrap_whole_fields_or_are_text() -> None:
    rows = read(b'a\tb\n"x" y\t"q""r"\n"m\nn"\t3\n"abc\t4\n')
    assert [row.data for row in rows if isinstance(row, Row)] == [
        {"a": '"x" y', "b": 'q"r'},
        {"a": "m\nn", "b": "3"},
        {"a": '"abc', "b": "4"},
    ]


def test_parquet_values_become_json_values() -> None:
    from datetime import UTC, datetime
    from decimal import Decimal

    raw = parquet({"when": [datetime(2026, 1, 2, tzinfo=UTC)], "cost": [Decimal("1.50")], "list": [[1, 2]]})
    assert read(raw)[0].data == {"when": "2026-01-02T00:00:00+00:00", "cost": "1.50", "list": [1, 2]}  # type: ignore[union-attr]
    assert codes(parquet({"a": [1.0, float("nan")]})) == [(1, "row"), (2, "number_not_finite")]
    assert codes(parquet({"a": [b"\x00"]})) == [(1, "binary_value")]


def test_a_cut_gzip_keeps_its_whole_rows() -> None:
    raw = gzip.compress(b"".join(json.dumps({"a": hash(str(n))}).encode() + b"\n" for n in range(20000)))
    found = codes(raw[: len(raw) // 2])
    assert len(found) > 5000
    assert {code for _, code in found[:-1]} == {"row"}
    assert found[-1][1] == "truncated_gzip"
    flipped = bytearray(raw)
    flipped[len(raw) // 2] ^= 255
    assert codes(bytes(flipped))[-1][1] in {"corrupt_gzip", "bad_json", "row_too_long", "truncated_gzip"}


def test_gzip_members_and_padding() -> None:
    assert codes(gzip.compress(b'{"a": 1}\n') + gzip.compress(b'{"a": 2}\n') + b"\0" * 9) == [(1, "row"), (2, "row")]


@pytest.mark.parametrize(
    ("raw", "code", "words"),
    [
        (b"", "empty_file", "upload is empty"),
        (b" \n\n", "empty_file", "upload is empty"),
        (gzip.compress(b"", mtime=0), "empty_file", "upload is empty"),
        (gzip.compress(b'{"a": 1}')[:10], "truncated_gzip", "Upload it again"),
        (parquet({"a": []}), "empty_file", "no rows"),
        (b"PAR1 but not really", "bad_parquet", "Write it again"),
        (b"PK\x03\x04rest", "unknown_type", "zip or Excel file"),
        (b"\x89PNG\r\n", "unknown_type", "an image"),
        ("prompt,chosen".encode("utf-16"), "unknown_type", "UTF-8"),
        (bytes(range(1, 32)) * 9, "unknown_type", "JSON Lines"),
        (b'{\n "a": 1\n}', "not_jsonl", "one object a line"),
        (b"a,b,a\n1,2,3\n", "repeated_column", "a"),
    ],
    ids=range(12),
)
def test_files_that_cannot_be_read(raw: bytes, code: str, words: str) -> None:
    with pytest.raises(FileError) as raised:
        read(raw)
    assert raised.value.code == code
    assert words in raised.value.detail


def test_a_gzip_bomb_is_stopped() -> None:
    limits = Limits(ratio_floor_bytes=10**6)
    for filling in (b"0" * 30_000_000, b"\n" * 30_000_000, b'{"a": 1}\n' * 3_000_000):
        with pytest.raises(FileError) as raised:
            for _ in open_rows(io.BytesIO(gzip.compress(filling)), name="bomb.gz", limits=limits):
                pass
        assert raised.value.code == "gzip_bomb"
    with pytest.raises(FileError, match="larger than this site accepts, which is 1000 bytes"):
        read(gzip.compress(JSONL * 50), Limits(max_bytes=1000))
    with pytest.raises(FileError, match=r"larger than this site accepts, which is 1\.5 KiB"):
        read(JSONL * 50, Limits(max_bytes=1536))


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"a,b\n1,2\n", "CSV with commas"),
        (b"a;b\n1;2\n", "CSV with semicolons"),
        (b"a\tb\n1\t2\n", "TSV (columns parted by tabs)"),
        (b'{"a": 1}\n', "JSON Lines"),
        (b'[{"a": 1}]', "a JSON array"),
        (gzip.compress(b"a,b\n1,2\n", mtime=0), "gzipped CSV with commas"),
        (parquet({"a": ["x"]}), "Parquet"),
    ],
)
def test_a_reader_says_what_it_took_the_file_for(raw: bytes, words: str) -> None:
    rows = open_rows(io.BytesIO(raw), name="upload")
    assert isinstance(next(rows), Row)
    assert rows.read_as == words


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.text(alphabet='ab,"\n\t[]{}:1\\ \0', max_size=60).map(str.encode))
def test_no_bytes_make_a_reader_fail_otherwise(raw: bytes) -> None:
    with suppress(FileError):
        assert all(isinstance(row, (Row, RowError)) for row in read(raw))


@pytest.mark.parametrize(
    ("name", "n_rows"),
    [
        ("mlqe-pe/en-zh.dev.tsv.gz", 1000),
        ("mlqe-pe/ru-en.test.tsv.gz", 1000),
        ("wmt-mqm/mqm_ted_ende.tsv.gz", 8435),
        ("wmt-mqm/sxs_mqm_generalMT2023_ende.3ratings.part.tsv.gz", 5246),
        ("xstest/completions.llama2new.part.csv.gz", 302),
        ("llmfao/crowd-comparisons.part.csv.gz", 6239),
        ("llmfao/models.jsonl", 70),
    ],
)
def test_real_files_lose_no_row(name: str, n_rows: int) -> None:
    with shared_data(name).open("rb") as stream:
        rows = list(open_rows(stream, name=name))
    assert len(rows) == n_rows
    assert all(isinstance(row, Row) for row in rows)
