"""Which queue a run goes to, and what it says while it waits there."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotator.models import Dataset, Project, Role
from rmeval.models import Artifact, Checkpoint, RewardModel, Run, WorkerHeartbeat
from rmeval.selectors.waiting import waiting_notes
from rmeval.services import placement
from rmeval.services.submission import run_submit
from rmeval.services.sweep import sweep_once
from tests.factories import RunFactory, member
from tests.rmeval.test_evaluation import baseline

pytestmark = pytest.mark.django_db(transaction=True)
Sent = list[tuple[str, str]]


@pytest.fixture
def trained(project: Project) -> Checkpoint:
    """A checkpoint with small weights, made by a run on a machine without a GPU before queues were kept with runs."""
    model = RewardModel.objects.create(project=project, name="rm", family="scalar_head", config={})
    run = Run.objects.create(project=project, kind="train_rm", spec={}, state="done", environment={"gpus": []})
    Artifact.objects.create(
        run=run, kind="checkpoint", name="final", path="checkpoints/x", sha256="0" * 64, n_bytes=90_000_000
    )
    return Checkpoint.objects.create(reward_model=model, number=1, run=run, path="checkpoints/x", sha256="0" * 64)


def submit(checkpoint: Checkpoint, dataset: Dataset, kind: str = "evaluate") -> Run:
    spec = {"checkpoint": str(checkpoint.uid), "source": {"dataset": str(dataset.uid)}}
    return run_submit(project=dataset.project, kind=kind, spec=spec, user=None, now=timezone.now())


def training(checkpoint: Checkpoint, dataset: Dataset) -> Run:
    spec = {"reward_model": str(checkpoint.reward_model.uid), "source": {"dataset": str(dataset.uid)}}
    return run_submit(project=dataset.project, kind="train_rm", spec=spec, user=None, now=timezone.now())


def test_small_scoring_on_a_cpu_does_not_wait_behind_a_training(
    trained: Checkpoint, dataset: Dataset, sent: Sent
) -> None:
    runs = [training(trained, dataset), submit(trained, dataset), submit(trained, dataset, "score")]
    assert sent == [(str(run.uid), queue) for run, queue in zip(runs, ("gpu", "default", "default"), strict=True)]
    assert [Run.objects.get(pk=run.pk).environment["queue"] for run in runs] == ["gpu", "default", "default"]


def test_rules_need_no_gpu_in_any_case(project: Project, dataset: Dataset, sent: Sent) -> None:
    submit(baseline(project), dataset)
    assert [queue for _, queue in sent] == ["default"]


@pytest.mark.parametrize("change", ["gpu", "unknown", "many", "heavy", "uncounted"])
def test_what_keeps_scoring_on_the_gpu_queue(
    trained: Checkpoint, dataset: Dataset, sent: Sent, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if change == "gpu":
        Run.objects.update(environment={"queue": "gpu", "gpus": ["A100"]})
    elif change == "unknown":
        Run.objects.update(environment={"queue": "default", "gpus": []})  # another machine's word
    elif change == "many":
        monkeypatch.setattr(placement, "SMALL_RESPONSES", 3)
    elif change == "heavy":
        Artifact.objects.update(n_bytes=600 * 2**20)
    else:
        Dataset.objects.update(n_responses=100_001)
    submit(trained, dataset)
    assert [queue for _, queue in sent] == ["gpu"]


def test_the_sweep_keeps_the_queue(trained: Checkpoint, dataset: Dataset, sent: Sent) -> None:
    run = submit(trained, dataset)
    Run.objects.filter(kind="train_rm").update(environment={"queue": "gpu", "gpus": ["A100"]})  # a GPU came meanwhile
    Run.objects.filter(pk=run.pk).update(enqueued_at=timezone.now() - timedelta(minutes=5))
    sweep_once(timezone.now())
    assert sent == [(str(run.uid), "default")] * 2


def test_waiting_for_ones_turn_is_no_news(trained: Checkpoint, dataset: Dataset, sent: Sent) -> None:
    first, second = training(trained, dataset), training(trained, dataset)

    def told_after(minutes: int) -> list[Run]:
        sweep_once(timezone.now() + timedelta(minutes=minutes))
        return [run for run in (first, second) if run.events.filter(message__startswith="Not picked up").exists()]

    assert told_after(5) == [first]
    Run.objects.filter(pk=first.pk).update(state="done")
    assert told_after(15) == [first, second]
    assert len(sent) == 2 + 2 + 1  # the message to the broker is repeated in any case


def test_a_worker_busy_with_another_queue_is_no_news(trained: Checkpoint, dataset: Dataset, sent: Sent) -> None:
    busy, asked = training(trained, dataset), training(trained, dataset)
    Run.objects.filter(pk=busy.pk).update(state="running", heartbeat_at=timezone.now() + timedelta(minutes=5))
    Run.objects.filter(pk=asked.pk).update(environment={"queue": "judge"})
    worker = WorkerHeartbeat.objects.create(name="gpu@x", queues=["gpu", "judge"], seen_at=timezone.now())
    sweep_once(timezone.now() + timedelta(minutes=5))
    assert not asked.events.filter(message__startswith="Not picked up").exists()
    worker.queues = ["judge"]
    worker.save()
    sweep_once(timezone.now() + timedelta(minutes=15))
    assert asked.events.filter(message__startswith="Not picked up").exists()


def test_a_queued_run_says_what_it_waits_for(trained: Checkpoint, dataset: Dataset, sent: Sent) -> None:
    first, second, third = (training(trained, dataset) for _ in range(3))
    other = submit(trained, dataset)
    now = timezone.now()

    def notes() -> list[str]:
        return list(waiting_notes(Run.objects.filter(state="queued").order_by("pk"), now=now).values())

    assert notes()[0].startswith("No worker of the queue gpu is running")
    WorkerHeartbeat.objects.create(name="gpu@x", queues=["gpu", "judge"], seen_at=now - timedelta(seconds=40))
    WorkerHeartbeat.objects.create(name="default@x", queues=["default"], seen_at=now)
    assert notes() == [
        *["No worker of the queue gpu has reported for 40 s."] * 3,
        "Next on the queue default; a worker takes it within seconds.",
    ]
    WorkerHeartbeat.objects.update(seen_at=now)
    Run.objects.filter(pk=first.pk).update(state="running")
    assert notes()[:2] == ["Behind 1 run on the training queue.", "Behind 2 runs on the training queue."]
    Run.objects.filter(pk__in=[first.pk, second.pk]).update(state="done")
    assert notes()[0] == "Next on the training queue; a worker takes it within seconds."
    Run.objects.filter(pk=third.pk).update(environment={"queue": "judge"})
    Run.objects.filter(pk=second.pk).update(state="running")
    assert notes()[0] == "Next on the queue judge, whose worker serves gpu too, where a run is in work."
    assert {third.pk, other.pk} == set(waiting_notes(Run.objects.all(), now=now))


def test_pages_say_it(project: Project, trained: Checkpoint, dataset: Dataset, sent: Sent) -> None:
    WorkerHeartbeat.objects.create(name="gpu@x", queues=["gpu"], seen_at=timezone.now())
    training(trained, dataset)
    run = training(trained, dataset)
    client = Client()
    client.force_login(member(project, Role.VIEWER))
    for url in (
        reverse("rmeval:run-detail", args=[run.uid]),
        reverse("rmeval:run-list", args=[project.uid]),
        reverse("rmeval:reward-model-detail", args=[trained.reward_model.uid]),
    ):
        assert "Behind 1 run on the training queue." in client.get(url).content.decode(), url
    part: Any = client.get(
        reverse("rmeval:run-detail", args=[run.uid]) + "?part=progress", headers={"HX-Request": "true"}
    )
    assert 'hx-trigger="every 10s"' in part.content.decode()
    Run.objects.update(state="running")
    part = client.get(reverse("rmeval:run-detail", args=[run.uid]) + "?part=progress", headers={"HX-Request": "true"})
    assert "every 10s" not in part.content.decode()


def test_what_is_ahead_is_linked_where_the_reader_may_see_it(
    project: Project, trained: Checkpoint, dataset: Dataset, sent: Sent
) -> None:
    WorkerHeartbeat.objects.create(name="gpu@x", queues=["gpu"], seen_at=timezone.now())
    first, second = training(trained, dataset), training(trained, dataset)
    foreign = RunFactory(kind="train_rm", state="running", environment={"queue": "gpu"})
    last, later = training(trained, dataset), training(trained, dataset)
    client = Client()
    client.force_login(member(project, Role.VIEWER))
    page = client.get(reverse("rmeval:run-detail", args=[last.uid])).content.decode()
    message = page[page.index('id="run-message"') :]
    message = message[: message.index("</span>")]
    assert "Behind 3 runs on the training queue." in message
    for run in (first, second):
        assert f'<a href="{reverse("rmeval:run-detail", args=[run.uid])}">Train rm on Pairs</a>' in message
    assert str(foreign.uid) not in page
    assert str(later.uid) not in message
    Run.objects.filter(kind="train_rm", pk=trained.run_id).update(environment={"queue": "gpu", "gpus": ["A100"]})
    assert waiting_notes([last], now=timezone.now())[last.pk] == "Behind 3 runs on the queue gpu."
    Run.objects.filter(pk=last.pk).update(state="running")
    assert "Before it here" not in client.get(reverse("rmeval:run-detail", args=[last.uid])).content.decode()
