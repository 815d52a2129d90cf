"""A metadata key is a name, also when it is made of digits."""

import pytest

from annotator.selectors.datasets import ExampleFilters, dataset_metadata_values, examples_matching
from rmeval.selectors.compare import PairFilter, compared_pairs
from rmeval.selectors.leaderboards import count_slices
from rmeval.services.scores import scores_store
from rmeval.sources import PairSource
from tests.factories import CheckpointFactory, DatasetFactory, PreferenceFactory

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("key", ["2024", "0", "-1", "9" * 30, "plain", "a'b%s", "{x}"])
def test_any_key_filters_and_slices(key: str) -> None:
    dataset = DatasetFactory(metadata_keys=[key])
    wanted = PreferenceFactory(example__dataset=dataset, example__meta={key: "red"})
    PreferenceFactory(example__dataset=dataset, example__meta={key: "blue"})
    PreferenceFactory(example__dataset=dataset, example__meta={})

    matching = examples_matching(dataset=dataset, filters=ExampleFilters(meta=((key, "red"),)))
    assert [example.pk for example in matching] == [wanted.example_id]
    assert dataset_metadata_values(dataset=dataset, key=key) == ["blue", "red"]

    source = PairSource(dataset=dataset)
    checkpoint = CheckpointFactory(reward_model__project=dataset.project)
    scores_store(checkpoint=checkpoint, rows=[(r.pk, float(r.pk)) for r in source.responses()])
    slices = count_slices(source, checkpoint, key)
    assert {name: rate.n for name, rate in slices.items()} == {"red": 1, "blue": 1, "(none)": 1}
    chosen = PairFilter(cell="all", key=key, value="red")
    page = compared_pairs(source=source, a=checkpoint, b=checkpoint, chosen=chosen)
    assert [pair.example_uid for pair in page.pairs] == [str(wanted.example.uid)]
