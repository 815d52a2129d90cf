"""HelpSteer2-Preference's records (Wang et al. 2024, arXiv 2410.01257) go in and come out as they were."""

import io
import json
from typing import Any

import pytest
from django.utils import timezone

from annotator.models import Dataset
from annotator.services.exports import dataset_export
from annotator.services.imports import dataset_import
from tests.factories import DatasetFactory
from workers.data.rows import Limits

pytestmark = pytest.mark.django_db


def published_rows() -> list[dict[str, Any]]:
    """Every strength from -3 to 3, with the columns of the published file."""
    rows = []
    for strength in range(-3, 4):
        votes = [
            {"strength": strength, "justification": f"Ça « va » {strength}."},
            {"strength": -100, "justification": "Neither is valid."},
        ]
        words = {"statement": f"Response {1 if strength < 0 else 2} is better.", "elaboration": "Because\nof this."}
        rows.append(
            {
                "split": "train" if strength % 2 else "validation",
                "prompt": f"Question {strength}",
                "response_1": f"first {strength}",
                "response_2": f"second {strength}",
                "preference_strength": strength,
                "preference_statement": words["statement"],
                "preference_elaboration": words["elaboration"],
                "three_most_similar_preferences": [{**words, "strength": strength}],
                "all_preferences_unprocessed": votes,
            }
        )
    return rows


def as_published(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the layout raw as the record it came from: -3 is a much better response 1."""
    sign = {"a": -1, "b": 1, "tie": 0}[row["decided_verdict"]]
    [[prompt], [first], [second]] = (row[name] for name in ("prompt", "response_a", "response_b"))
    return {
        "prompt": prompt["content"],
        "response_1": first["content"],
        "response_2": second["content"],
        "preference_strength": sign * row["decided_strength"],
        **json.loads(row["meta"]),
    }


def taken_in(rows: list[dict[str, Any]]) -> Dataset:
    dataset = DatasetFactory(state=Dataset.State.IMPORTING, format="")
    file = io.BytesIO("\n".join(map(json.dumps, rows)).encode())
    dataset_import(dataset=dataset, stream=file, limits=Limits(), clock=timezone.now)
    dataset.refresh_from_db()
    return dataset


def exported(dataset: Dataset, label: str) -> list[dict[str, Any]]:
    found = b"".join(dataset_export(dataset=dataset, label=label, file="jsonl").chunks())
    return [json.loads(line) for line in found.splitlines()]


def test_import_then_export_loses_nothing() -> None:
    rows = published_rows()
    dataset = taken_in(rows)
    assert (dataset.n_examples, dataset.n_preferences) == (7, 7)
    out = exported(dataset, "raw")
    assert [as_published(row) for row in out] == rows
    again = exported(taken_in([as_published(row) for row in out]), "raw")
    assert [as_published(row) for row in again] == rows


def test_a_pair_is_chosen_by_its_sign() -> None:
    pairs = exported(taken_in(published_rows()), "trl-preference")
    chosen = {row["prompt"].split()[1]: row["chosen"].split()[0] for row in pairs}
    assert chosen == {str(s): "first" if s < 0 else "second" for s in (-3, -2, -1, 1, 2, 3)}
