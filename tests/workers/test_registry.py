"""Registries, specs and errors."""

import pickle
import subprocess
import sys

import pytest
from pydantic import Field

from workers.errors import JobError, SpecError
from workers.families import FAMILIES
from workers.jobs import JOBS
from workers.objectives import OBJECTIVES
from workers.registry import Registry, UnknownName
from workers.specs import SpecModel, parse_spec

EVERY = [(r, name) for r in (FAMILIES, JOBS, OBJECTIVES) for name in r.names()]


def test_names() -> None:
    assert {"length", "random", "scalar_head"} <= set(FAMILIES.names())
    assert {"evaluate", "score", "train_rm"} <= set(JOBS.names())
    assert "bradley_terry" in OBJECTIVES


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownName, match=r"families has no 'nope'; known: .*length, .*random, .*scalar_head"):
        FAMILIES.get("nope")


def test_a_name_is_taken_once_and_in_lower_snake_case() -> None:
    registry: Registry[object] = Registry("workers.families")

    @registry.add("one")
    class One:
        """One."""

    assert registry.add("one")(One) is One
    with pytest.raises(ValueError, match="already has"):
        registry.add("one")(type("Other", (), {}))
    with pytest.raises(ValueError, match="lower snake case"):
        registry.add("Not This")


@pytest.mark.parametrize(("registry", "name"), EVERY, ids=lambda v: getattr(v, "package", v))
def test_every_entry_is_described(registry, name) -> None:
    entry = registry.get(name)
    model = getattr(entry, "Spec", None) or entry.Config
    assert entry.__doc__
    assert entry.title
    assert entry.name == name
    for field_name, field in model.model_fields.items():
        assert field.description, f"{name}.{field_name} has no description"
    assert model.model_config["extra"] == "forbid"
    assert model.model_json_schema()["additionalProperties"] is False


def test_registries_load_without_torch_or_django() -> None:
    code = """
import sys
for name in ("torch", "transformers", "safetensors", "django", "celery"):
    sys.modules[name] = None
from workers.families import FAMILIES
from workers.jobs import JOBS
from workers.objectives import OBJECTIVES
print(*FAMILIES.names(), *JOBS.names(), *OBJECTIVES.names())
JOBS.get("train_rm").Spec.model_json_schema()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "scalar_head" in done.stdout


class Inner(SpecModel):
    """Inner."""

    rate: float = Field(default=1.0, gt=0)


class Outer(SpecModel):
    """Outer."""

    parts: list[Inner] = []


def test_a_wrong_field_is_pointed_at() -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(Outer, {"parts": [{"rate": 1}, {"rate": -1}], "a/b": 1}, at="/spec")
    assert [(e["pointer"], e["code"]) for e in caught.value.errors] == [
        ("/spec/parts/1/rate", "greater_than"),
        ("/spec/a~1b", "extra_forbidden"),
    ]


@pytest.mark.parametrize(
    ("spec", "pointer"),
    [
        ({"learning_rate": -1}, "/learning_rate"),
        ({"learning_rate": float("nan")}, "/learning_rate"),
        ({"bogus": 1}, "/bogus"),
        ({"objective": "nope"}, "/objective"),
        ({"objective": "bradley_terry", "objective_config": {"nope": 1}}, "/objective_config"),
        ({"source": {}}, "/source"),
        ({"source": {"dataset": "a", "snapshot": "b"}}, "/source"),
        ({"seed": -1}, "/seed"),
        ({"dtype": "float16"}, "/dtype"),
    ],
)
def test_bad_training_specs(spec, pointer) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(JOBS.get("train_rm").Spec, {"reward_model": "m", "source": {"dataset": "d"}, **spec})
    assert [e["pointer"] for e in caught.value.errors] == [pointer]


def test_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(JobError("What happened.", "What to change.")))
    assert (error.message, error.hint) == ("What happened.", "What to change.")
    spec = SpecError([{"pointer": "/a", "code": "c", "detail": "d"}])
    assert pickle.loads(pickle.dumps(spec)).errors == spec.errors
