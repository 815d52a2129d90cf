"""Parsed examples as COPY lines, in batches of bounded size. Pure; runs in a thread beside the database writes."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from workers.data.examples import ParsedExample, ParsedPreference, ParsedResponse, content_hash
from workers.data.rows import RowError

MAX_BATCH_ROWS = 4000
MAX_BATCH_BYTES = 8 * 1024 * 1024
MAX_BATCH_S = 1.0  # a slow file still shows progress and still hears of a cancel
MAX_RESPONSES = 1000
MODEL_NAME_LENGTH = 200
SPECIAL = {ord("\\"): "\\\\", ord("\t"): "\\t", ord("\n"): "\\n", ord("\r"): "\\r"}


@dataclass(slots=True)
class EncodedExample:
    """One example as COPY text, but for the identifiers that are known only when it is written."""

    content_hash: bytes
    columns: bytes
    responses: list[bytes]
    preferences: list[tuple[int, int, bytes]]
    size: int


@dataclass(slots=True)
class Batch:
    """What one transaction writes: encoded examples, rows refused, and how far into the file that is."""

    n_rows: int = 0
    n_bytes: int = 0
    size: int = 0
    examples: list[EncodedExample] = field(default_factory=list)
    problems: list[RowError] = field(default_factory=list)
    metadata_keys: set[str] = field(default_factory=set)


def import_batches(
    items: Iterable[ParsedExample | RowError], *, n_bytes_read: Callable[[], int], skip: int = 0
) -> Iterator[Batch]:
    """Group what a file gives. `skip` items were committed by an earlier attempt and are passed over."""
    batch, started = Batch(), time.monotonic()
    for number, item in enumerate(items):
        if number < skip:
            continue
        batch_add(batch, item)
        if is_full(batch) or time.monotonic() - started > MAX_BATCH_S:
            batch.n_bytes = n_bytes_read()
            yield batch
            batch, started = Batch(), time.monotonic()
    batch.n_bytes = n_bytes_read()
    yield batch


def is_full(batch: Batch) -> bool:
    return batch.n_rows >= MAX_BATCH_ROWS or batch.size >= MAX_BATCH_BYTES


def batch_add(batch: Batch, item: ParsedExample | RowError) -> None:
    batch.n_rows += 1
    if isinstance(item, RowError):
        batch.problems.append(item)
    elif len(item.responses) > MAX_RESPONSES:
        detail = f"this row has {len(item.responses)} responses; up to {MAX_RESPONSES} are kept with one prompt"
        batch.problems.append(RowError(item.line, "too_many_responses", detail))
    else:
        encoded = encode_example(item)
        batch.examples.append(encoded)
        batch.metadata_keys.update(item.meta)
        batch.size += encoded.size


def encode_example(example: ParsedExample) -> EncodedExample:
    if example.source_id:
        example.meta["source_id"] = example.source_id
    prompt = orjson.dumps(example.prompt)
    digest = content_hash(example)
    prompt_digest = hashlib.blake2b(prompt, digest_size=16).hexdigest()
    columns = b"%d\t%s\t%s\t\\\\x%s\t\\\\x%s\n" % (
        example.line,
        prompt.replace(b"\\", b"\\\\"),
        copy_json(example.meta),
        digest.hex().encode(),
        prompt_digest.encode(),
    )
    responses = [encode_response(number, response) for number, response in enumerate(example.responses)]
    preferences = [encode_preference(preference) for preference in example.preferences]
    return EncodedExample(digest, columns, responses, preferences, len(columns) + sum(map(len, responses)))


def encode_response(number: int, response: ParsedResponse) -> bytes:
    if len(response.source_model) > MODEL_NAME_LENGTH:
        response.meta["source_model"] = response.source_model  # the whole of it; the column holds its start
    return b"%d\t%s\t%s\t%s\n" % (
        number,
        orjson.dumps(response.messages).replace(b"\\", b"\\\\"),
        copy_text(response.source_model[:MODEL_NAME_LENGTH]),
        copy_json(response.meta) if response.meta else b"{}",
    )


def encode_preference(preference: ParsedPreference) -> tuple[int, int, bytes]:
    strength = preference.preference_strength
    line = b"%s\t%s\n" % (preference.verdict.encode(), b"\\N" if strength is None else b"%d" % strength)
    return preference.a_index, preference.b_index, line


def copy_json(value: Any) -> bytes:
    try:
        encoded = orjson.dumps(value)
    except orjson.JSONEncodeError:  # an integer beyond 64 bits, which jsonb holds exactly
        encoded = json.dumps(value, ensure_ascii=False).encode()
    return encoded.replace(b"\\", b"\\\\")


def copy_text(text: str) -> bytes:
    return text.translate(SPECIAL).encode()
