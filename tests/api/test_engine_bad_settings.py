"""Bad settings of a training, over REST: refused with a pointer, or failed in words that say what to do."""

import json
from typing import Any
from uuid import uuid4

import pytest

from annotator.models import Dataset, Project
from rmeval.models import Checkpoint, RewardModel, Run
from rmeval.services.submission import sources_in
from tests.api.engine_runs import (
    RATED,
    Outcome,
    done,
    failed,
    pairs,
    register,
    stored,
    submit,
    train,
)
from tests.api.test_families_api import QUICK
from tests.api.test_runs_api import Api
from tests.rmeval.conftest import plain_job, project, sent  # noqa: F401 - fixtures

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("sent", "plain_job")]


@pytest.mark.parametrize(
    ("config", "status", "pointer"),
    [
        ({"samples": {"dataset": "nope"}}, 422, "/spec/objective_config/samples/dataset"),
        ({"samples": {"dataset": str(uuid4())}}, 404, "/spec/objective_config/samples"),
        ({}, 422, "/spec/objective_config/samples"),
    ],
)
def test_samples_are_looked_for_before_the_run(
    config: dict[str, Any],
    status: int,
    pointer: str,
    project: Project,  # noqa: F811
) -> None:
    found = train(stored(project, pairs()), "scalar_head", {}, objective="meta_bt", objective_config=config)
    assert (found.status, found.pointers) == (status, {pointer})
    assert found.run is None


SPECS: dict[str, tuple[str, dict[str, Any], set[str]]] = {
    "an unknown objective": ("scalar_head", {"objective": "nope"}, {"/spec/objective"}),
    "an objective of another family": ("scalar_head", {"objective": "step_bce"}, {"/spec/objective"}),
    "settings of another objective": ("scalar_head", {"objective_config": {"b": 1}}, {"/spec/objective_config/b"}),
    "gated without a first stage": ("gated", {}, {"/spec/start_from"}),
    "a head that is not solved for it": ("embedding_linear", {"objective": "margin_bt"}, {"/spec/objective"}),
    "adapters on a frozen backbone": ("embedding_linear", {"lora_rank": 4}, {"/spec/lora_rank"}),
    "processes on a frozen backbone": ("latent_user", {"processes": 2}, {"/spec/processes"}),
    "no batch": ("scalar_head", {"batch_pairs": 0}, {"/spec/batch_pairs"}),
    "batches beyond bounds": ("scalar_head", {"batch_pairs": 10**9}, {"/spec/batch_pairs"}),
    "everything held out": ("scalar_head", {"validation_share": 1}, {"/spec/validation_share"}),
    "no processes": ("scalar_head", {"processes": 0}, {"/spec/processes"}),
    "a rule trained": ("length", {}, {"/spec/reward_model"}),
    "a checkpoint that is none": ("scalar_head", {"start_from": "nope"}, {"/spec/start_from"}),
    "an edge that is no number": ("scalar_head", {"max_grad_norm": float("inf")}, {"/spec"}),
    "an edge without end, as a text": ("scalar_head", {"max_grad_norm": "9" * 400}, {"/spec/max_grad_norm"}),
    "a rate that is no number, as a text": ("scalar_head", {"learning_rate": "nan"}, {"/spec/learning_rate"}),
}  # fmt: skip


@pytest.mark.parametrize("name", SPECS)
def test_odd_settings_are_refused(name: str, project: Project) -> None:  # noqa: F811
    family, spec, pointers = SPECS[name]
    rows = stored(project, pairs(4))
    api = Api(project)
    if family == "length":
        made = api.post(f"projects/{project.uid}/reward-models/", {"name": "a rule", "family": family})
        model = made.json()["uid"]
    else:
        model = register(api, project, family, {})
    found = submit(
        api, project, "train_rm", {**QUICK, "reward_model": model, "source": {"dataset": str(rows.uid)}, **spec}
    )
    assert found.status in (400, 404, 422), (found.status, found.run and found.run.error)
    assert pointers <= found.pointers or found.status == 400, found.answer
    assert not Run.objects.exists()


EMPTY = [
    ("score", {"checkpoint": ""}, "/spec/checkpoint"),
    ("evaluate", {"checkpoint": ""}, "/spec/checkpoint"),
    ("export_checkpoint", {"checkpoint": "", "source": None}, "/spec/checkpoint"),
    ("train_rm", {"reward_model": ""}, "/spec/reward_model"),
    ("implicit_study", {"checkpoint": str(uuid4()), "implicit": "x"}, "/spec/checkpoint"),
]


@pytest.mark.parametrize(("kind", "spec", "pointer"), EMPTY)
def test_a_reference_that_names_nothing_is_refused(
    kind: str,
    spec: dict[str, Any],
    pointer: str,
    project: Project,  # noqa: F811
) -> None:
    source = {"dataset": str(stored(project, pairs(4)).uid)}
    usual: dict[str, Any] = {"source": source}
    if kind == "implicit_study":
        usual = {"settings": [{"name": "all", "kind": "train", "source": source}]}
    full = {name: value for name, value in {**usual, **spec}.items() if value is not None}
    found = submit(Api(project), project, kind, full)
    assert (found.status, found.pointers) in ((404, {pointer}), (422, {pointer})), found.answer
    assert not Run.objects.exists()


def test_a_study_of_two_checkpoints_looks_for_both_and_for_every_source(project: Project) -> None:  # noqa: F811
    rows = stored(project, pairs())
    own = checkpoint(rows, "scalar_head")
    settings = [{"name": "all", "kind": "train", "source": {"dataset": str(rows.uid)}}]
    full = {"checkpoint": own, "implicit": str(uuid4()), "settings": settings}
    found = submit(Api(project), project, "implicit_study", full)
    assert (found.status, found.pointers) == (404, {"/spec/implicit"})
    other = str(Checkpoint.objects.create(reward_model=RewardModel.objects.get(), number=9).uid)
    settings.append({"name": "none", "kind": "in_distribution", "source": {"dataset": str(uuid4())}})
    found = submit(Api(project), project, "implicit_study", {**full, "implicit": other})
    assert (found.status, found.pointers) == (404, {"/spec/settings/1/source"})


def test_an_audit_looks_for_the_pairs_that_were_judged_again(project: Project) -> None:  # noqa: F811
    rows = stored(project, pairs(60))
    model = register(Api(project), project, "embedding_linear", {})
    full = {"source": {"dataset": str(rows.uid)}, "reward_model": model, "reannotated": {"dataset": str(uuid4())}}
    found = submit(Api(project), project, "audit_labels", full)
    assert (found.status, found.pointers) == (404, {"/spec/reannotated"})


@pytest.mark.parametrize("family", ["policy_discriminator", "goal_conditioned", "autoregressive"])
def test_an_encoder_is_refused_where_a_language_model_is_needed(family: str, project: Project) -> None:  # noqa: F811
    body = {"name": "x", "family": family, "config": {"backbone": "minilm"}}
    answer = Api(project).post(f"projects/{project.uid}/reward-models/", body)
    assert answer.status_code == 422, answer.content
    assert [(e["pointer"], e["code"]) for e in answer.json()["errors"]] == [("/config/backbone", "not_causal")]
    assert "minilm," not in answer.json()["detail"].split(";")[1]


def test_whatever_a_run_looks_at_stays_as_it_is(project: Project) -> None:  # noqa: F811
    """Pairs judged again, the settings of a study, where a person has judged: none can be deleted from under a run."""
    rows, again, other = (stored(project, pairs(60)) for _ in range(3))
    spec = {
        "source": {"dataset": str(rows.uid), "strengths": None},
        "reannotated": {"dataset": str(again.uid), "snapshot": None},
        "settings": [{"name": "x", "source": {"dataset": str(other.uid)}}],
        "weights": {"dataset": 0.5},
    }
    assert [found["dataset"] for found in sources_in(spec)] == [str(d.uid) for d in (rows, again, other)]
    model = register(Api(project), project, "embedding_linear", {})
    full = {"source": {"dataset": str(rows.uid)}, "reward_model": model, "reannotated": {"dataset": str(again.uid)}}
    answer = Api(project).post(f"projects/{project.uid}/runs/", {"kind": "audit_labels", "spec": full})
    assert answer.status_code == 202, answer.content
    frozen = Dataset.objects.exclude(frozen_at=None).order_by("pk")
    assert list(frozen) == [rows, again]


@pytest.mark.parametrize("name", ["ñ" * 200, "~nobody-of-this-name/model", "a/" + "b" * 250])
def test_names_that_no_file_can_have_are_no_models(name: str, project: Project) -> None:  # noqa: F811
    api = Api(project)
    found = submit(api, project, "import_rm", {"model": name})
    assert (found.status, found.pointers) == (422, {"/spec/model"})
    body = {"name": "x", "family": "scalar_head", "config": {"backbone": name}}
    answer = api.post(f"projects/{project.uid}/reward-models/", body)
    assert answer.status_code == 422, answer.content


def test_weights_that_are_no_numbers_are_refused(project: Project) -> None:  # noqa: F811
    config = {"attributes": ["charm", "wit"], "weights": {"charm": "nan"}}
    body = {"name": "x", "family": "multi_attribute", "config": {"backbone": "tiny-encoder", **config}}
    answer = Api(project).post(f"projects/{project.uid}/reward-models/", body)
    assert answer.status_code == 422, answer.content
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/config/weights/charm"]


def study(project: Project, **spec: Any) -> Outcome:  # noqa: F811
    api = Api(project)
    rows = stored(project, pairs())
    model = register(api, project, spec.pop("family", "scalar_head"), spec.pop("config", {}))
    settings = {"epochs": 1, "batch_pairs": 8, "max_steps": 1, **spec.pop("settings", {})}
    full = {"reward_model": model, "source": {"dataset": str(rows.uid)}, "n_seeds": 1, "settings": settings, **spec}
    return submit(api, project, "train_study", full)


@pytest.mark.parametrize(
    "spec",
    [
        {"question": "learning_curve", "shares": [0.5, 1.0], "settings": {"validation_share": 0}},
        {"question": "learning_curve", "shares": []},
        {"question": "learning_curve", "shares": ["nan", 1.0]},
        {"question": "learning_curve", "shares": [0.5, "-inf"]},
        {"question": "learning_curve", "shares": [0.5, 1.0], "settings": {"nope": 1}},
        {"question": "grid", "grid": {"nope": [1, 2]}},
        {"question": "grid", "grid": {"config.nope": [1, 2]}},
        {"question": "grid", "grid": {"learning_rate": [1e-3, "fast"]}},
        {"question": "grid", "grid": {"epochs": [1, 2], "seed": []}},
        {"question": "grid", "grid": {"epochs": [1, 1]}},
        {"question": "learning_curve", "shares": [0.5, 0.5]},
        {"question": "compare", "arms": [{"name": "one"}]},
        {"question": "compare", "arms": [{"name": "one"}, {"name": "two", "settings": {"objective": "step_bce"}}]},
    ],
    ids=lambda spec: json.dumps(spec)[:60],
)
def test_odd_studies_are_refused(spec: dict[str, Any], project: Project) -> None:  # noqa: F811
    found = study(project, **spec)
    assert found.status == 422, (found.status, found.run and found.run.error)
    assert found.pointers


def test_an_arm_is_checked_together_with_the_reward_model(project: Project) -> None:  # noqa: F811
    """Weights name attributes that the reward model has, and the arm alone does not; or that neither has: refused."""
    config = {"attributes": ["charm", "wit"]}

    def with_weights(weights: dict[str, float]) -> Any:
        arms = [{"name": "plain"}, {"name": "heavier", "config": {"weights": weights}}]
        return study(project, question="compare", arms=arms, family="multi_attribute", config=config)

    fitting = with_weights({"charm": 1, "wit": 2})
    assert fitting.status == 202, fitting.answer
    failed(fitting, "none of 32")
    found = with_weights({"helpfulness": 1})
    assert found.status == 422
    assert "heavier" in found.answer["detail"]


def checkpoint(rows: Dataset, family: str, **config: Any) -> str:
    found = train(rows, family, config, max_steps=1)
    assert found.run is not None, found.answer
    assert found.run.state == "done", found.run.error
    return str((found.run.result or {})["checkpoint"])


@pytest.mark.parametrize(
    ("first", "backbone", "then", "config"),
    [
        ("scalar_head", "tiny-causal", "scalar_head", {}),
        ("scalar_head", "tiny-encoder", "autoregressive", {}),
        ("scalar_head", "tiny-causal", "autoregressive", {}),
        ("scalar_head", "tiny-encoder", "gated", RATED),
    ],
)
def test_going_on_from_what_does_not_fit(
    first: str,
    backbone: str,
    then: str,
    config: dict[str, Any],
    project: Project,  # noqa: F811
) -> None:
    rows = stored(project, pairs())
    start = checkpoint(rows, first, backbone=backbone)
    found = train(rows, then, config, start_from=start)
    if found.run is None:  # another backbone is known before the run begins
        assert found.answer["errors"][0]["pointer"] == "/spec/start_from"
    else:
        failed(found, "start")


def test_going_on_from_another_family_says_what_was_taken(project: Project) -> None:  # noqa: F811
    rows = stored(project, pairs())
    found = train(rows, "twin_head", {}, start_from=checkpoint(rows, "scalar_head"))
    done(found, {})
    assert "the head is new" in found.logs


def test_going_on_from_a_rule(project: Project) -> None:  # noqa: F811
    rows = stored(project, pairs())
    api = Api(project)
    rule = api.post(f"projects/{project.uid}/reward-models/", {"name": "Length", "family": "length"}).json()
    found = train(rows, "scalar_head", {}, start_from=rule["checkpoint"])
    assert found.run is None
    assert "no weights to start from" in found.answer["detail"]
