"""Agreement: hand-computed cases, other packages, published figures of the real data, and properties."""

from __future__ import annotations

import csv
import gzip
import json
import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import krippendorff
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.shared import shared_data
from workers.stats.agreement import LEVELS, PERCENT, agreement, krippendorff_alpha, percent_agreement
from workers.stats.counts import codes_of, rating_counts

Table = tuple[list[Any], list[Any], list[Any]]

# Krippendorff (2011), example C: four observers, twelve units; nominal 0.743, ordinal 0.815, interval 0.849.
PUBLISHED = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]


def long(matrix: list[list[Any]]) -> Table:
    cells = [
        (item, rater, value)
        for rater, row in enumerate(matrix)
        for item, value in enumerate(row)
        if value is not None and not (isinstance(value, float) and math.isnan(value))
    ]
    item, rater, value = zip(*cells, strict=True) if cells else ((), (), ())
    return list(item), list(rater), list(value)


def naive_alpha(table: Table, level: str) -> float:
    """Krippendorff's definition, pair by pair."""
    units: dict[Any, list[float]] = defaultdict(list)
    for item, _, value in zip(*table, strict=True):
        units[item].append(value)
    pairable = [values for values in units.values() if len(values) > 1]
    everything = sorted(value for values in pairable for value in values)
    n = len(everything)

    def distance(a: float, b: float) -> float:
        if level == "nominal":
            return float(a != b)
        if level == "interval":
            return (a - b) ** 2
        low, high = min(a, b), max(a, b)
        between = sum(low <= value <= high for value in everything)
        return (between - (everything.count(low) + everything.count(high)) / 2) ** 2

    observed = sum(distance(a, b) / (len(values) - 1) for values in pairable for a in values for b in values) / n
    expected = sum(distance(a, b) for a in everything for b in everything) / (n * (n - 1))
    return math.nan if expected == 0 else 1 - observed / expected


@st.composite
def tables(draw: st.DrawFn, max_value: int = 4) -> Table:
    cell = st.none() | st.integers(1, max_value)
    n_items = draw(st.integers(2, 6))
    return long(draw(st.lists(st.lists(cell, min_size=n_items, max_size=n_items), min_size=2, max_size=4)))


def defined(table: Table, level: str) -> float:
    assume(table[0])
    value = krippendorff_alpha(*table, level=level)
    assume(not math.isnan(value))
    return value


def test_the_published_example() -> None:
    table = long(PUBLISHED)
    for level, value in (("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)):
        assert krippendorff_alpha(*table, level=level) == pytest.approx(value, abs=5e-4)


def test_by_hand() -> None:
    # Two raters, three items, one disagreement: 2/3 agree. o = 2/6, e = 1 - (3*2 + 3*2) / (6*5) = 18/30.
    table = long([[1, 1, 0], [1, 0, 0]])
    assert percent_agreement(*table) == pytest.approx(2 / 3)
    assert krippendorff_alpha(*table) == pytest.approx(1 - (2 / 6) / (18 / 30))


@pytest.mark.parametrize("level", LEVELS)
@settings(max_examples=60, deadline=None)
@given(table=tables())
def test_as_the_definition_and_as_the_package(level: str, table: Table) -> None:
    value = defined(table, level)
    assert value == pytest.approx(naive_alpha(table, level), abs=1e-9)
    matrix = np.full((max(table[1]) + 1, max(table[0]) + 1), np.nan)
    matrix[table[1], table[0]] = table[2]
    assert value == pytest.approx(krippendorff.alpha(matrix, level_of_measurement=level), abs=1e-9)


@pytest.mark.parametrize("level", LEVELS)
def test_as_evalica(level: str) -> None:
    evalica = pytest.importorskip("evalica")
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(1)
    matrix = np.where(
        rng.random((6, 80)) < 0.7, np.clip(rng.normal(3, 1, 80) + rng.normal(0, 1, (6, 80)), 1, 5).round(), np.nan
    )
    table = long(matrix.tolist())
    theirs = evalica.alpha(pandas.DataFrame(matrix), distance=level).alpha
    assert krippendorff_alpha(*table, level=level) == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("level", [PERCENT, *LEVELS])
@settings(max_examples=40, deadline=None)
@given(table=tables(), shift=st.integers(-3, 3), data=st.data())
def test_names_order_and_scale_do_not_matter(level: str, table: Table, shift: int, data: st.DataObject) -> None:
    value = defined(table, level)
    order = data.draw(st.permutations(range(len(table[0]))))
    item, rater, rating = ([column[place] for place in order] for column in table)
    renamed = (
        [f"item {1000 - entry}" for entry in item],
        [f"r{entry * 7}" for entry in rater],
        [2 * v + shift for v in rating],
    )
    assert krippendorff_alpha(*renamed, level=level) == pytest.approx(value, abs=1e-9)
    if level in (PERCENT, "nominal"):
        relabel = {1: 4, 2: 1, 3: 3, 4: 2}
        assert krippendorff_alpha(item, rater, [relabel[v] for v in rating], level=level) == pytest.approx(
            value, abs=1e-9
        )
    else:
        assert krippendorff_alpha(item, rater, [-v for v in rating], level=level) == pytest.approx(value, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(table=tables())
def test_doubling_the_items(table: Table) -> None:
    """Percent agreement stays; alpha moves only by its small-sample term (n - 1) / n."""
    value = defined(table, "nominal")
    item, rater, rating = table
    doubled = item + [entry + 100 for entry in item], rater * 2, rating * 2
    assert percent_agreement(*doubled) == pytest.approx(percent_agreement(*table))
    n = rating_counts(*table).n_ratings
    assert 1 - krippendorff_alpha(*doubled) == pytest.approx((1 - value) * (2 * n - 1) / (2 * n - 2), abs=1e-9)


def test_interval_alpha_holds_far_from_zero() -> None:
    table = long(PUBLISHED)
    moved = table[0], table[1], [value * 1e-3 + 1e6 for value in table[2]]
    assert krippendorff_alpha(*moved, level="interval") == pytest.approx(
        krippendorff_alpha(*table, level="interval"), abs=1e-6
    )


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (([1, 2], [1, 1], [1, 2]), "no item has two or more ratings"),
        (([1, 1, 2], [1, 2, 1], [1, 2, 1]), "1 item has two or more ratings"),
        (([], [], []), "not enough overlap"),
        (([1, 1, 2, 2], [1, 2, 1, 2], [3, 3, 3, 3]), "every rating is the same value"),
    ],
)
def test_undefined_says_why(table: Table, words: str) -> None:
    found = agreement(*table, rng=np.random.default_rng(0))
    assert math.isnan(found["nominal"].value)
    assert math.isnan(found["nominal"].low)
    assert words in found["nominal"].reason
    if "same value" in words:
        assert found[PERCENT].value == 1.0
        assert found[PERCENT].reason == ""


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="repeat an item and rater"):
        krippendorff_alpha([1, 1], [2, 2], [0, 1])
    with pytest.raises(ValueError, match="differ in length"):
        krippendorff_alpha([1, 1], [2], [0, 1])
    with pytest.raises(ValueError, match="finite"):
        krippendorff_alpha([1, 1], [1, 2], [0, math.nan])
    with pytest.raises(ValueError, match="unknown measures"):
        agreement([1], [1], [1], measures=["kappa"], rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="too many"):
        krippendorff_alpha(np.arange(10_000), np.zeros(10_000, dtype=int), np.random.default_rng(0).random(10_000))


def test_codes() -> None:
    for column in ([3, 1, 3], [10**12, -5, 10**12], ["b", "a", "b"], [2.5, 1.0, 2.5]):
        codes, names = codes_of(column)
        assert codes.tolist() == [1, 0, 1]
        assert names[codes].tolist() == column


@pytest.mark.parametrize("n_values", [3, 400])
def test_bootstrap_interval_against_resampling_the_rows(n_values: int) -> None:
    """Pooled patterns (few values) and item-by-item draws (many) both give what resampling items one by one gives."""
    rng = np.random.default_rng(2)
    n_items, n_raters = 120, 4
    truth = rng.integers(n_values, size=n_items)
    noise = rng.integers(n_values, size=(n_items, n_raters))
    matrix = np.where(rng.random((n_items, n_raters)) < 0.6, truth[:, None], noise)
    item, rater = (axis.ravel() for axis in np.indices(matrix.shape))
    found = agreement(item, rater, matrix.ravel(), n_rounds=2000, rng=rng)
    for level in LEVELS:
        rounds = []
        for _ in range(200):
            sample = matrix[rng.integers(n_items, size=n_items)]
            rounds.append(krippendorff_alpha(item, rater, sample.ravel(), level=level))
        low, high = np.quantile(rounds, [0.025, 0.975])
        width = high - low
        assert found[level].low == pytest.approx(low, abs=0.2 * width)
        assert found[level].high == pytest.approx(high, abs=0.2 * width)
        assert found[level].low < found[level].value < found[level].high


def test_the_same_seed_gives_the_same_interval() -> None:
    table = long(PUBLISHED)
    first, second = (agreement(*table, rng=np.random.default_rng(7)) for _ in range(2))
    assert first == second
    assert first["nominal"].n_items == 11
    assert first["nominal"].n_single == 1
    assert first["nominal"].n_ratings == 40


# --- published figures of the real data


def figures() -> Any:
    return json.loads(shared_data("reference_figures.json").read_text())


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def cells(path: Path, delimiter: str = ",") -> Iterator[dict[str, str]]:
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    return csv.DictReader(
        text.splitlines(), delimiter=delimiter, quoting=csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    )


def test_pandalm() -> None:
    rows = lines(shared_data("pandalm/testset-v1.part.jsonl.gz"))
    table = long([[row[f"annotator{rater}"] for row in rows] for rater in (1, 2, 3)])
    expected = figures()["pandalm"]
    assert krippendorff_alpha(*table) == pytest.approx(expected["alpha_nominal"], abs=1e-6)
    assert percent_agreement(*table) == pytest.approx(expected["pairwise_agreement"], abs=1e-6)


def test_llmfao() -> None:
    rows = list(cells(shared_data("llmfao/crowd-comparisons.part.csv.gz")))
    codes = {"left": 0, "tie": 1, "right": 2}
    table = [row["id"] for row in rows], [row["worker"] for row in rows], [codes[row["winner"]] for row in rows]
    expected = figures()["llmfao"]
    assert krippendorff_alpha(*table) == pytest.approx(expected["alpha_nominal"], abs=1e-6)
    assert percent_agreement(*table) == pytest.approx(expected["pairwise_agreement"], abs=1e-6)


@pytest.mark.parametrize("task", ["Control-Guided_IG", "Subject-Driven_IE", "Text-Guided_IE", "Text-To-Image"])
def test_imagenhub(task: str) -> None:
    for axis, name in enumerate(("semantic_consistency", "perceptual_quality")):
        item, rater, value = [], [], []
        for number in (1, 2, 3):
            for row in cells(shared_data(f"imagenhub/{task}/{task}_rater{number}.tsv"), "\t"):
                for model, pair in row.items():
                    if model != "uid" and pair:
                        item.append(f"{row['uid']} {model}")
                        rater.append(number)
                        value.append(json.loads(pair)[axis])
        expected = figures()["imagenhub"][task][name]
        for level in ("nominal", "interval"):
            assert krippendorff_alpha(item, rater, value, level=level) == pytest.approx(
                expected[f"alpha_{level}"], abs=1e-6
            )


@pytest.mark.parametrize("part", ["en-zh.dev", "en-zh.test", "ro-en.dev", "ro-en.test", "ru-en.dev", "ru-en.test"])
def test_mlqe(part: str) -> None:
    rows = [json.loads(row["scores"]) for row in cells(shared_data(f"mlqe-pe/{part}.tsv.gz"), "\t")]
    table = long([[row[rater] for row in rows] for rater in range(len(rows[0]))])
    expected = figures()["mlqe_pe"][f"{part}.tsv.gz"]["alpha_interval"]
    assert krippendorff_alpha(*table, level="interval") == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["binary-mturk", "site-rating-mturk"])
def test_crowd_labels(name: str) -> None:
    rows = list(cells(shared_data(f"crowd-labels/{name}.labels.csv.gz")))
    # Some workers labelled an item twice; the published figure takes each label for a rater of its own.
    table = [row["item"] for row in rows], range(len(rows)), codes_of([row["label"] for row in rows])[0]
    expected = figures()["crowd_labels"][name]["alpha_nominal"]
    assert krippendorff_alpha(*table) == pytest.approx(expected, abs=1e-6)
