"""The hand-written part: everyday prompts with responses of known quality, one JSONL file a topic in `texts/`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

from workers.data.demo.rows import Row, shuffled, split_of

FOLDER = Path(__file__).parent / "texts"


def everyday_examples(seed: int = 0) -> Iterator[Row]:
    """Every hand-written example; the seed decides only the order of the responses."""
    for path in sorted(FOLDER.glob("*.jsonl")):
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                yield _row(json.loads(line), seed)


def _row(data: Row, seed: int) -> Row:
    rng = Random(f"{seed}/{data['id']}")
    prompt = data["prompt"]
    return {
        "id": data["id"],
        "prompt": prompt,
        "responses": shuffled(data["responses"], rng=rng),
        "kind": "everyday",
        "topic": data["topic"],
        "language": data["language"],
        "n_turns": 1 if isinstance(prompt, str) else len(prompt),
        "split": split_of(prompt),
    }
