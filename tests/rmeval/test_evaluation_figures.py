"""Calibration and reward distributions: counted rightly, and shown where an evaluation is shown."""

import numpy as np
import pytest
from django.test import Client
from django.urls import reverse

from annotator.models import Dataset, Project, Role
from rmeval.models import Checkpoint, Evaluation
from rmeval.selectors.rewards import count_histograms, reward_histograms, round_bins
from rmeval.selectors.scores import scored_pairs
from rmeval.services.scores import scores_store
from rmeval.sources import PairSource
from tests.factories import DatasetFactory, ExampleFactory, PreferenceFactory, ResponseFactory, member
from tests.rmeval.test_evaluation import baseline, evaluate
from workers.stats.calibration import calibration, symmetric

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("sent")]


@pytest.fixture
def scored(project: Project) -> tuple[PairSource, Checkpoint]:
    """400 pairs with rewards drawn at random, a few of them far out."""
    dataset: Dataset = DatasetFactory(project=project)
    rng, rows = np.random.default_rng(0), []
    checkpoint = baseline(project)
    for i in range(400):
        example = ExampleFactory(dataset=dataset)
        a, b = (ResponseFactory(example=example, number=number) for number in (0, 1))
        verdict = "a" if i % 2 else "b"
        PreferenceFactory(example=example, response_a=a, response_b=b, verdict=verdict)
        high, low = rng.normal(0.7, 1.0), rng.normal(0.0, 1.0)
        if i == 7:
            high = 1000.0
        rows += [(a.pk, high if verdict == "a" else low), (b.pk, low if verdict == "a" else high)]
    scores_store(checkpoint=checkpoint, rows=rows)
    return PairSource(dataset=dataset), checkpoint


def test_histograms_count_what_numpy_counts(scored: tuple[PairSource, Checkpoint]) -> None:
    source, checkpoint = scored
    found = reward_histograms(source=source, checkpoint=checkpoint)
    assert found is not None
    assert found.n == 400
    pairs = scored_pairs(source, checkpoint)
    for histogram, values in (
        (found.rewards, {"chosen": pairs.reward_chosen, "rejected": pairs.reward_rejected}),
        (found.margins, {"margin": pairs.margin}),
    ):
        bins, n_beyond = histogram.bins, 0
        edges = bins.start + bins.step * np.arange(bins.n + 1)
        for name, own in values.items():
            inside = np.clip(own, bins.start, bins.end - bins.step / 2)
            assert histogram.counts[name] == np.histogram(inside, edges)[0].tolist()
            n_beyond += int(((own < bins.start) | (own >= bins.end)).sum())
        assert histogram.n_beyond == n_beyond
        assert 15 <= bins.n <= 30
        assert bins.end < 20  # one reward of 1000 does not squash the rest


def test_nothing_scored_has_no_histogram(project: Project, dataset: Dataset) -> None:
    assert count_histograms(source=PairSource(dataset=dataset), checkpoint=baseline(project)) is None


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (5.0, 5.0), (-3.2, 7.9), (1e-9, 2e-9), (-4000.0, 12.0)])
def test_bins_hold_both_ends_and_have_zero_on_a_border(low: float, high: float) -> None:
    bins = round_bins(low, high)
    assert bins.start <= low <= high < bins.end
    assert bins.start / bins.step == pytest.approx(round(bins.start / bins.step))
    assert 1 <= bins.n <= 50


def test_the_job_keeps_the_symmetric_calibration(scored: tuple[PairSource, Checkpoint]) -> None:
    source, checkpoint = scored
    result = evaluate(checkpoint, source.spec).result
    assert result is not None
    found = result["calibration"]
    expected = calibration(*symmetric(scored_pairs(source, checkpoint).margin))
    assert (found["form"], found["n"]) == ("symmetric", 400)
    assert (found["ece"], found["ace"], found["mce"]) == (expected.ece, expected.ace, expected.mce)
    assert found["low"] <= found["ece"] <= found["high"]
    assert found["remark"].startswith("Fewer than 500 pairs")


def test_run_page_and_model_page_show_the_figures(project: Project, scored: tuple[PairSource, Checkpoint]) -> None:
    source, checkpoint = scored
    run = evaluate(checkpoint, source.spec)
    client = Client()
    client.force_login(member(project, Role.VIEWER))
    for url in (
        reverse("rmeval:run-detail", args=[run.uid]),
        reverse("rmeval:reward-model-detail", args=[checkpoint.reward_model.uid]),
    ):
        page = client.get(url).content.decode()
        for name in ("calibration", "rewards", "margins"):
            assert f'data-chart="{name}"' in page
        assert "n = 400 pairs of 400 prompts" in page
        assert "Fewer than 500 pairs" in page
        assert "Symmetric form" in page
        assert "beyond the ends count in the outermost bars" in page
        assert "style=" not in page
    chosen = Evaluation.objects.get()
    url = reverse("rmeval:reward-model-detail", args=[checkpoint.reward_model.uid])
    assert client.get(f"{url}?evaluation={chosen.uid}").context["shown"] == chosen
    assert client.get(f"{url}?evaluation=nonsense").context["shown"] == chosen


def test_an_older_evaluation_says_what_it_lacks(project: Project, scored: tuple[PairSource, Checkpoint]) -> None:
    source, checkpoint = scored
    evaluate(checkpoint, source.spec)
    Evaluation.objects.update(metrics={"accuracy": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 400}})
    client = Client()
    client.force_login(member(project, Role.VIEWER))
    page = client.get(reverse("rmeval:reward-model-detail", args=[checkpoint.reward_model.uid])).content.decode()
    assert "before calibration was measured" in page
    assert 'data-chart="margins"' in page
    board = client.get(reverse("rmeval:leaderboard", args=[source.uid])).content.decode()
    assert "take the pairs as independent" in board
