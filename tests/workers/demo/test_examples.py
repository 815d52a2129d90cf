"""The demo rows: enough of them, all different, readable by the importer, and not decided by length."""

import re
import time
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

from workers.data import demo
from workers.data.demo import Row, demo_examples, everyday_examples, verifiable_examples
from workers.data.demo.verifiable import TASKS
from workers.data.detection import detect
from workers.data.formats import FORMATS
from workers.data.rows import Row as FileRow

ROWS = list(demo_examples())
LANGUAGES = {"en", "de", "fr", "es", "ar", "zh", "ja", "hi"}
MODELS = {"heron-7b", "ibis-70b", "sparrow-1b", "wren-base", "kestrel-13b"}


def decided(rows: list[Row]) -> list[tuple[Row, Row]]:
    """Every (better, worse) pair of responses of one row."""
    pairs = []
    for row in rows:
        for one, other in combinations(row["responses"], 2):
            if one["score"] != other["score"]:
                pairs.append((one, other) if one["score"] > other["score"] else (other, one))
    return pairs


def length_accuracy(rows: list[Row]) -> float:
    pairs = decided(rows)
    return sum(len(better["content"]) > len(worse["content"]) for better, worse in pairs) / len(pairs)


def test_there_are_a_few_thousand_pairs() -> None:
    everyday, verifiable = list(everyday_examples()), list(verifiable_examples())
    assert len(everyday) >= 120
    assert len(verifiable) == 60 * len(TASKS)
    assert 2800 <= len(decided(everyday + verifiable)) <= 4000


@pytest.mark.parametrize("kind", ["everyday", "verifiable"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_length_does_not_give_quality_away(kind: str, seed: int) -> None:
    rows = [row for row in demo_examples(seed) if row["kind"] == kind]
    assert 0.45 <= length_accuracy(rows) <= 0.6


def test_same_seed_same_rows() -> None:
    assert list(demo_examples(3)) == list(demo_examples(3))
    assert list(demo_examples(3)) != list(demo_examples(4))


def test_the_seed_moves_hand_written_responses_but_keeps_their_text() -> None:
    def texts(seed: int) -> list[set[str]]:
        return [{response["content"] for response in row["responses"]} for row in everyday_examples(seed)]

    assert texts(0) == texts(1)


def test_nothing_occurs_twice() -> None:
    assert not [text for text, n in Counter(row["id"] for row in ROWS).items() if n > 1]
    assert not [text for text, n in Counter(str(row["prompt"]) for row in ROWS).items() if n > 1]
    for row in ROWS:
        texts = [response["content"] for response in row["responses"]]
        assert len(set(texts)) == len(texts), row["id"]


@pytest.mark.parametrize("topic", sorted({row["topic"] for row in ROWS}))
def test_rows_of_a_topic_are_whole(topic: str) -> None:
    for row in (row for row in ROWS if row["topic"] == topic):
        responses = row["responses"]
        assert 2 <= len(responses) <= 4, row["id"]
        assert len({response["score"] for response in responses}) >= 2, row["id"]
        assert len({response["model"] for response in responses}) == len(responses), row["id"]
        assert row["kind"] in ("everyday", "verifiable")
        assert row["split"] in ("train", "test")
        assert row["language"] in LANGUAGES
        for response in responses:
            assert response["content"].strip(), row["id"]
            assert response["score"] in (1, 2, 3, 4, 5)
            assert response["model"] in MODELS
            assert response["tags"], row["id"]
        if isinstance(row["prompt"], list):
            roles = [message["role"] for message in row["prompt"]]
            assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"], row["id"]


def test_the_importer_reads_every_row_as_it_is() -> None:
    assert detect(ROWS[:50]).format == "responses"
    form = FORMATS.get("responses")()
    for number, row in enumerate(ROWS, start=1):
        example = form.parse(FileRow(number, dict(row), 0))
        assert len(example.responses) == len(row["responses"])
        assert len(example.preferences) == len(list(combinations(row["responses"], 2)))
        assert example.meta["kind"] == row["kind"]


def test_both_splits_hold_every_task() -> None:
    for split in ("train", "test"):
        assert {row["task"] for row in ROWS if row["split"] == split and row["kind"] == "verifiable"} == set(TASKS)
    share = sum(row["split"] == "test" for row in ROWS) / len(ROWS)
    assert 0.15 < share < 0.25


def test_all_languages_and_some_conversations_are_there() -> None:
    everyday = [row for row in ROWS if row["kind"] == "everyday"]
    assert {row["language"] for row in everyday} == LANGUAGES
    assert sum(row["n_turns"] > 1 for row in everyday) >= 8


def test_both_better_and_worse_responses_come_in_every_shape() -> None:
    tags = Counter(tag for row in ROWS if row["kind"] == "everyday" for r in row["responses"] for tag in set(r["tags"]))
    for tag in (
        "correct",
        "wrong",
        "terse",
        "padded",
        "safe",
        "unsafe",
        "formatted",
        "plain",
        "off_topic",
        "sycophantic",
    ):
        assert tags[tag] >= 10, tag


def test_no_filler_text() -> None:
    filler = re.compile(r"lorem ipsum|dolor sit|\bTODO\b|\bTBD\b|foo ?bar|\{[a-z_]+\}", re.IGNORECASE)
    for row in ROWS:
        for text in [str(row["prompt"]), *(response["content"] for response in row["responses"])]:
            assert not filler.search(text.replace("{name} ", "")), (row["id"], text)


def test_files_are_small_enough_to_read() -> None:
    folder = Path(demo.__file__).parent
    files = [*folder.glob("texts/*.jsonl"), *folder.glob("banks/*"), *folder.glob("guidelines/*.md")]
    assert len(files) > 15
    for path in files:
        assert len(path.read_text(encoding="utf-8").splitlines()) < 400, path.name


def test_making_everything_is_quick() -> None:
    started = time.process_time()
    assert sum(1 for _ in demo_examples(11)) == len(ROWS)
    assert time.process_time() - started < 1
