"""Bad data and bad settings in front of the training engine, over REST and PostgreSQL.

Each is refused with a pointer, fails in words that say what to do, or ends with what was left out counted and named.
"""

import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest

from annotator.models import Dataset, Project
from rmeval.failures import OWN_FAULT_HINT
from rmeval.models import Run, RunEvent
from tests.api.test_families_api import QUICK
from tests.api.test_runs_api import Api
from tests.factories import DatasetFactory, ExampleFactory, PreferenceFactory, ResponseFactory
from tests.factories import assistant_message as says
from tests.factories import user_message as asks
from tests.rmeval.conftest import plain_job, project, sent  # noqa: F401 - fixtures
from workers.families import FAMILIES
from workers.objectives import OBJECTIVES
from workers.tasks import run_job

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("sent", "plain_job")]

Row = dict[str, Any]
RATED = {"attributes": ["helpfulness", "correctness"]}


def pairs(n: int = 16, **same: Any) -> list[Row]:
    """Decided pairs on n / 2 prompts: no raters, ratings, references or steps."""
    return [
        {
            "prompt": f"What is {i // 2} + 1?",
            "a": f"It is {i // 2 + 1}, {'surely ' * (i % 5)}",
            "b": f"Perhaps {i * 3}",
            "verdict": "b" if i % 3 == 2 else "a",
            **same,
        }
        for i in range(n)
    ]


def each(rows: list[Row], change: Any) -> list[Row]:
    """`rows` with change(number, row) on top of every one."""
    return [{**row, **change(i, row)} for i, row in enumerate(rows)]


def rated(value: Any = None) -> list[Row]:
    """Pairs whose responses are rated; or with one odd value where a rating of the first response should be."""

    def change(i: int, _: Row) -> Row:
        good = {"helpfulness": 3 + i % 2, "correctness": 4 - i % 3}
        return {
            "meta_a": good if value is None else {**good, "helpfulness": value},
            "meta_b": {"helpfulness": i % 3, "correctness": 0},
        }

    return each(pairs(), change)


def stepped(**odd: Any) -> list[Row]:
    """Pairs whose responses have two labelled steps; `odd` replaces what the first says of its own."""

    def change(i: int, row: Row) -> Row:
        told = {"steps": [f"Add 1 to {i}.", f"So {i + 1}."], "step_labels": [1, i % 2]}
        text = " ".join(told["steps"])
        return {"a": text, "b": f"{text} ", "meta_a": {**told, **odd}, "meta_b": told}

    return each(pairs(), change)


def of_raters(n: int) -> list[Row]:
    return each(pairs(24), lambda i, _: {"meta": {"rater": f"rater {i % n}"}})


def stored(project: Project, rows: list[Row]) -> Dataset:  # noqa: F811
    made = DatasetFactory(project=project, name="Odd")
    for row in rows:
        example = ExampleFactory(dataset=made, prompt=asks(row["prompt"]), meta=row.get("meta", {}))
        a, b = (
            ResponseFactory(example=example, number=n, messages=says(row[side]), meta=row.get(f"meta_{side}", {}))
            for n, side in enumerate("ab")
        )
        if row.get("verdict"):
            PreferenceFactory(example=example, response_a=a, response_b=b, verdict=row["verdict"])
    made.n_preferences = sum(1 for row in rows if row.get("verdict"))
    made.n_examples, made.n_responses = len(rows), 2 * len(rows)
    made.save()
    return made


@dataclass
class Outcome:
    """What became of a submission."""

    status: int
    answer: dict[str, Any]
    run: Run | None = None

    @property
    def pointers(self) -> set[str]:
        return {error["pointer"] for error in self.answer.get("errors", [])}

    @property
    def logs(self) -> str:
        found = RunEvent.objects.filter(run=self.run, kind=RunEvent.Kind.LOG).order_by("pk")
        return "\n".join(found.values_list("message", flat=True))


def register(api: Api, project: Project, family: str, config: dict[str, Any]) -> str:  # noqa: F811
    backbone = "tiny-causal" if getattr(FAMILIES.get(family), "causal_only", False) else "tiny-encoder"
    body = {
        "name": f"a {family} {uuid4()}",
        "family": family,
        "config": {"backbone": backbone, "max_length": 64, **config},
    }
    made = api.post(f"projects/{project.uid}/reward-models/", body)
    assert made.status_code == 201, made.content
    return str(made.json()["uid"])


def submit(api: Api, project: Project, kind: str, spec: dict[str, Any]) -> Outcome:  # noqa: F811
    """Submit, run as a worker would, and read back over REST: no 500, and JSON without nan."""
    answer = api.post(f"projects/{project.uid}/runs/", {"kind": kind, "spec": spec})
    assert answer.status_code < 500, answer.content
    if answer.status_code != 202:
        return Outcome(answer.status_code, answer.json())
    uid = answer.json()["uid"]
    with suppress(Exception):  # a worker logs it; what people see is asked below
        run_job(uid)
    seen = api.get(f"runs/{uid}/")
    assert seen.status_code == 200
    json.dumps(seen.json(), allow_nan=False)
    return Outcome(202, seen.json(), Run.objects.get(uid=uid))


def train(rows: Dataset, family: str, config: dict[str, Any], **spec: Any) -> Outcome:
    api = Api(rows.project)
    model = register(api, rows.project, family, config)
    full = {**QUICK, "rater_key": None, "reward_model": model, "source": {"dataset": str(rows.uid)}, **spec}
    return submit(api, rows.project, "train_rm", full)


def failed(found: Outcome, *words: str) -> None:
    assert found.run is not None, found.answer
    assert found.run.state == "failed", (found.run.state, found.run.result)
    told = found.run.error or {}
    assert told["hint"], told
    assert told["hint"] != OWN_FAULT_HINT, told
    for word in words:
        assert word.lower() in f"{told['message']} {told['hint']}".lower(), told


def done(found: Outcome, left_out: dict[str, int]) -> dict[str, Any]:
    assert found.run is not None, found.answer
    assert found.run.state == "done", found.run.error
    result: dict[str, Any] = found.run.result or {}
    assert result["left_out"] == left_out, result["left_out"]
    assert result["n_left_out"] == sum(left_out.values())
    assert result["probe_difference"] <= 1e-4
    for reason, n in left_out.items():
        assert f"{n} {reason.replace('_', ' ')}" in found.logs
    return result


@dataclass
class Case:
    """Data and settings, and the words of the failure or what is left out."""

    family: str
    rows: list[Row]
    says: tuple[str, ...] = ()
    left_out: dict[str, int] | None = None
    config: dict[str, Any] = field(default_factory=dict)
    spec: dict[str, Any] = field(default_factory=dict)
    logs: tuple[str, ...] = ()


LONG = "word " * 400
HEBREW, ARABIC = "\u05e9\u05dc\u05d5\u05dd", "\u0645\u0631\u062d\u0628\u0627"
BEYOND_BMP = "\U0001f3f3\ufe0f\u200d\U0001f308\u0301\U0001d518"
DATA = {
    "pairs without steps": Case("process", pairs(), ("none of 32", "32 no steps")),
    "pairs without ratings": Case(
        "multi_attribute", pairs(), ("none of 32", "32 no rating of the attributes"), config=RATED
    ),
    "pairs without references": Case("reference_verifier", pairs(), ("none of 32",)),
    "labels without references": Case(
        "reference_verifier", each(pairs(), lambda *_: {"meta_a": {"correct": 1}, "meta_b": {"correct": 0}}),
        ("none of 32", "32 no reference answer"),
    ),
    "right responses alone": Case(
        "scalar_head", each(pairs(), lambda *_: {"meta_a": {"correct": 1}, "meta_b": {"correct": 1}}),
        ("have the label 1",), spec={"objective": "outcome_bce"},
    ),
    "right steps alone": Case(
        "process", each(stepped(step_labels=[1, 1]), lambda *_: {"meta_b": {}}), ("have the label 1",)
    ),
    "every verdict the same way": Case("scalar_head", pairs(verdict="a"), left_out={}),
    "one rater of latent users": Case(
        "latent_user", of_raters(1), ("One rater", "not identifiable"), spec={"rater_key": "rater"}
    ),
    "no raters of latent users": Case("latent_user", pairs(), ("No rater", "not identifiable", "rater_key")),
    "raters that are null": Case(
        "latent_user", each(of_raters(4), lambda i, r: {} if i % 4 else {"meta": {"rater": None}}),
        left_out={"no rater": 6}, spec={"rater_key": "rater"},
        config={"latent": 2, "hidden": 8, "n_references": 4},
    ),
    "a rater key that is not there": Case(
        "scalar_head", pairs(), left_out={}, spec={"rater_key": "nope"}, logs=("no row has the metadata key nope",)
    ),
    "a source key that is not there": Case(
        "scalar_head", pairs(), left_out={}, spec={"source_key": "nope"}, logs=("no row has the metadata key nope",)
    ),
    "half without one attribute": Case(
        "multi_attribute", each(rated(), lambda i, r: {} if i % 2 else {"meta_a": {"helpfulness": i % 5}}),
        left_out={}, config=RATED,
    ),
    "half without any attribute": Case(
        "multi_attribute", each(rated(), lambda i, r: {} if i % 2 else {"meta_a": {}}),
        left_out={"no rating of the attributes": 8}, config=RATED,
    ),
    "an attribute nobody rates": Case(
        "multi_attribute", rated(), ("No training response has a rating of charm",),
        config={"attributes": ["helpfulness", "charm"]},
    ),
    "ratings that are nan in words": Case(
        "multi_attribute", rated("NaN"), left_out={"no rating of the attributes": 16},
        config={"attributes": ["helpfulness"]},
    ),
    "ratings that are texts": Case(
        "multi_attribute", rated("4"), left_out={"no rating of the attributes": 16},
        config={"attributes": ["helpfulness"]},
    ),
    "ratings that are booleans": Case("multi_attribute", rated(True), left_out={}, config=RATED),
    "ratings too large for a number": Case(
        "multi_attribute", rated(10**400), left_out={"no rating of the attributes": 16},
        config={"attributes": ["helpfulness"]},
    ),
    "ratings near the largest number": Case(
        "multi_attribute", rated(10**200), ("finite",), config={"attributes": ["helpfulness"]},
    ),
    "labels too large for a number": Case(
        "process", stepped(step_labels=[10**400, 0]), left_out={"a label outside 0 to 1": 16}
    ),
    "steps of another text": Case(
        "process", stepped(steps=["Something else.", "Entirely."]), left_out={"steps not in the response": 16}
    ),
    "more labels than steps": Case(
        "process", stepped(step_labels=[1, 0, 1]), left_out={"labels do not match steps": 16}
    ),
    "steps that are no texts": Case("process", stepped(steps=[1, 2]), left_out={"no steps": 16}),
    "labels that are words": Case("process", stepped(step_labels=["no", "yes"]), left_out={"no labelled step": 16}),
    "references in half of the rows": Case(
        "reference_verifier",
        each(
            pairs(),
            lambda i, _: {
                "meta": {"reference": "2"} if i % 2 else {},
                "meta_a": {"correct": 1},
                "meta_b": {"correct": 0},
            },
        ),
        left_out={"no reference answer": 16},
    ),
    "verdicts that contradict": Case(
        "embedding_linear", each(pairs(), lambda i, _: {"a": "yes", "b": "no", "verdict": "ab"[i % 2]}), left_out={}
    ),
    "the same response twice": Case(
        "scalar_head", each(pairs(), lambda i, r: {} if i % 2 else {"b": r["a"]}), left_out={"same response twice": 8}
    ),
    "two pairs": Case("scalar_head", each(pairs(2), lambda i, _: {"prompt": f"Question {i}"}), left_out={}),
    "one prompt": Case(
        "scalar_head", pairs(prompt="The same"), left_out={}, logs=("No pairs are held out",)
    ),
    "one prompt with a solved head": Case("embedding_linear", pairs(prompt="The same"), ("one prompt", "l2")),
    "empty responses": Case("scalar_head", each(pairs(), lambda i, r: {} if i % 2 else {"b": ""}), left_out={}),
    "every response empty": Case(
        "scalar_head", pairs(a="", b=""), ("none of 16", "16 same response twice"),
    ),
    "empty prompts": Case("scalar_head", pairs(prompt=""), left_out={}),
    "responses longer than the context": Case(
        "scalar_head", each(pairs(), lambda i, r: {"a": LONG + r["a"]}), left_out={},
        logs=("16 responses alone were longer",),
    ),
    "prompts longer than the context": Case(
        "scalar_head", each(pairs(), lambda i, r: {"prompt": r["prompt"] + LONG}), left_out={},
        logs=("prompts were longer than the model reads",),
    ),
    "likelihoods of long responses": Case(
        "autoregressive", each(pairs(), lambda i, r: {"a": LONG} if i % 2 else {}),
        left_out={"response longer than the model reads": 8},
    ),
    "gated without a first stage": Case(
        "gated", pairs(), ("first stage", "start_from"), config={"attributes": ["helpfulness", "correctness"]}
    ),
    "text of all scripts": Case(
        "scalar_head",
        each(
            pairs(),
            lambda i, r: {"prompt": f"{HEBREW} {i // 2}", "a": f"{ARABIC}\u202e {r['a']}", "b": BEYOND_BMP * (i + 1)},
        ),
        left_out={},
    ),
    "strengths too large for a number": Case(
        "scalar_head", pairs(meta={"m": 10**400}), ("16 no strength measured",),
        spec={"objective": "soft_margin_bt", "objective_config": {"strength_key": "m"}},
    ),
    "a batch larger than the data": Case("scalar_head", pairs(), left_out={}, spec={"batch_pairs": 4096}),
    "a token budget below one sequence": Case("scalar_head", pairs(), left_out={}, spec={"token_budget": 16}),
    "ranks larger than a layer": Case("scalar_head", pairs(), left_out={}, spec={"lora_rank": 1024}),
    "a mixture with context router first": Case(
        "mixture", each(pairs(), lambda *_: {"meta": {"context": "brief"}}), ("mixture_nll",),
        spec={"objective": "mixture_router"},
    ),
    "a context router without contexts": Case(
        "mixture", pairs(), ("16 no context",), spec={"objective": "mixture_router"}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DATA)
def test_odd_data(name: str, project: Project) -> None:  # noqa: F811
    case = DATA[name]
    found = train(stored(project, case.rows), case.family, case.config, **case.spec)
    if case.left_out is None:
        failed(found, *case.says)
    else:
        done(found, case.left_out)
    for line in case.logs:
        assert line.lower() in found.logs.lower(), found.logs


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


@pytest.mark.slow
def test_processes_say_what_is_wrong_with_their_data(project: Project) -> None:  # noqa: F811
    failed(train(stored(project, pairs()), "multi_attribute", RATED, processes=2), "none of 32")


@pytest.mark.parametrize("verdict", ["tie", "both_bad"])
def test_pairs_without_a_preference_are_refused(verdict: str, project: Project) -> None:  # noqa: F811
    found = train(stored(project, pairs(verdict=verdict)), "scalar_head", {})
    assert (found.status, found.pointers) == (422, {"/spec/source"})


def test_ties_alone_on_the_held_out_side(project: Project) -> None:  # noqa: F811
    """One decided pair is left to train on: nothing to count an accuracy of, and no nan in its place."""
    rows = each(pairs(24, verdict="tie"), lambda i, r: {"prompt": f"Question {i}"})
    rows += each(pairs(2), lambda i, r: {"prompt": "The only one that is decided"})
    found = train(
        stored(project, rows), "scalar_head", {}, objective_config={"ties": "half"}, objective="bradley_terry"
    )
    result = done(found, {})
    assert result["validation_final"]["accuracy"] is None or result["validation_final"]["accuracy"]["n"] > 0


PAIRWISE = [
    (family, objective)
    for family, entry in sorted(FAMILIES.items())
    for objective, other in sorted(OBJECTIVES.items())
    if entry.trainable and other.rows == "pairs" and other.needs <= entry.capabilities
    if family == "scalar_head" or getattr(entry, "default_objective", "") == objective
]
"""Every family with its usual objective, and one family with all that it can be trained with."""


@pytest.mark.parametrize(("family", "objective"), PAIRWISE)
def test_two_pairs(family: str, objective: str, project: Project) -> None:  # noqa: F811
    """One to train on, one held out: it ends with figures that are numbers, or in words."""
    rows = each(pairs(2), lambda i, _: {"prompt": f"Question {i}", "meta": {"source": f"source {i}"}})
    found = train(stored(project, rows), family, {}, objective=objective, source_key="source")
    assert found.run is not None, found.answer
    if found.run.state == "failed":
        failed(found)
    else:
        done(found, {})


SPECS: dict[str, tuple[str, dict[str, Any], set[str]]] = {
    "an unknown objective": ("scalar_head", {"objective": "nope"}, {"/spec/objective"}),
    "an objective of another family": ("scalar_head", {"objective": "step_bce"}, {"/spec/objective"}),
    "settings of another objective": ("scalar_head", {"objective_config": {"b": 1}}, {"/spec/objective_config/b"}),
    "adapters on a frozen backbone": ("embedding_linear", {"lora_rank": 4}, {"/spec/lora_rank"}),
    "processes on a frozen backbone": ("latent_user", {"processes": 2}, {"/spec/processes"}),
    "no batch": ("scalar_head", {"batch_pairs": 0}, {"/spec/batch_pairs"}),
    "batches beyond bounds": ("scalar_head", {"batch_pairs": 10**9}, {"/spec/batch_pairs"}),
    "everything held out": ("scalar_head", {"validation_share": 1}, {"/spec/validation_share"}),
    "no processes": ("scalar_head", {"processes": 0}, {"/spec/processes"}),
    "a rule trained": ("length", {}, {"/spec/reward_model"}),
    "a checkpoint that is none": ("scalar_head", {"start_from": "nope"}, {"/spec/start_from"}),
    "an edge that is no number": ("scalar_head", {"max_grad_norm": float("inf")}, {"/spec"}),
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
    """Weights name attributes that the reward model has, and the arm alone does not; or that neither has."""
    config = {"attributes": ["charm", "wit"]}
    for weights, words in (({"charm": 1, "wit": 2}, "none of 32"), ({"helpfulness": 1}, "heavier")):
        arms = [{"name": "plain"}, {"name": "heavier", "config": {"weights": weights}}]
        found = study(project, question="compare", arms=arms, family="multi_attribute", config=config)
        assert found.status == 202, found.answer
        failed(found, words)


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
    failed(train(rows, then, config, start_from=start), "start")


def test_going_on_from_another_family_says_what_was_taken(project: Project) -> None:  # noqa: F811
    rows = stored(project, pairs())
    found = train(rows, "twin_head", {}, start_from=checkpoint(rows, "scalar_head"))
    done(found, {})
    assert "the head is new" in found.logs


def test_going_on_from_a_rule(project: Project) -> None:  # noqa: F811
    rows = stored(project, pairs())
    api = Api(project)
    rule = api.post(f"projects/{project.uid}/reward-models/", {"name": "Length", "family": "length"}).json()
    failed(train(rows, "scalar_head", {}, start_from=rule["checkpoint"]), "rule")
