"""The demo loads whole, twice without harm, and never over somebody real."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from annotator.models import Dataset, Example, Judgement, Project, Queue, Role, Snapshot, User
from annotator.services.demo import N_JUDGED, PEOPLE
from rmeval.models import RewardModel, Run
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def home(settings: Any, tmp_path: Path) -> Path:
    settings.VAR_DIR = tmp_path
    settings.DEMO_PASSWORD = "for the demo"
    return tmp_path


def demo(*arguments: str) -> str:
    out = io.StringIO()
    call_command("demo", *arguments, stdout=out)
    return out.getvalue()


def test_the_demo_is_whole_and_loading_it_again_changes_nothing(home: Path) -> None:
    said = demo()
    assert "for the demo" in said
    assert (home / "demo-logins.txt").read_text() in said
    project = Project.objects.get()
    assert {m.user.username: m.role for m in project.memberships.select_related("user")} == PEOPLE
    assert all(user.check_password("for the demo") for user in User.objects.all())
    assert {d.state for d in Dataset.objects.all()} == {"ready"}
    assert sum(d.n_errors + d.n_duplicates for d in Dataset.objects.all()) == 0
    assert sum(Dataset.objects.values_list("n_examples", flat=True)) == Example.objects.count() > 900
    begun = Queue.objects.get(dataset__name="Everyday prompts")
    assert Judgement.objects.filter(queue=begun, is_current=True).count() == 2 * N_JUDGED
    assert Judgement.objects.filter(queue=begun).values("item").distinct().count() == N_JUDGED
    assert begun.n_items > N_JUDGED
    assert Snapshot.objects.get().n_rows > N_JUDGED / 2
    assert set(RewardModel.objects.values_list("family", flat=True)) == {"length", "random", "scalar_head"}
    assert sorted(Run.objects.values_list("kind", flat=True)) == ["evaluate", "evaluate", "train_rm", "train_rm"]
    counts = [model.objects.count() for model in (User, Project, Dataset, Example, Judgement, RewardModel, Run)]
    demo()
    assert counts == [model.objects.count() for model in (User, Project, Dataset, Example, Judgement, RewardModel, Run)]


def test_no_prompt_is_in_training_and_test() -> None:
    demo("--no-runs")
    test = set(Example.objects.filter(dataset__name="Held-out test prompts").values_list("prompt_hash", flat=True))
    rest = set(Example.objects.exclude(dataset__name="Held-out test prompts").values_list("prompt_hash", flat=True))
    assert {bytes(h) for h in test}.isdisjoint(bytes(h) for h in rest)


def test_reset_puts_the_old_demo_away() -> None:
    demo("--no-runs")
    demo("--no-runs", "--reset")
    old, new = Project.objects.order_by("pk")
    assert old.archived_at is not None
    assert new.archived_at is None
    assert new.memberships.filter(role=Role.LEAD).get().user.username == "lead"
    assert Judgement.objects.count() == 4 * N_JUDGED


def test_somebody_real_of_that_name_is_left_alone() -> None:
    lead = UserFactory(username="lead", password="their own")
    with pytest.raises(CommandError, match="lead"):
        demo()
    lead.refresh_from_db()
    assert lead.check_password("their own")
    assert not Project.objects.exists()


def test_in_production_the_password_is_drawn_and_said_once(settings: Any, home: Path) -> None:
    settings.DEMO_PASSWORD = ""
    password = demo("--no-runs").strip().rpartition(" ")[2]
    assert User.objects.get(username="lead").check_password(password)
    assert demo("--no-runs").strip().endswith("as it was")
    assert not (home / "demo-logins.txt").exists()
