"""What tests of bad input to the training engine share: rows, and runs submitted and worked off over REST."""

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from annotator.models import Dataset, Project
from rmeval.failures import OWN_FAULT_HINT
from rmeval.models import Run, RunEvent
from tests.api.test_families_api import QUICK
from tests.api.test_runs_api import Api
from tests.factories import DatasetFactory, ExampleFactory, PreferenceFactory, ResponseFactory
from tests.factories import assistant_message as says
from tests.factories import user_message as asks
from workers.families import FAMILIES
from workers.tasks import run_job

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


def stored(project: Project, rows: list[Row]) -> Dataset:
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


def register(api: Api, project: Project, family: str, config: dict[str, Any]) -> str:
    backbone = "tiny-causal" if getattr(FAMILIES.get(family), "causal_only", False) else "tiny-encoder"
    body = {
        "name": f"a {family} {uuid4()}",
        "family": family,
        "config": {"backbone": backbone, "max_length": 64, **config},
    }
    made = api.post(f"projects/{project.uid}/reward-models/", body)
    assert made.status_code == 201, made.content
    return str(made.json()["uid"])


def submit(api: Api, project: Project, kind: str, spec: dict[str, Any]) -> Outcome:
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
