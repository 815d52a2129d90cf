"""Every trainable family from REST to a leaderboard: register, train, evaluate, with real rows in PostgreSQL.

A new family is tried as soon as it is registered; what it needs besides the usual stands in NEEDS.
"""

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command

from annotator.models import Dataset, Preference, Project
from rmeval.models import Checkpoint, Evaluation, Run, Score
from tests.api.test_runs_api import Api
from tests.factories import DatasetFactory, ExampleFactory, PreferenceFactory, ResponseFactory, RewardModelFactory
from tests.factories import assistant_message as says
from tests.factories import user_message as asks
from tests.rmeval.conftest import plain_job, project, sent  # noqa: F401 - fixtures
from workers.families import FAMILIES
from workers.tasks import run_job

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("sent", "plain_job")]

TRAINABLE = sorted(name for name, family in FAMILIES.items() if family.trainable)
QUICK = {"epochs": 1, "batch_pairs": 8, "validation_share": 0.25, "learning_rate": 1e-3, "rater_key": "rater"}
NEEDS: dict[str, dict[str, Any]] = {
    "multi_attribute": {"config": {"attributes": ["helpfulness", "correctness"]}},
    "gated": {
        "config": {"attributes": ["helpfulness", "correctness", "verbosity"], "gate_width": 16, "gate_layers": 1},
        "start": {
            "family": "multi_attribute",
            "config": {"attributes": ["helpfulness", "correctness", "verbosity"]},
        },
    },
    "latent_user": {"config": {"latent": 4, "hidden": 16, "n_references": 8}},
    "bayesian_ensemble": {"start": {"family": "scalar_head", "config": {}}},
}


@pytest.fixture
def rows(project: Project) -> Dataset:  # noqa: F811
    """48 pairs of six raters with ratings, references and labelled steps: what any family may ask for."""
    made = DatasetFactory(project=project, name="Everything")
    for i in range(48):
        meta = {"rater": f"rater {i % 6}", "reference": f"{i} plus 1 is {i + 1}"}
        example = ExampleFactory(dataset=made, prompt=asks(f"What is {i // 2} + 1?"), meta=meta)
        steps = [f"Add 1 to {i}.", f"So it is {i + 1}."]
        told = {"correct": 1, "label": 1, "helpfulness": 4, "correctness": 3, "verbosity": i % 5, "steps": steps}
        good = ResponseFactory(
            example=example, number=0, messages=says(" ".join(steps)), meta={**told, "step_labels": [1, 1]}
        )
        steps = [f"Add 2 to {i}.", f"So it is {i + 2}, probably."]
        told = {"correct": 0, "label": 0, "helpfulness": 1, "correctness": 0, "verbosity": (i + 2) % 5, "steps": steps}
        bad = ResponseFactory(
            example=example, number=1, messages=says(" ".join(steps)), meta={**told, "step_labels": [1, 0]}
        )
        verdict = "b" if i % 6 == 5 else "a"
        PreferenceFactory(
            example=example, response_a=good, response_b=bad, verdict=verdict, preference_strength=1 + i % 3
        )
    made.n_preferences, made.n_examples, made.n_responses = 48, 48, 96
    made.metadata_keys = ["rater", "reference"]
    made.save()
    return made


def finish(api: Api, answer: Any) -> Run:
    """Run what was submitted, as a worker would, and give its row."""
    assert answer.status_code == 202, answer.content
    run_job(answer.json()["uid"])
    run = Run.objects.get(uid=answer.json()["uid"])
    assert run.state == "done", run.error
    return run


def train(api: Api, rows: Dataset, family: str, config: dict[str, Any], **spec: Any) -> str:
    backbone = "tiny-causal" if getattr(FAMILIES.get(family), "causal_only", False) else "tiny-encoder"
    usual = {"backbone": backbone, "max_length": 128}
    known = FAMILIES.get(family).Config.model_fields
    own = {name: value for name, value in usual.items() if name in known}  # an ensemble has no backbone of its own
    body = {"name": f"a {family}", "family": family, "config": {**own, **config}}
    model = api.post(f"projects/{rows.project.uid}/reward-models/", body)
    assert model.status_code == 201, model.content
    full = {**QUICK, "reward_model": model.json()["uid"], "source": {"dataset": str(rows.uid)}, **spec}
    run = finish(api, api.post(f"projects/{rows.project.uid}/runs/", {"kind": "train_rm", "spec": full}))
    assert run.result is not None
    assert run.result["probe_difference"] <= 1e-4
    return str(run.result["checkpoint"])


@pytest.mark.parametrize("family", TRAINABLE)
def test_a_family_from_rest_to_the_leaderboard(family: str, rows: Dataset) -> None:
    api, needs, spec = Api(rows.project), NEEDS.get(family, {}), {}
    if start := needs.get("start"):
        spec["start_from"] = train(api, rows, start["family"], start["config"])
    if family == "ensemble":
        first = train(api, rows, "scalar_head", {})
        second = train(api, rows, "embedding_linear", {})
        needs = {"config": {"members": [first, second]}}
    checkpoint = train(api, rows, family, needs.get("config", {}), **spec)
    spec = {"checkpoint": checkpoint, "source": {"dataset": str(rows.uid)}}
    run = finish(api, api.post(f"projects/{rows.project.uid}/runs/", {"kind": "evaluate", "spec": spec}))
    assert run.result is not None
    assert 0 <= run.result["accuracy"]["value"] <= 1
    assert run.result["accuracy"]["n"] == 48
    assert Evaluation.objects.filter(checkpoint__uid=checkpoint).exists()
    scores = Score.objects.filter(checkpoint=Checkpoint.objects.get(uid=checkpoint))
    assert scores.count() == 96
    assert len(set(scores.values_list("value", flat=True))) > 10
    board = api.get(f"leaderboards/{rows.uid}/")
    assert board.status_code == 200
    assert checkpoint in board.content.decode()


@pytest.mark.parametrize(
    ("attributes", "objective"), [([], "bradley_terry"), (["helpfulness", "verbosity"], "attribute_regression")]
)
@pytest.mark.parametrize("kind", ["train_rm", "train_study"])
def test_auto_follows_the_settings_of_the_reward_model(
    attributes: list[str], objective: str, kind: str, rows: Dataset
) -> None:
    """Ratings alone are asked for where attributes are: the data need no preferences then."""
    api = Api(rows.project)
    if attributes:
        Preference.objects.filter(example__dataset=rows).delete()
        Dataset.objects.filter(pk=rows.pk).update(n_preferences=0)
    config = {"backbone": "tiny-encoder", "attributes": attributes}
    body = {"name": "solved", "family": "embedding_linear", "config": config}
    model = api.post(f"projects/{rows.project.uid}/reward-models/", body).json()["uid"]
    spec: dict[str, Any] = {"reward_model": model, "source": {"dataset": str(rows.uid)}}
    if kind == "train_study":
        arms = [{"name": str(share), "settings": {"train_share": share}} for share in (0.5, 1)]
        spec |= {"arms": arms, "n_seeds": 2, "settings": {"validation_share": 0.25}}
    result = finish(api, api.post(f"projects/{rows.project.uid}/runs/", {"kind": kind, "spec": spec})).result
    assert result is not None
    assert result["objective"] == objective if kind == "train_rm" else len(result["runs"]) == 4


def test_auto_follows_the_settings_from_the_command_line(rows: Dataset) -> None:
    config = {"backbone": "tiny-encoder", "attributes": ["helpfulness"]}
    model = RewardModelFactory(project=rows.project, family="embedding_linear", config=config)
    spec = {"reward_model": str(model.uid), "source": {"dataset": str(rows.uid)}}
    out = StringIO()
    call_command("run", "train_rm", spec=json.dumps(spec), project=str(rows.project.uid), inline=True, stdout=out)
    run = Run.objects.get(kind="train_rm")
    assert run.state == "done", run.error
    assert run.result is not None
    assert run.result["objective"] == "attribute_regression"
