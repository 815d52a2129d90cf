"""manage.py run: the same service as page and API, its result as JSON, its outcome as the exit code."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from annotator.models import Project
from rmeval.models import Run
from tests.factories import ProjectFactory, UserFactory

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("sent")]


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, dict[str, Any]]:
    try:
        call_command("run", *args)
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    return code, json.loads(capsys.readouterr().out)


def test_inline_prints_the_result(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = run(capsys, "plain_test", "--spec", '{"n_steps": 2}', "--project", project.name, "--inline")
    assert code == 0
    assert (told["state"], told["result"], told["error"]) == ("done", {"n_steps": 2, "attempt": 1}, None)


def test_a_failure_is_the_exit_code(project: Project, capsys: pytest.CaptureFixture[str], sent: list[Any]) -> None:
    code, told = run(capsys, "plain_test", "--spec", '{"fail": "job"}', "--project", str(project.uid), "--inline")
    assert code == 1
    assert told["error"] == {"message": "It cannot be done.", "hint": "Do something else."}
    assert sent == []


def test_without_waiting_it_prints_the_uid(
    project: Project, capsys: pytest.CaptureFixture[str], sent: list[Any], tmp_path: Path
) -> None:
    spec = tmp_path / "spec.json"
    spec.write_text('{"n_steps": 4}')
    user = UserFactory()
    args = ["plain_test", "--spec", f"@{spec}", "--project", project.name, "--user", user.username, "--key", "k"]
    code, told = run(capsys, *args)
    assert (code, told["state"]) == (0, "queued")
    assert run(capsys, *args)[1]["uid"] == told["uid"]
    assert sent == [(told["uid"], "default")]
    assert Run.objects.get().created_by == user


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["plain_test", "--spec", "{"], "not JSON"),
        (["plain_test", "--spec", "[]"], "JSON object"),
        (["plain_test", "--spec", "@/nowhere"], "No such file"),
        (["plain_test", "--spec", '{"learning_rate": -1}'], "/spec/learning_rate"),
        (["magic", "--spec", "{}"], "plain_test"),
        (["plain_test", "--spec", "{}", "--user", "nobody"], "no such user"),
    ],
)
def test_wrong_use_is_one_clear_line(project: Project, args: list[str], says: str) -> None:
    with pytest.raises(CommandError, match=says) as caught:
        call_command("run", *args, "--project", project.name)
    assert caught.value.returncode == 2


def test_the_project_must_be_one() -> None:
    ProjectFactory.create_batch(2, name="Twice")
    for name, says in (("Twice", "several"), ("None", "no such project")):
        with pytest.raises(CommandError, match=says):
            call_command("run", "plain_test", "--spec", "{}", "--project", name)
