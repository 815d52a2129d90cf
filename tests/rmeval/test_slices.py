"""The job counts slices and intervals in Python, pages count them in SQL: both must say the same."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from annotator.models import Dataset, Project, Role
from rmeval.models import Checkpoint
from rmeval.selectors.compare import PairFilter, compare, compared_pairs
from rmeval.selectors.leaderboards import LeaderboardRow, count_slices, leaderboard_rows
from rmeval.sources import PairSource
from tests.factories import DatasetFactory, ExampleFactory, PreferenceFactory, ResponseFactory, member
from tests.factories import assistant_message as says
from tests.rmeval.test_evaluation import baseline, evaluate
from workers.stats.slices import slice_name

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("sent")]

#: Every kind of value a metadata key may have, and what its slice is called.
VALUES: list[tuple[Any, str]] = [
    ("", "(none)"),
    (None, "(none)"),
    ("(none)", "(none)"),
    (" ", " "),
    (True, "true"),
    (False, "false"),
    ("true", "true"),
    ("True", "True"),
    (0, "0"),
    (12, "12"),
    (1.0, "1.0"),
    (0.1, "0.1"),
    (1e-7, "0.0000001"),
    (1e30, "1000000000000000000000000000000"),
    ("é ü", "é ü"),
    (["a", 1, "ü"], '["a", 1, "ü"]'),
    ({"b": 1, "aa": None}, '{"b": 1, "aa": null}'),
]


def dataset_with(project: Project, metas: list[dict[str, Any]], *, n_pairs: int = 1) -> Dataset:
    """One prompt for each metadata, with n_pairs pairs; in every second pair the longer response is chosen."""
    dataset: Dataset = DatasetFactory(project=project, metadata_keys=["key"])
    for i, meta in enumerate(metas):
        example = ExampleFactory(dataset=dataset, meta=meta)
        short = ResponseFactory(example=example, number=0, messages=says("short"))
        for j in range(n_pairs):
            long = ResponseFactory(example=example, number=1 + j, messages=says(f"a longer response {j}"))
            verdict = "a" if (i * (j + 1)) % 2 else "b"
            PreferenceFactory(example=example, response_a=long, response_b=short, verdict=verdict)
    dataset.n_preferences = len(metas) * n_pairs
    dataset.save()
    return dataset


def counted_both_ways(checkpoint: Checkpoint, dataset: Dataset) -> tuple[Any, Any]:
    """Slices as the job counted them, and as the page counts them in SQL."""
    source = PairSource(dataset=dataset)
    run = evaluate(checkpoint, source.spec, slice_by=["key"])
    assert run.result is not None
    return run.result["slices"]["key"], count_slices(source, checkpoint, "key")


@pytest.mark.parametrize(("value", "name"), VALUES)
def test_a_value_has_one_name(project: Project, value: Any, name: str) -> None:
    dataset = dataset_with(project, [{"key": value}])
    by_job, by_page = counted_both_ways(baseline(project), dataset)
    assert list(by_job) == list(by_page) == [name]
    dataset.examples.get().refresh_from_db()
    assert slice_name(dataset.examples.get().meta["key"]) == name


def test_all_values_at_once_and_none_at_all(project: Project) -> None:
    metas = [{"key": value} for value, _ in VALUES[:8]] + [{}, {"other": 1}]
    dataset = dataset_with(project, metas)
    checkpoint = baseline(project)
    by_job, by_page = counted_both_ways(checkpoint, dataset)
    assert {name: part["accuracy"]["n"] for name, part in by_job.items()} == {
        "(none)": 5,
        "true": 2,
        "True": 1,
        "false": 1,
        " ": 1,
    }
    assert list(by_page)[:2] == ["(none)", "true"]  # the largest first
    assert {name: found.as_dict() for name, found in by_page.items()} == {
        name: part["accuracy"] for name, part in by_job.items()
    }
    source = PairSource(dataset=dataset)
    chosen = PairFilter(cell="all", key="key", value="(none)")
    assert len(compared_pairs(source=source, a=checkpoint, b=checkpoint, chosen=chosen).pairs) == 5


@pytest.fixture
def repeated(project: Project) -> tuple[Checkpoint, Dataset]:
    """Twelve prompts with nine pairs each."""
    dataset = dataset_with(project, [{"key": i % 3} for i in range(12)], n_pairs=9)
    return baseline(project), dataset


def row_of(dataset: Dataset, slice_by: str = "") -> LeaderboardRow:
    (row,) = leaderboard_rows(source=PairSource(dataset=dataset), slice_by=slice_by)
    return row


def test_repeated_prompts_widen_the_interval_everywhere(project: Project, repeated: tuple[Checkpoint, Dataset]) -> None:
    checkpoint, dataset = repeated
    by_job, by_page = counted_both_ways(checkpoint, dataset)
    assert {name: found.as_dict() for name, found in by_page.items()} == {
        name: part["accuracy"] for name, part in by_job.items()
    }
    row = row_of(dataset)
    assert row.accuracy is not None
    assert (row.accuracy.interval, row.accuracy.n, row.accuracy.n_prompts) == ("wilson_effective_n", 108, 12)
    assert row.accuracy.n_effective is not None
    assert row.accuracy.n_effective < 108
    found = compare(source=PairSource(dataset=dataset), a=checkpoint, b=checkpoint)
    assert found.accuracy_a == row.accuracy
    assert found.has_repeated_prompts


def test_pages_and_api_say_which_interval(project: Project, repeated: tuple[Checkpoint, Dataset]) -> None:
    checkpoint, dataset = repeated
    run = evaluate(checkpoint, {"dataset": str(dataset.uid)})
    client = Client()
    client.force_login(member(project, Role.VIEWER))
    page = client.get(reverse("rmeval:leaderboard", args=[dataset.uid])).content.decode()
    assert "108 pairs of 12 prompts" in page
    assert "108 pairs of 12 prompts" in client.get(reverse("rmeval:run-detail", args=[run.uid])).content.decode()
    (told,) = client.get(f"/api/v1/leaderboards/{dataset.uid}/").json()["rows"]
    assert run.result is not None
    assert told["accuracy"] == run.result["accuracy"]
    assert told["accuracy"]["interval"] == "wilson_effective_n"
    query = {"a": checkpoint.uid, "b": checkpoint.uid, "dataset": dataset.uid}
    compared = client.get("/api/v1/compare/", query).json()
    assert compared["a"]["accuracy"] == run.result["accuracy"]
