"""The real files that formats were written for, unchanged: every line is an example or an error with its reason."""

from __future__ import annotations

import gzip
import json
from collections import Counter

import pytest

from tests.shared import shared_data
from workers.data.examples import ParsedExample
from workers.data.importing import open_examples
from workers.data.rows import RowError

REAL = [
    # file, format, examples, responses, preferences, refused
    ("hh-rlhf/harmless-base.test.part.jsonl.gz", "hh", 1414, 2828, 1414, {}),
    ("hh-rlhf/helpful-base.single-turn.part.jsonl.gz", "pairs", 236, 472, 236, {}),
    ("ultrafeedback-sample/pairs.part.jsonl.gz", "pairs", 745, 1490, 745, {"identical_responses": 3}),
    ("rm-bench/chat.part.jsonl.gz", "pairs", 87, 522, 783, {}),
    ("rm-bench/code.part.jsonl.gz", "pairs", 163, 978, 1467, {}),
    ("rm-bench/safety-refuse.part.jsonl.gz", "pairs", 195, 1170, 1755, {}),
    ("rm-bench/safety-response.part.jsonl.gz", "pairs", 105, 630, 945, {}),
    ("judgebench/pairs.gpt-4o-2024-05-13.part.jsonl.gz", "judged_pairs", 217, 434, 217, {}),
    (
        "judgebench/pairs.claude-3-5-sonnet-20240620.part.jsonl.gz",
        "judged_pairs",
        175,
        350,
        175,
        {"identical_responses": 1},
    ),
    ("toolrm/hh_rlhf.scored.jsonl.gz", "pairs", 500, 1000, 500, {}),
    ("toolrm/webgpt.scored.part.jsonl.gz", "pairs", 77, 154, 77, {"empty_response": 10}),
    ("tulu-human-eval/eval_annotations_tulu_1.part.jsonl.gz", "judged_pairs", 734, 1468, 734, {}),
    ("llmfao/pairs-crowd.part.jsonl.gz", "judged_pairs", 1453, 2906, 0, {"empty_response": 46}),
    ("llmbar/Adversarial-GPTInst.dataset.jsonl.gz", "judged_pairs", 92, 184, 92, {}),
]


@pytest.mark.parametrize("expected", REAL, ids=lambda expected: expected[0])
def test_real_files(expected: tuple[str, str, int, int, int, dict[str, int]]) -> None:
    name, format_name, n_examples, n_responses, n_preferences, refused = expected
    with shared_data(name).open("rb") as stream:
        opened = open_examples(stream, name=name)
        items = list(opened.examples)
    examples = [item for item in items if isinstance(item, ParsedExample)]
    assert opened.detection.format == format_name
    assert len(examples) == n_examples
    assert sum(len(example.responses) for example in examples) == n_responses
    assert sum(len(example.preferences) for example in examples) == n_preferences
    assert Counter(item.code for item in items if isinstance(item, RowError)) == refused
    manifest = json.loads(shared_data("MANIFEST.json").read_text())
    entry = next(entry for entry in manifest["files"] if name == f"{entry['dataset']}/{entry['file']}")
    assert len(items) == entry["rows"]


def test_texts_of_the_real_transcripts_are_kept_byte_for_byte() -> None:
    path = shared_data("hh-rlhf/harmless-base.test.part.jsonl.gz")
    sources = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    with path.open("rb") as stream:
        examples = [item for item in open_examples(stream, name="hh").examples if isinstance(item, ParsedExample)]
    for source, example in zip(sources, examples, strict=True):
        for name, response in zip(("chosen", "rejected"), example.responses, strict=True):
            rebuilt = "".join(
                f"\n\n{'Human' if turn['role'] == 'user' else 'Assistant'}:"
                + (turn["content"] if turn["content"] == " " else " " + turn["content"])
                for turn in [*example.prompt, *response.messages]
            )
            assert rebuilt == source[name]
