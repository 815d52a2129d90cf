"""Scores as a file: what the import of scores reads, and more about each row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from django.utils.text import slugify

from annotator.errors import DomainError, FieldError, InvalidInput
from annotator.models import Dataset
from annotator.services.exports import CONTENT_TYPES, ExportFile, FileType
from rmeval.models import Checkpoint
from rmeval.selectors.given_scores import has_scores, score_rows
from workers.data.writing import jsonl_chunks, parquet_chunks

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = {
    "response": "uid of the response",
    "example": "uid of its example",
    "dataset": "uid of its dataset",
    "number": "which of the example's responses, from 0",
    "source_model": "who wrote it, where known",
    "score": "the reward",
    "extra": "empty, or the key of the person whose reward it is",
    "parts": "what the family tells besides, a JSON text (attributes, spread, steps); empty for none",
    "prompt": "with texts: the turns before the response",
    "messages": "with texts: the turns of the response",
}


def scores_export(
    *, checkpoint: Checkpoint, dataset: Dataset | None = None, extra: str = "", file: str = "jsonl", texts: bool = False
) -> ExportFile:
    """Every score that a checkpoint gave under one key, in one dataset or in the whole project.

    Raises InvalidInput for an unknown type of file, DomainError where nothing has been scored.
    """
    if file not in CONTENT_TYPES:
        detail = f"A file is one of: {', '.join(CONTENT_TYPES)}."
        raise InvalidInput(detail, errors=[FieldError("/file", "unknown", detail)])
    if not has_scores(checkpoint=checkpoint, dataset=dataset, extra=extra):
        place = f"in {dataset.name}" if dataset else "in this project"
        under = f" under the key {extra[:80]}" if extra else ""
        raise DomainError(
            f"{checkpoint} has scored nothing {place}{under}. Start a run of kind score, or evaluate it there first.",
            code="no_scores",
        )
    name = "-".join(filter(None, ["scores", slugify(str(checkpoint)), slugify(dataset.name) if dataset else ""]))

    def chunks() -> Iterator[bytes]:
        rows = score_rows(checkpoint=checkpoint, dataset=dataset, extra=extra, with_texts=texts)
        return jsonl_chunks(rows) if file == "jsonl" else parquet_chunks(rows, schema(with_texts=texts))

    return ExportFile(f"{name}.{file}", CONTENT_TYPES[cast(FileType, file)], chunks, checkpoint.sha256)


def schema(*, with_texts: bool) -> pa.Schema:
    import pyarrow as pa

    turn = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    special = {"number": pa.int64(), "score": pa.float64(), "prompt": turn, "messages": turn}
    names = [name for name in COLUMNS if with_texts or name not in ("prompt", "messages")]
    return pa.schema([(name, special.get(name, pa.string())) for name in names])
