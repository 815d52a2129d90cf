"""From a registered baseline to its row on the leaderboard, and two of them compared."""

import math
from typing import Any

import pytest
from django.db.models import F
from django.utils import timezone

from annotator.errors import DomainError, InvalidInput, NotFound
from annotator.models import Dataset, Project
from rmeval.models import Checkpoint, Evaluation, Run, Score
from rmeval.selectors.compare import (
    CELLS,
    PairFilter,
    compare,
    compare_now,
    compared_pairs,
    paired_difference,
    selected_responses,
)
from rmeval.selectors.leaderboards import benchmarks, leaderboard_rows, slice_names
from rmeval.selectors.scores import scored_pairs
from rmeval.services.reward_models import reward_model_register
from rmeval.services.scores import RewardNotFinite, scores_store
from rmeval.services.submission import run_submit
from rmeval.sources import PairSource
from tests.factories import DatasetFactory, PreferenceFactory, SnapshotRowFactory
from tests.rmeval.conftest import fill
from workers.tasks import run_job

pytestmark = pytest.mark.django_db(transaction=True)


def baseline(project: Project, family: str = "length", name: str = "", **config: Any) -> Checkpoint:
    made = reward_model_register(project=project, name=name or family, family=family, config=config, user=None)
    return made.checkpoints.get()


def evaluate(checkpoint: Checkpoint, source: dict[str, str], **spec: Any) -> Run:
    run = run_submit(
        project=checkpoint.reward_model.project,
        kind="evaluate",
        spec={"checkpoint": str(checkpoint.uid), "source": source, **spec},
        user=None,
        now=timezone.now(),
        enqueue=False,
    )
    run_job(str(run.uid))
    run.refresh_from_db()
    assert run.state == "done", run.error
    return run


def test_a_baseline_reaches_the_leaderboard(project: Project, dataset: Dataset) -> None:
    checkpoint = baseline(project)
    run = evaluate(checkpoint, {"dataset": str(dataset.uid)})
    evaluation = Evaluation.objects.get()
    assert (evaluation.run, evaluation.checkpoint, evaluation.n_pairs) == (run, checkpoint, 6)
    assert evaluation.accuracy == pytest.approx(4 / 6)  # the longer response is chosen in four of six
    dataset.refresh_from_db()
    assert dataset.frozen_at is not None
    (row,) = leaderboard_rows(source=PairSource(dataset=dataset), slice_by="topic")
    assert row.accuracy is not None
    assert (row.accuracy.n, row.n_tie, row.is_baseline) == (6, 1, True)
    assert {name: (found.value, found.n) for name, found in row.slices.items()} == {
        "even": (pytest.approx(2 / 3), 3),  # examples 0, 2, 4; 2 has the shorter one chosen
        "odd": (pytest.approx(2 / 3), 3),
    }
    assert slice_names([row]) == ["even", "odd"]
    (found,) = benchmarks(project=project)
    assert (found.n_evaluations, found.best) == (1, evaluation)


def test_slices_the_run_counted_are_the_same_as_counted_later(project: Project, dataset: Dataset) -> None:
    checkpoint = baseline(project)
    source = PairSource(dataset=dataset)
    evaluate(checkpoint, {"dataset": str(dataset.uid)})
    later = leaderboard_rows(source=source, slice_by="topic")[0].slices
    evaluate(checkpoint, {"dataset": str(dataset.uid)}, slice_by=["topic"])
    counted = leaderboard_rows(source=source, slice_by="topic")[0].slices
    assert counted == later


def test_evaluating_again_scores_nothing_twice(project: Project, dataset: Dataset) -> None:
    checkpoint = baseline(project)
    evaluate(checkpoint, {"dataset": str(dataset.uid)})
    n_scores = Score.objects.count()
    again = evaluate(checkpoint, {"dataset": str(dataset.uid)})
    assert again.result is not None
    assert again.result["scoring"]["n_scored"] == 0
    assert (Score.objects.count(), Evaluation.objects.count()) == (n_scores, 1)


def test_a_snapshot_is_a_source_too(project: Project) -> None:
    dataset = DatasetFactory(project=project)
    row = SnapshotRowFactory(snapshot__queue__dataset=dataset, verdict="b")
    SnapshotRowFactory(snapshot=row.snapshot, verdict=None)  # cannot judge
    checkpoint = baseline(project, "random")
    evaluate(checkpoint, {"snapshot": str(row.snapshot.uid)})
    evaluation = Evaluation.objects.get()
    assert (evaluation.snapshot, evaluation.dataset, evaluation.n_pairs) == (row.snapshot, None, 1)
    assert Score.objects.filter(checkpoint=checkpoint).count() == 2


class TestScores:
    def test_a_score_is_stored_once(self, dataset: Dataset, project: Project) -> None:
        checkpoint = baseline(project)
        ids = list(PairSource(dataset=dataset).responses().values_list("pk", flat=True))
        assert scores_store(checkpoint=checkpoint, rows=[(ids[0], 1.0), (ids[1], 2.0)]) == 2
        assert scores_store(checkpoint=checkpoint, rows=[(ids[0], 9.0), (ids[2], 3.0)]) == 1
        assert Score.objects.get(response_id=ids[0]).value == 1.0

    def test_nan_is_refused_and_nothing_is_kept(self, dataset: Dataset, project: Project) -> None:
        checkpoint = baseline(project)
        ids = list(PairSource(dataset=dataset).responses().values_list("pk", flat=True))
        with pytest.raises(RewardNotFinite, match="nan"):
            scores_store(checkpoint=checkpoint, rows=[(ids[0], 1.0), (ids[1], math.nan)])
        assert not Score.objects.exists()

    def test_margins_are_chosen_minus_rejected(self, dataset: Dataset, project: Project) -> None:
        checkpoint = baseline(project)
        source = PairSource(dataset=dataset)
        pairs = list(source.decided().select_related("response_a", "response_b"))
        rows = [(p.response_a_id, 10.0) for p in pairs[:-1]] + [(p.response_b_id, 4.0) for p in pairs[:-1]]
        scores_store(checkpoint=checkpoint, rows=rows)
        found = scored_pairs(source, checkpoint)
        assert found.margin.tolist() == [6.0 if p.verdict == "a" else -6.0 for p in pairs[:-1]]
        assert (found.n_tie, found.n_unscored) == (1, 1)


class TestCompare:
    @pytest.fixture
    def two(self, project: Project, dataset: Dataset) -> tuple[PairSource, Checkpoint, Checkpoint]:
        """The longer response against the shorter: right on opposite pairs."""
        a = baseline(project, name="longer")
        b = baseline(project, name="shorter", prefer="shorter")
        for checkpoint in (a, b):
            evaluate(checkpoint, {"dataset": str(dataset.uid)})
        return PairSource(dataset=dataset), a, b

    def test_figures(self, two: tuple[PairSource, Checkpoint, Checkpoint]) -> None:
        source, a, b = two
        found = compare(source=source, a=a, b=b)
        assert (found.n, found.n_both, found.n_a_only, found.n_b_only, found.n_neither) == (6, 0, 4, 2, 0)
        assert found.p_value == pytest.approx(2 * (1 + 6 + 15) / 64)
        assert found.margin_correlation == pytest.approx(-1)
        assert found.difference is not None
        assert found.difference.value == pytest.approx(-2 / 6)
        assert found.difference.low < 0 < found.difference.high
        assert found.agreement is not None
        assert found.agreement.value == 0

    def test_new_scores_are_counted_at_once(self, two: tuple[PairSource, Checkpoint, Checkpoint]) -> None:
        source, a, b = two
        Score.objects.filter(checkpoint=b, response__example__meta__topic="odd").delete()
        assert compare_now(source=source, a=a, b=b).n == 3
        evaluate(b, source.spec)
        assert compare(source=source, a=a, b=b).n == 6
        Score.objects.filter(checkpoint=b, response__example__meta__topic="odd").delete()
        assert compare(source=source, a=a, b=b).n == 6  # kept: scores are never taken away in earnest

    def test_a_model_agrees_with_itself(self, two: tuple[PairSource, Checkpoint, Checkpoint]) -> None:
        source, a, _ = two
        found = compare(source=source, a=a, b=a)
        assert (found.n_both, found.n_neither, found.n_disagree, found.p_value) == (4, 2, 0, 1.0)

    def test_every_cell_leads_to_its_pairs(self, two: tuple[PairSource, Checkpoint, Checkpoint]) -> None:
        source, a, b = two
        found = compare(source=source, a=a, b=b)
        expected = {
            "all": found.n,
            "disagree": found.n_disagree,
            "both": found.n_both,
            "a_only": found.n_a_only,
            "b_only": found.n_b_only,
            "neither": found.n_neither,
        }
        assert set(expected) == set(CELLS)
        for cell, n in expected.items():
            page = compared_pairs(source=source, a=a, b=b, chosen=PairFilter(cell=cell))
            assert len(page.pairs) == n
            assert all(pair.cell == cell for pair in page.pairs if cell not in {"all", "disagree"})
            assert len(selected_responses(source=source, a=a, b=b, chosen=PairFilter(cell=cell), limit=99)) == n

    def test_filters(self, two: tuple[PairSource, Checkpoint, Checkpoint]) -> None:
        source, a, b = two
        odd = compared_pairs(source=source, a=a, b=b, chosen=PairFilter(cell="all", key="topic", value="odd"))
        assert [pair.meta["rank"] for pair in odd.pairs] == [1, 3, 5]
        number = compared_pairs(source=source, a=a, b=b, chosen=PairFilter(cell="all", key="rank", value="4"))
        assert len(number.pairs) == 1
        strong = compared_pairs(source=source, a=a, b=b, chosen=PairFilter(cell="all", strength=3))
        assert [pair.preference_strength for pair in strong.pairs] == [3, 3]

    def test_pages_go_there_and_back(
        self, two: tuple[PairSource, Checkpoint, Checkpoint], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("rmeval.selectors.compare.PAGE", 2)
        source, a, b = two
        chosen = PairFilter(cell="all")
        pages = [compared_pairs(source=source, a=a, b=b, chosen=chosen)]
        while pages[-1].has_next:
            pages.append(compared_pairs(source=source, a=a, b=b, chosen=chosen, after=pages[-1].last or 0))
        assert [len(page.pairs) for page in pages] == [2, 2, 2]
        back = compared_pairs(source=source, a=a, b=b, chosen=chosen, before=pages[-1].first or 0)
        assert [p.pk for p in back.pairs] == [p.pk for p in pages[1].pairs]
        assert back.has_previous


def test_paired_difference_by_hand() -> None:
    found = paired_difference(10, 20, 100)
    assert found is not None
    assert found.value == pytest.approx(0.10)
    half = 1.959964 * math.sqrt(31 - 10**2 / 102) / 102
    assert (found.low, found.high) == (pytest.approx(10 / 102 - half), pytest.approx(10 / 102 + half))
    assert paired_difference(0, 0, 0) is None


class TestRefusals:
    def test_a_source_without_preferences(self, project: Project) -> None:
        empty = DatasetFactory(project=project)
        checkpoint = baseline(project)
        with pytest.raises(InvalidInput, match="no preferences") as caught:
            evaluate(checkpoint, {"dataset": str(empty.uid)})
        assert caught.value.errors[0].pointer == "/spec/source"

    def test_a_source_of_ties_only(self, project: Project) -> None:
        tied = PreferenceFactory(example__dataset__project=project, verdict="tie")
        with pytest.raises(InvalidInput, match="no preferences"):
            evaluate(baseline(project), {"dataset": str(tied.dataset.uid)})

    def test_a_source_still_importing(self, project: Project, dataset: Dataset) -> None:
        Dataset.objects.update(state="importing")
        with pytest.raises(InvalidInput, match="importing, not ready"):
            evaluate(baseline(project), {"dataset": str(dataset.uid)})

    def test_what_belongs_to_another_project(self, project: Project, dataset: Dataset) -> None:
        elsewhere = fill(DatasetFactory())
        stranger = baseline(elsewhere.project)
        own = baseline(project)
        with pytest.raises(NotFound):
            evaluate(own, {"dataset": str(elsewhere.uid)})
        with pytest.raises(NotFound) as caught:
            run_submit(
                project=project,
                kind="evaluate",
                spec={"checkpoint": str(stranger.uid), "source": {"dataset": str(dataset.uid)}},
                user=None,
                now=timezone.now(),
            )
        assert (caught.value.status, caught.value.errors[0].pointer) == (404, "/spec/checkpoint")
        assert not Run.objects.exists()

    def test_two_models_of_one_name(self, project: Project) -> None:
        baseline(project)
        with pytest.raises(DomainError, match="already has") as caught:
            baseline(project)
        assert caught.value.code == "name_taken"

    def test_a_wrong_config(self, project: Project) -> None:
        with pytest.raises(InvalidInput) as caught:
            baseline(project, unit="miles", size=3)
        assert {error.pointer for error in caught.value.errors} == {"/config/unit", "/config/size"}
        with pytest.raises(InvalidInput, match="length"):
            baseline(project, "oracle")


def test_the_data_hash_follows_the_verdicts(dataset: Dataset) -> None:
    source = PairSource(dataset=dataset)
    before = source.sha256()
    assert source.sha256() == before
    dataset.preferences.filter(verdict="b").update(verdict="a", preference_strength=F("preference_strength"))
    assert source.sha256() != before
