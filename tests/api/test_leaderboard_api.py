"""REST: leaderboards and comparisons give the figures of their pages."""

from typing import Any

import pytest

from annotator.models import Dataset, Project, Role
from rmeval.models import Checkpoint
from tests.api.test_runs_api import Api, api  # noqa: F401 - fixture
from tests.factories import DatasetFactory, ProjectFactory
from tests.rmeval.conftest import dataset, fill, plain_job, project, sent  # noqa: F401 - fixtures
from tests.rmeval.test_evaluation import baseline, evaluate

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("sent", "plain_job")]


@pytest.fixture
def board(project: Project, dataset: Dataset) -> tuple[Checkpoint, Checkpoint]:  # noqa: F811
    made = baseline(project, name="longer"), baseline(project, name="shorter", prefer="shorter")
    for checkpoint in made:
        evaluate(checkpoint, {"dataset": str(dataset.uid)})
    return made


def test_leaderboard(dataset: Dataset, board: Any, api: Api) -> None:  # noqa: F811
    body = api.get(f"leaderboards/{dataset.uid}/", slice="topic").json()
    assert (body["kind"], body["name"], body["n_pairs"]) == ("dataset", dataset.name, 6)
    first, second = body["rows"]
    assert (first["name"], second["name"]) == ("longer #1", "shorter #1")
    assert first["accuracy"] == {
        "value": pytest.approx(4 / 6),
        "low": pytest.approx(0.29999, abs=1e-4),
        "high": pytest.approx(0.90323, abs=1e-4),
        "n": 6,
        "interval": "wilson",
        "n_prompts": 6,
        "n_effective": 6.0,
    }
    assert first["slices"]["odd"]["n"] == 3
    assert first["is_baseline"]
    by_margin = api.get(f"leaderboards/{dataset.uid}/", sort="margin").json()
    assert by_margin["rows"][0]["name"] == "longer #1"


def test_compare(dataset: Dataset, board: tuple[Checkpoint, Checkpoint], api: Api) -> None:  # noqa: F811
    a, b = board
    query = {"a": a.uid, "b": b.reward_model.uid, "dataset": dataset.uid, "cell": "a_only"}
    body = api.get("compare/", **query).json()
    assert body["cells"] == {"both": 0, "a_only": 4, "b_only": 2, "neither": 0}
    assert body["mcnemar"] == {"n_a_only": 4, "n_b_only": 2, "p_value": pytest.approx(0.6875)}
    assert body["b"]["checkpoint"] == str(b.uid)
    assert [pair["cell"] for pair in body["pairs"]] == ["a_only"] * 4
    assert body["next_after"] is None
    assert body["pairs"][0]["a_margin"] == -body["pairs"][0]["b_margin"]


def test_refusals(project: Project, dataset: Dataset, board: tuple[Checkpoint, Checkpoint], api: Api) -> None:  # noqa: F811
    a, b = board
    incomplete = api.get("compare/", a=a.uid)
    assert (incomplete.status_code, incomplete.json()["code"]) == (422, "incomplete")
    untrained = api.post(f"projects/{project.uid}/reward-models/", {"name": "new", "family": "scalar_head"}).json()[
        "uid"
    ]
    missing = api.get("compare/", a=a.uid, b=untrained, dataset=dataset.uid)
    assert (missing.status_code, missing.json()["code"]) == (404, "no_checkpoint")
    elsewhere = fill(DatasetFactory())
    assert api.get("compare/", a=a.uid, b=b.uid, dataset=elsewhere.uid).status_code == 404
    stranger = Api(ProjectFactory(), Role.LEAD)
    query = {"a": a.uid, "b": b.uid, "dataset": dataset.uid}
    assert stranger.get("compare/", **query).status_code == 404
    assert stranger.get(f"leaderboards/{dataset.uid}/").status_code == 404
    assert Api(project, Role.ANNOTATOR).get(f"leaderboards/{dataset.uid}/").status_code == 403
    assert Api(project, Role.VIEWER).get("compare/", **query).status_code == 200
