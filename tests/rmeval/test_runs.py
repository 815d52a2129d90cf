"""States of a run: who may change them, and what two who try at once get."""

from datetime import timedelta
from threading import Barrier, Thread
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from annotator.errors import DomainError, InvalidInput
from annotator.models import Dataset, Project
from rmeval.models import Run, RunEvent
from rmeval.report import RunReport
from rmeval.services import sweep
from rmeval.services.runs import run_beat, run_cancel, run_finish, run_pulse, run_record, run_requeue, run_start
from rmeval.services.submission import run_retry, run_submit
from tests.factories import PreferenceFactory, RewardModelFactory
from tests.rmeval.conftest import submit

pytestmark = pytest.mark.django_db
STALE = timedelta(seconds=20)
NOW = timezone.now()


def start(run: Run, now: Any = NOW) -> bool:
    return run_start(run=run, worker="host:1", now=now, stale=STALE, max_attempts=3)


def test_a_run_is_kept_with_its_whole_spec(project: Project) -> None:
    run = submit(project, NOW, n_steps=2)
    assert run.spec == {"n_steps": 2, "learning_rate": 0.1, "fail": ""}
    assert run.state == "queued"
    assert RunEvent.objects.get(run=run).message == "Run submitted"


@pytest.mark.parametrize(
    ("spec", "pointer", "code"),
    [
        ({"learning_rates": 1}, "/spec/learning_rates", "extra_forbidden"),
        ({"learning_rate": -1}, "/spec/learning_rate", "greater_than"),
        ({"n_steps": "many"}, "/spec/n_steps", "int_parsing"),
    ],
)
def test_a_wrong_spec_names_the_field(project: Project, spec: dict[str, Any], pointer: str, code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        submit(project, NOW, **spec)
    assert [(error.pointer, error.code) for error in caught.value.errors] == [(pointer, code)]
    assert pointer.rsplit("/", 1)[-1] in caught.value.detail


def test_datasets_to_evaluate_on_are_frozen_from_the_start(project: Project) -> None:
    model = RewardModelFactory(project=project, family="scalar_head", config={"backbone": "minilm"})
    preferences = [PreferenceFactory(example__dataset__project=project) for _ in range(2)]
    train, test = ({"dataset": str(preference.dataset.uid)} for preference in preferences)
    spec = {"reward_model": str(model.uid), "source": train, "evaluate_on": [test]}
    run_submit(project=project, kind="train_rm", spec=spec, user=None, now=NOW, enqueue=False)
    assert not Dataset.objects.filter(project=project, frozen_at=None).exists()


def test_an_unknown_kind_names_those_there_are(project: Project) -> None:
    with pytest.raises(InvalidInput, match="plain_test"):
        run_submit(project=project, kind="magic", spec={}, user=None, now=NOW)


def test_the_same_key_gives_the_same_run(project: Project) -> None:
    common: dict[str, Any] = {
        "project": project,
        "kind": "plain_test",
        "user": None,
        "now": NOW,
        "idempotency_key": "k",
    }
    first = run_submit(spec={}, **common)
    assert run_submit(spec={}, **common) == first
    assert run_submit(spec={"n_steps": 3}, **common) == first  # the default, spelled out
    with pytest.raises(DomainError, match="another run"):
        run_submit(spec={"n_steps": 4}, **common)


def test_only_one_worker_wins_a_run(project: Project) -> None:
    run = submit(project, NOW)
    assert start(run)
    assert not start(run)
    assert (run.attempt, run.state, run.worker) == (1, "running", "host:1")


def test_a_lost_run_starts_again_until_its_attempts_are_used_up(project: Project) -> None:
    run = submit(project, NOW)
    for attempt in (1, 2, 3):
        assert start(run, NOW + attempt * 2 * STALE)
    assert not start(run, NOW + 20 * STALE)
    assert run.attempt == 3


def test_what_a_taken_over_attempt_says_changes_nothing(project: Project) -> None:
    run = submit(project, NOW)
    start(run)
    start(run, NOW + 2 * STALE)
    report = RunReport(run)
    report.log("from the first attempt", "info")
    record = report.take()
    assert record is not None
    assert not run_record(run=run, attempt=1, record=record, now=NOW)
    assert not run_beat(run=run, attempt=1, now=NOW)
    assert not run_finish(run=run, attempt=1, state="done", now=NOW, result={})
    assert not run_pulse(run=run, attempt=1).is_ours
    assert run_pulse(run=run, attempt=2).is_ours
    run.refresh_from_db()
    assert run.state == "running"
    assert not RunEvent.objects.filter(message="from the first attempt").exists()


def test_cancel_of_a_waiting_run_is_immediate(project: Project) -> None:
    run = run_cancel(run=submit(project, NOW), now=NOW, stale=STALE)
    assert (run.state, run.ended_at) == ("cancelled", NOW)
    assert not start(run)


def test_cancel_of_a_running_run_asks_its_worker(project: Project) -> None:
    run = submit(project, NOW)
    start(run)
    assert run_cancel(run=run, now=NOW, stale=STALE).state == "running"
    assert run_pulse(run=run, attempt=1).cancel_requested
    assert run_finish(run=run, attempt=1, state="cancelled", now=NOW)


def test_cancel_of_a_run_whose_worker_is_gone_is_immediate(project: Project) -> None:
    run = submit(project, NOW)
    start(run)
    assert run_cancel(run=run, now=NOW + 2 * STALE, stale=STALE).state == "cancelled"


def test_an_ended_run_cannot_be_cancelled(project: Project) -> None:
    run = submit(project, NOW)
    start(run)
    run_finish(run=run, attempt=1, state="done", now=NOW, result={})
    with pytest.raises(DomainError) as caught:
        run_cancel(run=run, now=NOW, stale=STALE)
    assert (caught.value.status, caught.value.code) == (409, "run_ended")


def test_retry_makes_a_new_run_and_leaves_the_old(project: Project) -> None:
    run = submit(project, NOW, n_steps=5)
    with pytest.raises(DomainError, match="once it has ended"):
        run_retry(run=run, user=None, now=NOW)
    run_cancel(run=run, now=NOW, stale=STALE)
    run.refresh_from_db()
    again = run_retry(run=run, user=None, now=NOW)
    assert (again.parent, again.spec, again.state, again.attempt) == (run, run.spec, "queued", 0)
    run.refresh_from_db()
    assert run.state == "cancelled"


def test_the_last_requeue_fails_the_run_with_a_reason(project: Project) -> None:
    run = submit(project, NOW)
    for attempt in (1, 2):
        start(run, NOW)
        assert run_requeue(run=run, attempt=attempt, reason="Lost.", max_attempts=3, now=NOW)
    start(run)
    assert not run_requeue(run=run, attempt=3, reason="Lost.", max_attempts=3, now=NOW)
    run.refresh_from_db()
    assert run.state == "failed"
    assert run.error is not None
    assert "attempt 3 of 3" in run.error["message"]
    assert "memory" in run.error["hint"]


class TestSweep:
    @pytest.fixture(autouse=True)
    def enqueued(self, monkeypatch: pytest.MonkeyPatch) -> list[Run]:
        woken: list[Run] = []
        monkeypatch.setattr(sweep, "run_enqueue", woken.append)
        return woken

    def test_a_run_nobody_picked_up_is_enqueued_again(self, project: Project, enqueued: list[Run]) -> None:
        run = submit(project, NOW)
        assert sweep.sweep_once(NOW + timedelta(seconds=10)).n_enqueued == 0
        assert sweep.sweep_once(NOW + timedelta(seconds=70)).n_enqueued == 1
        assert enqueued == [run]
        assert sweep.sweep_once(NOW + timedelta(seconds=80)).n_enqueued == 0

    def test_the_longer_it_waits_the_rarer_it_is_enqueued(self, project: Project) -> None:
        submit(project, NOW)
        Run.objects.update(created_at=NOW - timedelta(hours=1), enqueued_at=NOW)
        assert sweep.sweep_once(NOW + timedelta(minutes=20)).n_enqueued == 0
        assert sweep.sweep_once(NOW + timedelta(minutes=31)).n_enqueued == 1

    def test_a_lost_run_is_queued_again_and_the_third_loss_fails_it(self, project: Project) -> None:
        run = submit(project, NOW)
        for attempt in (1, 2, 3):
            start(run, NOW + attempt * 3 * STALE)
            report = sweep.sweep_once(NOW + attempt * 3 * STALE + 2 * STALE)
            assert (report.n_requeued, report.n_failed) == ((1, 0) if attempt < 3 else (0, 1))
        run.refresh_from_db()
        assert run.state == "failed"
        assert run.error is not None
        assert "nothing heard of it for 40 s" in run.error["message"]

    def test_a_lost_run_that_was_to_stop_is_cancelled(self, project: Project) -> None:
        run = submit(project, NOW)
        start(run)
        run_cancel(run=run, now=NOW, stale=STALE)
        assert sweep.sweep_once(NOW + 2 * STALE).n_cancelled == 1
        run.refresh_from_db()
        assert run.state == "cancelled"

    def test_a_run_handed_back_after_it_was_to_stop_is_cancelled(self, project: Project) -> None:
        run = submit(project, NOW)
        start(run)
        run_cancel(run=run, now=NOW, stale=STALE)
        run_requeue(run=run, attempt=1, reason="Away.", max_attempts=3, now=NOW)
        assert sweep.sweep_once(NOW).n_cancelled == 1
        run.refresh_from_db()
        assert (run.state, run.ended_at) == ("cancelled", NOW)

    def test_a_beating_run_is_left_alone(self, project: Project) -> None:
        run = submit(project, NOW)
        start(run)
        run_beat(run=run, attempt=1, now=NOW + 2 * STALE)
        assert sweep.sweep_once(NOW + 2 * STALE + timedelta(seconds=5)) == sweep.SweepReport()


@pytest.mark.django_db(transaction=True)
def test_eight_workers_race_for_one_run(project: Project) -> None:
    run = submit(project, NOW)
    barrier, wins = Barrier(8), []

    def race() -> None:
        mine = Run.objects.select_related("project").get(pk=run.pk)
        barrier.wait()
        wins.append(start(mine))
        connection.close()

    threads = [Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(wins) == [False] * 7 + [True]
    run.refresh_from_db()
    assert run.attempt == 1
