"""Single responses with what their metadata says of them: ratings by attribute, steps with labels, a reference."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rmeval.sources import CHUNK, PairSource, reference_of
from workers.data.schema import LabelledResponse

COLUMNS = ("pk", "example_id", "example__prompt", "messages", "meta", "example__meta", "example__prompt_hash")


def stream_labelled(source: PairSource) -> Iterator[LabelledResponse]:
    """Every response of a source, in stored order; what it was not labelled with is absent."""
    rows = source.responses().order_by("example_id", "number").values_list(*COLUMNS)
    for pk, example, prompt, messages, meta, example_meta, prompt_hash in rows.iterator(chunk_size=CHUNK):
        steps, labels = steps_of(meta)
        yield LabelledResponse(
            prompt=prompt,
            response=messages,
            ratings=ratings_of(meta),
            steps=steps,
            step_labels=labels,
            reference=reference_of(example_meta),
            response_id=pk,
            example_id=example,
            prompt_key=bytes(prompt_hash).hex(),
            source=str(source.uid),
            meta={**example_meta, **meta},
        )


def labelled_sha256(source: PairSource) -> str:
    """Identity of labelled responses: texts, ratings, steps with their labels, and references, in stored order."""
    digest = hashlib.sha256()
    columns = ("example__content_hash", "messages", "meta", "example__meta")
    rows = source.responses().order_by("example_id", "number").values_list(*columns)
    for content, messages, meta, example_meta in rows.iterator(chunk_size=CHUNK):
        told = [messages, ratings_of(meta), *steps_of(meta), reference_of(example_meta)]
        digest.update(bytes(content))
        digest.update(json.dumps(told, sort_keys=True).encode())
    return digest.hexdigest()


def ratings_of(meta: Mapping[str, Any]) -> dict[str, float]:
    """Numbers of a response's metadata by name; true and false are 1 and 0."""
    return {name: number(value) for name, value in meta.items() if isinstance(value, int | float)}


def steps_of(meta: Mapping[str, Any]) -> tuple[Sequence[str], Sequence[float | None]]:
    """Steps and their labels as the metadata has them: who learns from them says where the two do not align."""
    steps, labels = meta.get("steps"), meta.get("step_labels")
    if not isinstance(steps, list) or not all(isinstance(step, str) for step in steps):
        return (), ()
    if not isinstance(labels, list):
        return steps, [None] * len(steps)
    return steps, [number(label) if isinstance(label, int | float) else None for label in labels]


def number(value: float) -> float:
    """JSON has whole numbers of any size: one beyond every float is infinite, which no objective takes for a label."""
    try:
        return float(value)
    except OverflowError:
        return math.copysign(math.inf, 1 if value > 0 else -1)
