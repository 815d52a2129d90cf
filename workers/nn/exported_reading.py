"""What an exported folder says of itself in its config.json, and import reads again: the class alone cannot say it."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workers.data.loading_code import Reading
from workers.data.render import Renderer
from workers.errors import JobError

KEY = "steelyard"


class Steps(BaseModel):
    """Settings of a process reward model."""

    model_config = ConfigDict(extra="forbid", strict=True)
    aggregation: Literal["min", "mean", "last", "product", "sum"]
    tag: str = Field(max_length=100)
    mark: str = Field(max_length=100)
    answer: str = Field(max_length=20)


class ExportedReading(BaseModel):
    """How rewards follow from what the class gives; numbers by the name of the output."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    family: str
    rendering: Literal["chat_template", "plain"]
    constants: dict[str, float]
    weights: dict[str, float]
    steps: Steps | None = None

    @property
    def is_scalar(self) -> bool:
        """Whether what the class gives is the reward, not ratings of which it is made."""
        return self.weights == {"reward": 1.0}


def exported_reading(family: str, reading: Reading, renderer: Renderer) -> dict[str, Any]:
    """As JSON, for the config of an exported folder."""
    told = ExportedReading(
        family=family,
        rendering="chat_template" if renderer.uses_template else "plain",
        constants=dict(reading.constants),
        weights=dict(reading.weights),
        steps=Steps.model_validate(dict(reading.steps)) if reading.steps else None,
    )
    return told.model_dump()


def take_reading(config: Any, name: str) -> ExportedReading | None:
    """What a folder says of itself; it is taken out of the config, which the checkpoint keeps without it."""
    found = getattr(config, KEY, None)
    if found is not None:
        delattr(config, KEY)
    return reading_of(found, name)


def reading_of(found: Any, name: str) -> ExportedReading | None:
    """The same, checked; None where nothing is said. JobError names what is amiss."""
    if found is None:
        return None
    try:
        return ExportedReading.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, (KEY, *first["loc"])))
        raise JobError(
            f"The config.json of {name} says how to read it, but {place} is amiss: {first['msg']}.",
            f"Export it again, or take {KEY} out of its config.json.",
        ) from error
