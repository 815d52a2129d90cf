"""Turn raw JSON into a typed spec or config, or say which field is wrong and why."""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from workers.errors import FieldProblem, SpecError

M = TypeVar("M", bound=BaseModel)


class SpecModel(BaseModel):
    """Base of every job spec, family config and objective config: immutable, and an unknown key is an error.

    So is a number that is none or has no end, also as a text ("nan", "1e999"): neither JSON nor PostgreSQL keeps it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def parse_spec(model: type[M], raw: Any, *, at: str = "") -> M:
    """`raw` as `model`. SpecError carries one JSON pointer per wrong field, below the pointer `at`."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        problems: list[FieldProblem] = [
            {
                "pointer": at + "".join(f"/{_escape(part)}" for part in found["loc"]),
                "code": found["type"],
                "detail": _detail(found["type"], found["msg"]),
            }
            for found in error.errors(include_url=False, include_input=False)
        ]
        raise SpecError(problems) from error


def _detail(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "This key is not known."
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return "Input should be an object"
    return message.removeprefix("Value error, ")


def _escape(part: str | int) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")
