"""REST: runs and reward models."""

from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone

from annotator.models import Dataset, Project, Role
from rmeval.models import RewardModel, Run
from tests.factories import ApiTokenFactory, DatasetFactory, MembershipFactory, ProjectFactory
from tests.rmeval.conftest import dataset, fill, plain_job, project, sent, submit  # noqa: F401 - fixtures
from tests.rmeval.test_evaluation import baseline, evaluate

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("sent", "plain_job")]


class Api:
    """A member's REST client, with a token."""

    def __init__(self, project: Project, role: str = Role.RESEARCHER) -> None:  # noqa: F811
        user = MembershipFactory(project=project, role=role).user
        secret = uuid4().hex
        ApiTokenFactory(user=user, secret=secret)
        self.client = Client(headers={"Authorization": f"Token {secret}"})

    def get(self, path: str, **query: Any) -> Any:
        return self.client.get(f"/api/v1/{path}", query)

    def post(self, path: str, body: Any = None) -> Any:
        return self.client.post(f"/api/v1/{path}", body or {}, content_type="application/json")


@pytest.fixture
def api(project: Project) -> Api:  # noqa: F811
    return Api(project)


def test_submit_look_cancel_retry(project: Project, api: Api, sent: list[Any]) -> None:  # noqa: F811
    made = api.post(f"projects/{project.uid}/runs/", {"kind": "plain_test", "spec": {"n_steps": 2}})
    assert made.status_code == 202
    uid = made.json()["uid"]
    assert sent == [(uid, "default")]
    seen = api.get(f"runs/{uid}/").json()
    assert (seen["state"], seen["spec"]["n_steps"], seen["project"]) == ("queued", 2, str(project.uid))
    assert api.post(f"runs/{uid}/retry/").json()["code"] == "run_not_ended"
    cancelled = api.post(f"runs/{uid}/cancel/")
    assert (cancelled.status_code, cancelled.json()["state"]) == (202, "cancelled")
    again = api.post(f"runs/{uid}/cancel/")
    assert (again.status_code, again.json()["code"]) == (409, "run_ended")
    assert again["Content-Type"] == "application/problem+json"
    retried = api.post(f"runs/{uid}/retry/")
    assert retried.status_code == 202
    assert api.get(f"runs/{retried.json()['uid']}/").json()["parent"] == uid
    listed = api.get(f"projects/{project.uid}/runs/", state="queued").json()["results"]
    assert [row["uid"] for row in listed] == [retried.json()["uid"]]
    events = api.get(f"runs/{uid}/events/", kind="state").json()["results"]
    assert events[0]["message"] == "Run cancelled before a worker had it"


@pytest.mark.parametrize(
    ("body", "status", "pointers"),
    [
        ({}, 422, {"/kind", "/spec"}),
        ({"kind": "magic", "spec": {}}, 422, {"/kind"}),
        ({"kind": "plain_test", "spec": []}, 422, {"/spec"}),
        ({"kind": "plain_test", "spec": {"learning_rate": -1, "odd": 1}}, 422, {"/spec/learning_rate", "/spec/odd"}),
        ({"kind": "plain_test", "spec": {}, "when": "now"}, 422, {"/when"}),
        ({"kind": "plain_test", "spec": {"fail": "a\0b"}}, 422, {"/spec"}),
        ({"kind": "evaluate", "spec": {"checkpoint": "x", "source": {"dataset": "y"}}}, 422, {"/spec/checkpoint"}),
        (
            {"kind": "evaluate", "spec": {"checkpoint": str(uuid4()), "source": {"dataset": str(uuid4())}}},
            404,
            {"/spec/checkpoint"},
        ),
        ({"kind": "evaluate", "spec": {"checkpoint": str(uuid4()), "source": {}}}, 422, {"/spec/source"}),
        ({"kind": "train_rm", "spec": {"objective": "magic"}}, 422, None),
    ],
)
def test_wrong_specs(project: Project, api: Api, body: Any, status: int, pointers: set[str] | None) -> None:  # noqa: F811
    answer = api.post(f"projects/{project.uid}/runs/", body)
    assert answer.status_code == status, answer.content
    found = {error["pointer"] for error in answer.json()["errors"]}
    assert found == pointers if pointers else "/spec/objective" in found
    assert not Run.objects.exists()


def test_the_same_key_gives_one_run(project: Project, api: Api) -> None:  # noqa: F811
    body = {"kind": "plain_test", "spec": {}, "idempotency_key": "one"}
    first, second = (api.post(f"projects/{project.uid}/runs/", body).json() for _ in range(2))
    assert first == second
    assert api.post(f"projects/{project.uid}/runs/", body | {"spec": {"n_steps": 9}}).status_code == 409
    assert Run.objects.count() == 1


def test_roles(project: Project) -> None:  # noqa: F811
    run = submit(project, timezone.now())
    body = {"kind": "plain_test", "spec": {}}
    viewer, annotator = Api(project, Role.VIEWER), Api(project, Role.ANNOTATOR)
    stranger = Api(ProjectFactory(), Role.LEAD)
    assert viewer.get(f"runs/{run.uid}/").status_code == 200
    assert viewer.post(f"runs/{run.uid}/cancel/").status_code == 403
    assert viewer.post(f"projects/{project.uid}/runs/", body).status_code == 403
    assert annotator.get(f"runs/{run.uid}/").status_code == 403
    for path in (f"runs/{run.uid}/", f"runs/{run.uid}/events/", f"projects/{project.uid}/runs/"):
        assert stranger.get(path).status_code == 404
        assert Client().get(f"/api/v1/{path}").status_code == 401
    for path in (f"runs/{run.uid}/cancel/", f"runs/{run.uid}/retry/", f"projects/{project.uid}/runs/"):
        assert stranger.post(path, body).status_code == 404


def test_register_reward_models(project: Project, api: Api) -> None:  # noqa: F811
    path = f"projects/{project.uid}/reward-models/"
    made = api.post(path, {"name": "Length", "family": "length"})
    assert made.status_code == 201
    assert made.json()["checkpoint"]
    trainable = api.post(path, {"name": "Mine", "family": "scalar_head", "source": "tiny-encoder"})
    assert trainable.json()["checkpoint"] is None
    shown = api.get(f"reward-models/{trainable.json()['uid']}/").json()
    assert (shown["config"]["backbone"], shown["checkpoints"]) == ("tiny-encoder", [])
    assert len(api.get(path).json()["results"]) == 2
    wrong = {
        "/name": {"name": " ", "family": "length"},
        "/family": {"name": "x", "family": "oracle"},
        "/config/unit": {"name": "x", "family": "length", "config": {"unit": "miles"}},
        "/source": {"name": "x", "family": "length", "source": "gpt"},
        "/size": {"name": "x", "family": "length", "size": 3},
    }
    for pointer, body in wrong.items():
        answer = api.post(path, body)
        assert answer.status_code == 422, body
        assert answer.json()["errors"][0]["pointer"] == pointer
    taken = api.post(path, {"name": "Mine", "family": "length"})
    assert (taken.status_code, taken.json()["code"]) == (409, "name_taken")
    assert RewardModel.objects.count() == 2


def test_sources_of_another_project_are_not_found(project: Project, dataset: Dataset, api: Api) -> None:  # noqa: F811
    elsewhere = fill(DatasetFactory())
    own, foreign = baseline(project), baseline(elsewhere.project)
    for checkpoint, source in ((own, elsewhere), (foreign, dataset)):
        spec = {"checkpoint": str(checkpoint.uid), "source": {"dataset": str(source.uid)}}
        assert api.post(f"projects/{project.uid}/runs/", {"kind": "evaluate", "spec": spec}).status_code == 404


def test_a_result_is_readable(project: Project, dataset: Dataset, api: Api) -> None:  # noqa: F811
    run = evaluate(baseline(project), {"dataset": str(dataset.uid)})
    shown = api.get(f"runs/{run.uid}/").json()
    assert shown["result"]["accuracy"]["n"] == 6
    assert shown["environment"]["versions"]
    assert shown["error"] is None
