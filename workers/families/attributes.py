"""What families that rate attributes are asked for."""

from collections.abc import Sequence
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from workers.errors import JobError
from workers.families.base import BackboneConfig
from workers.stats.goodness import goodness_weights

HELPSTEER = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
ARMORM = (
    *(f"helpsteer-{name}" for name in HELPSTEER),
    "ultrafeedback-overall_score",
    "ultrafeedback-instruction_following",
    "ultrafeedback-truthfulness",
    "ultrafeedback-honesty",
    "ultrafeedback-helpfulness",
    "beavertails-is_safe",
    "prometheus-score",
    "argilla-overall_quality",
    "argilla-judge_lm",
    "code-complexity",
    "code-style",
    "code-explanation",
    "code-instruction-following",
    "code-readability",
)
"""The 19 objectives of ArmoRM, in its order (Wang et al. 2024, arXiv 2406.12845)."""
MOST = 128


class AttributeConfig(BackboneConfig):
    """A backbone and the attributes its head rates."""

    attributes: list[str] = Field(
        default=list(HELPSTEER),
        min_length=1,
        max_length=MOST,
        description="Names of the ratings to predict, as the responses carry them. HelpSteer's five by default.",
    )
    weights: dict[str, float] = Field(
        default={},
        description="Weight of each attribute in the reward. Empty: HelpSteer2's 0.65 helpfulness, 0.8 correctness and"
        " 0.45 coherence where these are rated, else the first attribute.",
    )

    @field_validator("attributes")
    @classmethod
    def _names_differ(cls, value: list[str]) -> list[str]:
        if any(not name.strip() or name != name.strip() or len(name) > 100 for name in value):
            raise ValueError("names without spaces around them, of at most 100 characters")
        if len(set(value)) < len(value):
            raise ValueError("every attribute once")
        return value

    @model_validator(mode="after")
    def _weights_fit(self) -> Self:
        if self.attributes:
            goodness_weights(self.attributes, self.weights)
        elif self.weights:
            raise ValueError("weights are for attributes, and there are none")
        return self

    @property
    def goodness(self) -> list[float]:
        """The weight of every attribute in the reward, in their order."""
        return goodness_weights(self.attributes, self.weights)


def reading(config: BackboneConfig, attributes: Sequence[str]) -> dict[str, Any]:
    """What a head depends on besides its numbers; kept with them, so that a later stage can see whether it fits."""
    return {"attributes": list(attributes), "pooling": config.pooling, "rendering": config.rendering}


def refuse_other_reading(own: dict[str, Any], found: dict[str, Any]) -> None:
    """JobError where features are not read as the head to start from was fitted on them."""
    for key, value in own.items():
        if found.get(key) != value:
            raise JobError(
                f"The checkpoint to start from has {key} {_words(found.get(key))}; this reward model has"
                f" {_words(value)}.",
                f"Give both the same {key}.",
            )


def _words(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)
