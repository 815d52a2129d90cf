"""Rows from CSV and TSV: header first, every value a text, quotes as RFC 4180 has them."""

from __future__ import annotations

import csv
import io
from collections import Counter, deque
from collections.abc import Iterator

from workers.data.json_rows import too_long
from workers.data.rows import FileError, Limits, Row, RowError
from workers.data.source import TooLong, bounded_lines
from workers.data.values import NOT_UTF8, NUL

Line = tuple[int, bytes]
MAX_COLUMNS = 5000


READ_AS = {"\t": "TSV (columns parted by tabs)", ",": "CSV with commas", ";": "CSV with semicolons"}


class DelimitedRows:
    """Rows of a delimited file. The delimiter is read off the header line: tab, comma or semicolon."""

    delimiter = ","

    def __init__(self, reader: io.BufferedReader, limits: Limits) -> None:
        self.limits = limits
        self.source = bounded_lines(reader, limits)
        self.queue: deque[Line] = deque()  # lines handed back after a record that could not be read
        # The csv module has one limit for the whole process, 128 KiB at first; ours is checked per record below.
        csv.field_size_limit(max(csv.field_size_limit(), limits.max_row_bytes))

    def read_as(self) -> str:
        """What the file was taken for; known once the first row has been asked for."""
        return READ_AS[self.delimiter]

    def __iter__(self) -> Iterator[Row | RowError]:
        header = self._header()
        while (entry := self._next_line()) is not None:
            number, raw = entry
            if isinstance(raw, TooLong):
                yield too_long(number, raw.n_bytes, self.limits)
            elif raw.strip(b"\r\n"):
                yield self._record(number, raw, header)

    def _next_line(self) -> Line | None:
        return self.queue.popleft() if self.queue else next(self.source, None)

    def _header(self) -> list[str]:
        entry = self._next_line()
        text = entry[1].decode("utf-8", "replace") if entry else ""
        self.delimiter = max("\t,;", key=text.count) if entry else ","
        fields = self._quoted(*entry) if entry else []
        if isinstance(fields, RowError) or not any(fields):
            raise FileError("no_header", "The first line must name the columns, such as: prompt,chosen,rejected")
        if len(fields) > MAX_COLUMNS:
            raise FileError(
                "too_many_columns", f"The header names {len(fields)} columns; up to {MAX_COLUMNS} are read."
            )
        names = [name.strip() or f"column_{index}" for index, name in enumerate(fields, start=1)]
        repeated = sorted(name for name, times in Counter(names).items() if times > 1)
        if repeated:
            raise FileError("repeated_column", f"The header names a column twice: {', '.join(repeated[:10])}")
        return names

    def _record(self, number: int, raw: bytes, header: list[str]) -> Row | RowError:
        fields = self._unquoted(raw, len(header)) or self._quoted(number, raw)
        if isinstance(fields, RowError):
            return fields
        if len(fields) != len(header):
            return RowError(
                number,
                "column_count",
                f"this row has {len(fields)} columns, the header has {len(header)}; quote texts with the delimiter",
            )
        for name, value in zip(header, fields, strict=True):
            if "\0" in value:
                return RowError(
                    number,
                    "nul_character",
                    f"field {name} {NUL}",
                )
        return Row(number, dict(zip(header, fields, strict=True)), len(raw))

    def _unquoted(self, raw: bytes, n_columns: int) -> list[str] | None:
        """Split a line that needs no quote rules. In TSV, quotes that do not wrap a whole field are plain text."""
        try:
            text = raw.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            return None
        fields = text.split(self.delimiter)
        if '"' not in text:
            return fields
        if self.delimiter != "\t" or len(fields) != n_columns or _opens_quote(fields[-1]):
            return None
        return [_unwrapped(field) for field in fields]

    def _quoted(self, number: int, raw: bytes) -> list[str] | RowError:
        """Read one record by the quote rules, over as many lines as it takes; a bad one hands its other lines back."""
        taken: list[Line] = []

        def lines() -> Iterator[str]:
            size, entry = 0, (number, raw)
            while entry is not None:
                taken.append(entry)
                size += len(entry[1])
                if size > self.limits.max_row_bytes or isinstance(entry[1], TooLong):
                    raise csv.Error("a quote is opened and not closed again")
                yield entry[1].decode()
                entry = self._next_line()  # type: ignore[assignment]

        try:
            return next(csv.reader(lines(), delimiter=self.delimiter, strict=True))
        except UnicodeDecodeError as error:
            problem = RowError(number, "invalid_utf8", f"byte {error.start + 1} {NOT_UTF8}")
        except csv.Error as error:
            reason = str(error).replace("unexpected end of data", "a quote is opened and not closed again")
            problem = RowError(number, "bad_quotes", f"{reason}; write a quote inside a quoted text twice")
        self.queue.extendleft(reversed(taken[1:]))
        return problem


def _opens_quote(field: str) -> bool:
    return field.startswith('"') and (len(field) == 1 or not field.endswith('"'))


def _unwrapped(field: str) -> str:
    if len(field) < 2 or not (field.startswith('"') and field.endswith('"')):
        return field
    inner = field[1:-1]
    return field if '"' in inner.replace('""', "") else inner.replace('""', '"')
