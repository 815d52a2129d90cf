"""Scores from files: into the checkpoint of a `score_file` reward model, by the API and the command line."""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from annotator.errors import InvalidInput, ProjectArchived
from annotator.models import Dataset, Project, Response, Role
from rmeval.models import Checkpoint, Run, Score
from rmeval.services import score_imports
from rmeval.services.reward_models import reward_model_register
from rmeval.services.score_imports import scores_import
from rmeval.services.submission import run_submit
from tests.factories import (
    ApiTokenFactory,
    CheckpointFactory,
    DatasetFactory,
    ExampleFactory,
    MembershipFactory,
    ResponseFactory,
)
from tests.factories import assistant_message as says
from tests.rmeval.conftest import fill
from workers.data.rows import Limits
from workers.errors import JobError
from workers.families import FAMILIES
from workers.tasks import run_job

pytestmark = pytest.mark.django_db


@pytest.fixture
def checkpoint(project: Project) -> Checkpoint:
    made = reward_model_register(project=project, name="Elsewhere", family="score_file", config={}, user=None)
    return made.checkpoints.get()


def lines(*rows: Any) -> bytes:
    return b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)


def send(checkpoint: Checkpoint, data: bytes, **options: Any) -> Any:
    return scores_import(checkpoint=checkpoint, stream=io.BytesIO(data), name="scores", limits=Limits(), **options)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def stored(checkpoint: Checkpoint) -> dict[int, float]:
    return dict(Score.objects.filter(checkpoint=checkpoint).values_list("response_id", "value"))


def test_responses_are_named_in_three_ways(checkpoint: Checkpoint, dataset: Dataset) -> None:
    first, second, third = Response.objects.filter(example__dataset=dataset).order_by("pk")[:3]
    rows = [
        {"response": str(first.uid), "score": 1.5},
        {"example": str(second.example.uid), "number": second.number, "reward": -2},
    ]
    told = send(checkpoint, lines(*rows))
    assert (told.n_rows, told.n_scored, told.n_errors) == (2, 2, 0)
    by_text = f"response_sha256,score\n{sha256(third.text)},0.25\n".encode()
    assert send(checkpoint, by_text).n_scored == 1
    assert stored(checkpoint) == {first.pk: 1.5, second.pk: -2.0, third.pk: 0.25}


def test_parquet(checkpoint: Checkpoint, dataset: Dataset) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    responses = list(Response.objects.filter(example__dataset=dataset).order_by("pk"))
    table = pa.table({"response": [str(r.uid) for r in responses], "score": [float(r.pk) for r in responses]})
    out = io.BytesIO()
    pq.write_table(table, out)
    assert send(checkpoint, out.getvalue()).n_scored == len(responses)
    assert stored(checkpoint) == {r.pk: float(r.pk) for r in responses}


def test_nothing_is_scored_twice(checkpoint: Checkpoint, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_imports, "BATCH", 3)
    responses = list(Response.objects.filter(example__dataset=dataset).order_by("pk"))
    data = lines(*[{"response": str(r.uid), "score": r.pk / 7} for r in responses])
    assert send(checkpoint, data).n_scored == len(responses)
    again = send(checkpoint, data)
    assert (again.n_scored, again.n_known, again.n_errors) == (0, len(responses), 0)
    with pytest.raises(InvalidInput, match="never changed"):
        send(checkpoint, lines({"response": str(responses[0].uid), "score": 99}))
    twice = {"response": str(responses[0].uid)}
    told = send(checkpoint, lines({**twice, "score": responses[0].pk / 7}, {**twice, "score": 5}))
    assert [(e["line"], e["code"]) for e in told.errors] == [(2, "other_score")]
    assert stored(checkpoint) == {r.pk: r.pk / 7 for r in responses}


def test_a_file_that_contradicts_itself_keeps_its_first_score(checkpoint: Checkpoint, dataset: Dataset) -> None:
    one = Response.objects.filter(example__dataset=dataset)[0]
    rows = [{"response": str(one.uid), "score": 1}, {"example": str(one.example.uid), "number": one.number, "score": 2}]
    told = send(checkpoint, lines(*rows))
    assert (told.n_scored, told.errors[0]["line"]) == (1, 2)
    assert stored(checkpoint) == {one.pk: 1.0}


def test_bad_rows_are_named_by_line_and_the_good_kept(checkpoint: Checkpoint, dataset: Dataset) -> None:
    one = Response.objects.filter(example__dataset=dataset)[0]
    good = {"response": str(one.uid), "score": "0.5"}
    foreign = ResponseFactory(example=ExampleFactory(dataset=DatasetFactory()))
    bad = [
        (b"{broken", "not valid JSON"),
        ({"response": str(one.uid)}, "one number as `score`"),
        ({"response": str(one.uid), "score": "high"}, "not a finite number"),
        (b'{"response": "%s", "score": 1e999}' % str(one.uid).encode(), ""),
        ({"response": str(one.uid), "score": True}, "not a finite number"),
        ({"response": str(one.uid), "score": 1, "reward": 1}, "not both"),
        ({"response": "17", "score": 1}, "no uid"),
        ({"score": 1}, "none of them"),
        ({"example": str(one.example.uid), "score": 1}, "this row has example"),
        ({"example": str(one.example.uid), "number": -1, "score": 1}, "response's number"),
        ({"example": str(one.example.uid), "number": 99999, "score": 1}, "no such response"),
        ({"response_sha256": "abc", "score": 1}, "64 hexadecimal digits"),
        ({"response_sha256": "0" * 64, "score": 1}, "no such response"),
        ({"response": str(one.uid), "score": 1, "colour": "red"}, "no column 'colour'"),
        ({"response": str(foreign.uid), "score": 1}, "no such response"),
    ]
    told = send(checkpoint, lines(*[row for row, _ in bad], good))
    assert (told.n_rows, told.n_scored, told.n_errors) == (len(bad) + 1, 1, len(bad))
    found = {error["line"]: error["detail"] for error in told.errors}
    for line, (_, words) in enumerate(bad, start=1):
        assert words in found[line]
    assert stored(checkpoint) == {one.pk: 0.5}


def test_a_text_under_several_prompts_needs_its_prompt(checkpoint: Checkpoint, project: Project) -> None:
    dataset = DatasetFactory(project=project)
    prompts = [[{"role": "user", "content": text}] for text in ("one", "zwei Löwen")]
    made = [
        ResponseFactory(example=ExampleFactory(dataset=dataset, prompt=p), messages=says("Yes 日本")) for p in prompts
    ]
    row = {"response_sha256": sha256("Yes 日本"), "score": 1}
    with pytest.raises(InvalidInput, match="2 prompts have a response of this text"):
        send(checkpoint, lines(row))
    assert send(checkpoint, lines({**row, "prompt_sha256": sha256("zwei Löwen")})).n_scored == 1
    assert stored(checkpoint) == {made[1].pk: 1.0}
    other = DatasetFactory(project=project)
    twin = ResponseFactory(example=ExampleFactory(dataset=other, prompt=prompts[1]), messages=says("Yes 日本"))
    assert send(checkpoint, lines(row), dataset=other).n_scored == 1
    assert twin.pk in stored(checkpoint)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04zip", b"\x89PNG....", b"{"])
def test_files_that_cannot_be_read(checkpoint: Checkpoint, data: bytes) -> None:
    with pytest.raises(InvalidInput):
        send(checkpoint, data)


def test_evaluating_never_computes(checkpoint: Checkpoint, project: Project, settings: Any) -> None:
    from workers.tasks import execute, run_claim

    dataset = fill(DatasetFactory(project=project), 6)
    pairs = [p for p in dataset.preferences.order_by("pk") if p.verdict in "ab"]
    rows = [{"response": str(p.response_a.uid), "score": 1} for p in pairs[:4]]
    rows += [{"response": str(p.response_b.uid), "score": 0} for p in pairs[:4]]
    send(checkpoint, lines(*rows))
    spec = {"checkpoint": str(checkpoint.uid), "source": {"dataset": str(dataset.uid)}}
    run = run_submit(project=project, kind="evaluate", spec=spec, user=None, now=timezone.now(), enqueue=False)
    assert run_claim(run)
    execute(run)
    run.refresh_from_db()
    assert run.state == Run.State.DONE
    assert run.result["n_pairs"] == 4
    assert run.result["n_unscored"] == 2
    assert run.result["accuracy"]["value"] == pytest.approx(3 / 4)  # of the first four pairs the third prefers b
    assert run.result["scoring"]["n_scored"] == 0
    assert run.result["scoring"]["n_unscored"] > 0
    assert len(stored(checkpoint)) == 8
    with pytest.raises(JobError, match="come from a file"):
        FAMILIES.get("score_file").open(None, None)


def test_evaluating_without_a_score_says_so(checkpoint: Checkpoint, project: Project) -> None:
    dataset = fill(DatasetFactory(project=project), 6)
    spec = {"checkpoint": str(checkpoint.uid), "source": {"dataset": str(dataset.uid)}}
    run = run_submit(project=project, kind="evaluate", spec=spec, user=None, now=timezone.now(), enqueue=False)
    with pytest.raises(JobError, match="Not one pair has a score for both responses: 6 are without"):
        run_job(str(run.uid))


def test_an_archived_project_takes_none(checkpoint: Checkpoint, dataset: Dataset) -> None:
    project = checkpoint.reward_model.project
    project.archived_at = timezone.now()
    one = Response.objects.filter(example__dataset=dataset)[0]
    with pytest.raises(ProjectArchived):
        send(checkpoint, lines({"response": str(one.uid), "score": 1}))
    assert not stored(checkpoint)


class TestApi:
    @pytest.fixture
    def client(self, project: Project) -> Client:
        member = MembershipFactory(project=project, role=Role.RESEARCHER)
        ApiTokenFactory(user=member.user, secret="secret-of-scores")
        return Client(headers={"authorization": "Token secret-of-scores"})

    def test_by_stream_and_by_form(self, client: Client, checkpoint: Checkpoint, dataset: Dataset) -> None:
        first, second = Response.objects.filter(example__dataset=dataset)[:2]
        url = f"/api/v1/checkpoints/{checkpoint.uid}/scores/"
        body = lines({"response": str(first.uid), "score": 1}, {"response": "x", "score": 1})
        answer = client.post(url, data=body, content_type="application/x-ndjson")
        assert answer.status_code == 201, answer.content
        assert {key: answer.json()[key] for key in ("n_rows", "n_scored", "n_known", "n_errors")} == {
            "n_rows": 2,
            "n_scored": 1,
            "n_known": 0,
            "n_errors": 1,
        }
        assert answer.json()["errors"][0]["line"] == 2
        form = SimpleUploadedFile("scores.csv", f"response,score\n{second.uid},2\n".encode())
        answer = client.post(f"{url}?dataset={dataset.uid}", {"file": form})
        assert (answer.status_code, answer.json()["n_scored"]) == (201, 1)
        assert stored(checkpoint) == {first.pk: 1.0, second.pk: 2.0}

    def test_what_is_refused(self, client: Client, checkpoint: Checkpoint, project: Project, dataset: Dataset) -> None:
        url = f"/api/v1/checkpoints/{checkpoint.uid}/scores/"
        for query, code in (("?dataset=17", "not_a_uid"), (f"?dataset={DatasetFactory().uid}", "unknown_dataset")):
            answer = client.post(url + query, data=b"{}", content_type="application/x-ndjson")
            assert answer.status_code == 422
            assert answer.json()["errors"][0]["code"] == code
        assert client.post(url, data=b"", content_type="application/x-ndjson").status_code == 422
        assert client.post(url, {"nothing": "here"}).status_code == 422
        trained = CheckpointFactory(reward_model__project=project, reward_model__family="length")
        answer = client.post(f"/api/v1/checkpoints/{trained.uid}/scores/", data=b"{}", content_type="application/json")
        assert (answer.status_code, answer.json()["code"]) == (409, "scores_are_computed")


def test_the_command_line(checkpoint: Checkpoint, dataset: Dataset, tmp_path: Path) -> None:
    one = Response.objects.filter(example__dataset=dataset)[0]
    file = tmp_path / "scores.jsonl"
    file.write_bytes(lines({"response": str(one.uid), "score": 1}, b"{"))
    out = io.StringIO()
    call_command("scores_import", str(checkpoint.reward_model.uid), str(file), stdout=out)
    told = json.loads(out.getvalue())
    assert (told["n_scored"], told["n_errors"]) == (1, 1)
    with pytest.raises(CommandError, match="no checkpoint"):
        call_command("scores_import", str(dataset.uid), str(file))
    with pytest.raises(CommandError, match="cannot be opened"):
        call_command("scores_import", str(checkpoint.uid), str(tmp_path / "nothing"))
    with pytest.raises(CommandError, match="no dataset"):
        call_command("scores_import", str(checkpoint.uid), str(file), "--dataset", str(checkpoint.uid))
