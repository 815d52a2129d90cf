"""What tests of runs share: a project with pairs, and jobs that do what a test needs."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import Field

from annotator.models import Dataset, Project
from rmeval.models import Run
from rmeval.services.submission import run_submit
from tests.factories import DatasetFactory, ExampleFactory, PreferenceFactory, ProjectFactory, ResponseFactory
from tests.factories import assistant_message as says
from workers.errors import JobError, TransientError
from workers.jobs import JOBS
from workers.specs import SpecModel
from workers.tasks import run_job


class PlainSpec(SpecModel):
    """Spec of the jobs below."""

    n_steps: int = Field(default=3, ge=1, description="How often to report.")
    learning_rate: float = Field(default=0.1, gt=0, description="Only here to be wrong.")
    fail: str = Field(default="", description="How to fail.")


class PlainJob:
    """Counts, reports and fails on demand."""

    name: ClassVar[str] = "plain_test"
    title: ClassVar[str] = "Plain"
    queue: ClassVar[str] = "default"
    Spec = PlainSpec

    def run(self, ctx: Any, spec: PlainSpec) -> dict[str, Any]:
        for step in range(1, spec.n_steps + 1):
            ctx.checkpoint()
            ctx.progress(step, spec.n_steps, f"step {step}")
            ctx.metric(step, loss=1 / step, broken=float("nan"))
            if spec.fail == "slow":
                time.sleep(0.05)
            if spec.fail == "deaf":
                time.sleep(30)
        ctx.log("counted")
        errors = {
            "job": JobError("It cannot be done.", hint="Do something else."),
            "transient": TransientError("The network was away."),
            "memory": MemoryError(),
            "bug": KeyError("x"),
        }
        if spec.fail in errors:
            raise errors[spec.fail]
        result = {"n_steps": spec.n_steps, "attempt": ctx.attempt}
        return {**result, "broken": float("nan")} if spec.fail == "result" else result


@pytest.fixture(autouse=True)
def plain_job(settings: Any, tmp_path: Path) -> Iterator[None]:
    settings.VAR_DIR = tmp_path / "var"
    settings.ARTIFACT_DIR = tmp_path / "var" / "artifacts"
    JOBS.names()
    JOBS._entries["plain_test"] = PlainJob
    yield
    JOBS._entries.pop("plain_test")


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """(run, queue) of every message that would go to the broker; the tests of the worker use a real one."""
    messages: list[tuple[str, str]] = []

    def send(args: list[str], queue: str) -> None:
        messages.append((args[0], queue))

    monkeypatch.setattr(run_job, "apply_async", send)
    return messages


@pytest.fixture
def project() -> Project:
    return ProjectFactory()


def fill(dataset: Dataset, n: int = 6) -> Dataset:
    """n decided pairs, the longer response chosen in two of three, and one tie. Topics alternate."""
    for i in range(n):
        example = ExampleFactory(dataset=dataset, meta={"topic": "odd" if i % 2 else "even", "rank": i})
        long = ResponseFactory(example=example, number=0, messages=says("a much longer response " * (i + 1)))
        short = ResponseFactory(example=example, number=1, messages=says("short"))
        verdict = "b" if i % 3 == 2 else "a"
        PreferenceFactory(
            example=example, response_a=long, response_b=short, verdict=verdict, preference_strength=1 + i % 3
        )
    tied = ExampleFactory(dataset=dataset, meta={"topic": "even"})
    first, second = ResponseFactory(example=tied, number=0), ResponseFactory(example=tied, number=1)
    PreferenceFactory(example=tied, response_a=first, response_b=second, verdict="tie")
    dataset.n_preferences, dataset.n_examples, dataset.n_responses = n + 1, n + 1, 2 * n + 2
    dataset.metadata_keys = ["topic", "rank"]
    dataset.save()
    return dataset


@pytest.fixture
def dataset(project: Project) -> Dataset:
    return fill(DatasetFactory(project=project, name="Pairs"))


def submit(project: Project, now: Any, **spec: Any) -> Run:
    return run_submit(project=project, kind="plain_test", spec=spec, user=None, now=now, enqueue=False)
