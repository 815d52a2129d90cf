"""Bad data in front of the training engine, over REST and PostgreSQL.

It is refused with a pointer, fails in words that say what to do, or is left out, counted and named.
"""

from dataclasses import dataclass, field
from typing import Any

import pytest

from annotator.models import Project
from tests.api.engine_runs import RATED, Row, done, each, failed, of_raters, pairs, rated, stepped, stored, train
from tests.rmeval.conftest import plain_job, project, sent  # noqa: F401 - fixtures
from workers.families import FAMILIES
from workers.objectives import OBJECTIVES

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("sent", "plain_job")]


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
        logs=("Responses alone longer than the model reads, whose end was cut: 16",),
    ),
    "prompts longer than the context": Case(
        "scalar_head", each(pairs(), lambda i, r: {"prompt": r["prompt"] + LONG}), left_out={},
        logs=("Prompts longer than the model reads",),
    ),
    "likelihoods of long responses": Case(
        "autoregressive", each(pairs(), lambda i, r: {"a": LONG} if i % 2 else {}),
        left_out={"response longer than the model reads": 8},
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
    if family != "gated"  # is refused without a first stage, see test_engine_bad_settings
    if family == "scalar_head" or getattr(entry, "default_objective", "") == objective
]
"""Every family with its usual objective, and one family with all that it can be trained with."""


@pytest.mark.parametrize(("family", "objective"), PAIRWISE)
def test_two_pairs(family: str, objective: str, project: Project) -> None:  # noqa: F811
    """One to train on, one held out: it ends with figures that are numbers, or in words."""
    rows = each(pairs(2), lambda i, _: {"prompt": f"Question {i}", "meta": {"source": f"source {i}"}})
    told = {"objective_config": {"step_size": 0}} if objective == "meta_bt" else {}  # else it asks for samples
    found = train(stored(project, rows), family, {}, objective=objective, source_key="source", **told)
    assert found.run is not None, found.answer
    if found.run.state == "failed":
        failed(found)
    else:
        done(found, {})
