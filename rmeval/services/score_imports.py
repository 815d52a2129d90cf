"""Scores that were computed elsewhere, from a file into the checkpoint of a `score_file` reward model."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, BinaryIO
from uuid import UUID

from django.db import connection

from annotator.access import refuse_archived
from annotator.errors import DomainError, InvalidInput
from annotator.live import poke
from annotator.models import Dataset, Response
from rmeval.models import Checkpoint, Score
from rmeval.services.scores import scores_store
from workers.data.readers import open_rows
from workers.data.rows import FileError, Limits, Row, RowError
from workers.families import FAMILIES

BATCH = 2000
ERRORS_KEPT = 1000
SHA256 = re.compile(r"[0-9a-f]{64}")
SCORE_NAMES = ("score", "reward")
COLUMNS = frozenset({"response", "example", "number", "response_sha256", "prompt_sha256", *SCORE_NAMES})
BESIDE = frozenset({"dataset", "source_model", "extra", "parts", "prompt", "messages"})
"""What an export of scores writes beside the score and the response's uid: taken along, not read."""
NAMING = "name the response by `response`, by `example` and `number`, or by `response_sha256`"


@dataclass
class ScoreImport:
    """What came of a file. Good rows are kept whatever the others are."""

    n_rows: int = 0
    n_scored: int = 0
    n_known: int = 0
    """Responses that had this very score already."""
    n_errors: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)
    """The first of the rows refused: line, code and detail."""

    def refuse(self, line: int, code: str, detail: str) -> None:
        self.n_errors += 1
        if len(self.errors) < ERRORS_KEPT:
            self.errors.append({"line": line, "code": code, "detail": detail})


@dataclass(frozen=True, slots=True)
class Entry:
    """One good row: a score, and the key of what it is for."""

    line: int
    score: float
    key: tuple[Any, ...]
    """("uid", uid), ("place", example uid, number) or ("text", hash of the response, hash of the prompt or "")."""


def scores_import(
    *, checkpoint: Checkpoint, stream: BinaryIO, name: str, limits: Limits, dataset: Dataset | None = None
) -> ScoreImport:
    """Store the scores of a file, batch by batch; a file that is sent again goes on after what is there.

    InvalidInput when the file cannot be read or no row of it is good; a score that is there is never changed.
    """
    refuse_archived(checkpoint.reward_model.project.archived_at)
    require_score_file(checkpoint)
    told = ScoreImport()
    try:
        rows = open_rows(stream, name=name or "The file", limits=limits)
        entries = parsed(rows, told)
        with Lookup(checkpoint, dataset).open() as lookup:
            while batch := list(islice(entries, BATCH)):
                store_batch(checkpoint, batch, lookup.found(batch), told)
    except FileError as error:
        raise InvalidInput(error.detail, code=error.code, rows=told.errors, **counts(told)) from error
    if told.n_rows and not told.n_scored and not told.n_known:
        detail = f"No row could be used. The first: line {told.errors[0]['line']}: {told.errors[0]['detail']}"
        raise InvalidInput(detail, code="no_good_row", rows=told.errors[:100], **counts(told))
    poke(f"project.{checkpoint.reward_model.project.uid}", "scores")
    return told


def counts(told: ScoreImport) -> dict[str, Any]:
    return {"n_rows": told.n_rows, "n_scored": told.n_scored, "n_known": told.n_known, "n_errors": told.n_errors}


def require_score_file(checkpoint: Checkpoint) -> None:
    family = checkpoint.reward_model.family
    if family not in FAMILIES or "imported" not in FAMILIES.get(family).capabilities:
        raise DomainError(
            f"{checkpoint} computes its scores itself (family {family}). "
            "Register a reward model of the family score_file and import into its checkpoint.",
            code="scores_are_computed",
        )


def parsed(rows: Iterable[Row | RowError], told: ScoreImport) -> Iterator[Entry]:
    """Rows that say what they score and how much; the others are refused by line."""
    for row in rows:
        told.n_rows += 1
        if isinstance(row, RowError):
            told.refuse(row.line, row.code, row.detail)
            continue
        try:
            yield Entry(row.line, score_in(row.data), key_in(row.data))
        except ValueError as error:
            told.refuse(row.line, "bad_row", str(error))


def score_in(data: Mapping[str, Any]) -> float:
    given = [data[name] for name in SCORE_NAMES if data.get(name) not in (None, "")]
    if len(given) != 1:
        raise ValueError("give one number as `score`" if not given else "give `score` or `reward`, not both")
    try:
        value = math.nan if isinstance(given[0], bool) else float(given[0])
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"the score {str(given[0])[:40]!r} is not a finite number")
    return value


def key_in(data: Mapping[str, Any]) -> tuple[Any, ...]:
    unknown = sorted(set(data) - COLUMNS - BESIDE)
    if unknown:
        raise ValueError(f"there is no column {unknown[0][:40]!r}; known: {', '.join(sorted(COLUMNS))}")
    if data.get("extra"):
        raise ValueError("this is the reward of one person (`extra`); a score file holds rewards that are everybody's")
    naming = [column for column in data if column not in BESIDE and column not in SCORE_NAMES]
    named = {column: data[column] for column in naming if data[column] not in (None, "")}
    match sorted(named):
        case ["response"] | ["example", "number", "response"]:
            return ("uid", uid_in(named["response"], "response"))
        case ["example", "number"]:
            return ("place", uid_in(named["example"], "example"), number_in(named["number"]))
        case ["response_sha256"] | ["prompt_sha256", "response_sha256"]:
            return ("text", *(hash_in(named.get(column, "")) for column in ("response_sha256", "prompt_sha256")))
    raise ValueError(f"{NAMING}; this row has {' and '.join(sorted(named)) or 'none of them'}")


def uid_in(value: Any, column: str) -> UUID:
    try:
        return UUID(str(value))
    except ValueError:
        raise ValueError(f"`{column}` is no uid: {str(value)[:40]!r}") from None


def number_in(value: Any) -> int:
    text = str(value)
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,5}", text):
        raise ValueError(f"`number` is the response's number in its example, from 0; not {text[:40]!r}")
    return int(text)


def hash_in(value: Any) -> str:
    text = str(value).lower()
    if text and not SHA256.fullmatch(text):
        raise ValueError(f"a SHA-256 has 64 hexadecimal digits; not {text[:80]!r}")
    return text


class Lookup:
    """Finds responses of one project, or of one dataset, by what rows call them."""

    def __init__(self, checkpoint: Checkpoint, dataset: Dataset | None) -> None:
        datasets = Dataset.objects.filter(project_id=checkpoint.reward_model.project_id, deleted_at=None)
        self.datasets = datasets.filter(pk=dataset.pk) if dataset else datasets
        self.responses = Response.objects.filter(example__dataset__in=self.datasets)
        self.has_texts = False

    @contextmanager
    def open(self) -> Iterator[Lookup]:
        try:
            yield self
        finally:
            if self.has_texts and not connection.needs_rollback:
                with connection.cursor() as cursor:
                    cursor.execute("DROP TABLE IF EXISTS score_text")

    def found(self, batch: Iterable[Entry]) -> dict[tuple[Any, ...], list[int]]:
        """Ids by key; of a text, all that are the same prompt and response. A text under several prompts: one each."""
        keys = {entry.key for entry in batch}
        found: dict[tuple[Any, ...], list[int]] = {}
        uids = [key[1] for key in keys if key[0] == "uid"]
        if uids:
            rows: Any = self.responses.filter(uid__in=uids).values_list("uid", "pk")
            found |= {("uid", uid): [pk] for uid, pk in rows}
        places = {key[1] for key in keys if key[0] == "place"}
        if places:
            rows = self.responses.filter(example__uid__in=places).values_list("example__uid", "number", "pk")
            found |= {("place", uid, number): [pk] for uid, number, pk in rows}
        texts = [key for key in keys if key[0] == "text"]
        return {**found, **self._by_text(texts)} if texts else found

    def _by_text(self, keys: list[tuple[Any, ...]]) -> dict[tuple[Any, ...], list[int]]:
        if not self.has_texts:
            self._hash_texts()
        by_text: dict[str, dict[str, list[int]]] = {}
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT response_hash, prompt_hash, response_id FROM score_text WHERE response_hash = ANY(%s)",
                [[key[1] for key in keys]],
            )
            for response, prompt, pk in cursor.fetchall():
                by_text.setdefault(response, {}).setdefault(prompt, []).append(pk)
        found = {}
        for key in keys:
            prompts = by_text.get(key[1], {})
            if key[2]:
                found[key] = prompts.get(key[2], [])
            elif len(prompts) > 1:
                found[key] = [-len(prompts)]  # a negative number is no id: the text alone does not say which
            else:
                found[key] = next(iter(prompts.values()), [])
        return found

    def _hash_texts(self) -> None:
        """One pass over the texts of the datasets, for this import only."""
        text = (
            "encode(sha256(convert_to((SELECT coalesce(string_agg(m->>'content', E'\\n\\n' ORDER BY n), '') "
            "FROM jsonb_array_elements({column}) WITH ORDINALITY AS t(m, n)), 'UTF8')), 'hex')"
        )
        response, prompt = text.format(column="r.messages"), text.format(column="e.prompt")
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE IF EXISTS score_text")
            cursor.execute(
                f"CREATE TEMP TABLE score_text AS SELECT r.id AS response_id, {response} AS response_hash, "  # noqa: S608 - fixed columns
                f"{prompt} AS prompt_hash FROM annotator_response r JOIN annotator_example e ON e.id = r.example_id "
                "WHERE e.dataset_id = ANY(%s)",
                [list(self.datasets.values_list("pk", flat=True))],
            )
            cursor.execute("CREATE INDEX ON score_text (response_hash)")
        self.has_texts = True


def store_batch(
    checkpoint: Checkpoint, batch: list[Entry], found: Mapping[tuple[Any, ...], list[int]], told: ScoreImport
) -> None:
    """Keep what is new; refuse what nothing is known of, and a second score for a response that has another."""
    ids = {pk for entry in batch for pk in found.get(entry.key, ())}
    stored = Score.objects.filter(checkpoint=checkpoint, extra="", response_id__in=ids)
    known: dict[int, float] = dict(stored.values_list("response_id", "value"))
    fresh: dict[int, float] = {}
    for entry in batch:
        places = found.get(entry.key, [])
        if not places:
            told.refuse(entry.line, "unknown_response", "there is no such response in this project's datasets")
        elif places[0] < 0:
            detail = f"{-places[0]} prompts have a response of this text; give `prompt_sha256` too"
            told.refuse(entry.line, "ambiguous_response", detail)
        for pk in places:
            before = known.get(pk, fresh.get(pk))
            if pk < 0:
                continue
            if before is None:
                fresh[pk] = entry.score
            elif before == entry.score:
                told.n_known += 1
            else:
                detail = (
                    f"this response has the score {before!r} already, which is never changed; "
                    "register another reward model for other scores"
                )
                told.refuse(entry.line, "other_score", detail)
    told.n_scored += scores_store(checkpoint=checkpoint, rows=fresh.items())
