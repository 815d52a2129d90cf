"""The fast baseline: a linear head on features of a frozen backbone, solved in closed form."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, model_validator

from workers.errors import FieldProblem, JobError
from workers.families import FAMILIES
from workers.families.attributes import MOST, AttributeConfig, reading
from workers.families.base import NetFamily

if TYPE_CHECKING:
    from workers.nn.heads import Head

FROM_PAIRS, FROM_RATINGS = "bradley_terry", "attribute_regression"


@FAMILIES.add("embedding_linear")
class EmbeddingLinearFamily(NetFamily):
    """Texts are read once by a backbone that stays as it is; the head on top is solved for, in seconds.

    From pairs: logistic regression on the difference of the two responses' features. From ratings: ridge regression
    of every attribute. What more elaborate training is worth shows against it.
    """

    title: ClassVar[str] = "Linear on frozen features"
    capabilities: ClassVar[frozenset[str]] = frozenset(
        {"pointwise", "trainable", "tokens", "scalar", "attributes", "features"}
    )
    frozen: ClassVar[bool] = True
    always_frozen: ClassVar[bool] = True

    class Config(AttributeConfig):
        """What the reward model is made of."""

        attributes: list[str] = Field(
            default=[],
            max_length=MOST,
            description="Ratings to predict, with the objective attribute_regression. Empty: one reward, learned from"
            " pairs.",
        )
        ranges: dict[str, tuple[float, float]] = Field(
            default={},
            description="Lowest and highest level by attribute, such as {helpfulness: [0, 4]}: a rating v is then"
            " fitted as (v - low + 0.5) / (high - low + 1). Without a range it is fitted in standard deviations.",
        )
        standardise: bool = Field(
            default=True, description="Give every feature mean 0 and deviation 1 on the training texts first."
        )
        intercept: bool = Field(default=True, description="Ratings have a constant part, which is not penalised.")
        l2: float | None = Field(
            default=None, gt=0, le=1e6, description="Penalty of the fit to pairs; empty: chosen by cross-validation."
        )
        folds: int = Field(
            default=5, ge=2, le=20, description="Folds of prompts on which a penalty is chosen, each left out in turn."
        )

        @model_validator(mode="after")
        def _ranges_fit(self) -> Self:
            unknown = sorted(self.ranges.keys() - set(self.attributes))
            if unknown:
                raise ValueError(f"ranges name attributes that are not there: {', '.join(unknown)}")
            if any(not low < high for low, high in self.ranges.values()):
                raise ValueError("a range is its lowest and then its highest level")
            return self

    @classmethod
    def head(cls, config: Any, width: int) -> "Head":
        from workers.nn.attribute_heads import AttributeHead

        if not config.attributes:
            return AttributeHead(width, told=reading(config, ["reward"]), tells=False)
        return AttributeHead(width, told=reading(config, config.attributes), goodness=config.goodness)

    @classmethod
    def refuses(cls, config: Mapping[str, Any], objective: str, spec: Any) -> FieldProblem | None:
        """The head is solved for two objectives alone, of which the attributes say the one that fits."""
        wanted = cls.usual_objective(config)
        if objective == wanted:
            return None
        kind = "rates attributes" if config.get("attributes") else "has no attributes"
        detail = f"This reward model {kind}: its head is solved for the objective {wanted} alone, not for {objective}."
        return FieldProblem(pointer="/objective", code="does_not_fit", detail=detail)

    @staticmethod
    def usual_objective(config: Mapping[str, Any]) -> str:
        return FROM_RATINGS if config.get("attributes") else FROM_PAIRS

    @classmethod
    def fit_head(cls, ctx: Any, config: Any, objective: Any, *, net: Any, data: Any, rows: Any, spec: Any) -> str:
        """Solve for the head on the training rows; says in words what was found."""
        from workers.nn.closed_form import solve_pairs, solve_ratings

        name = type(objective).name
        if name == FROM_RATINGS:
            return solve_ratings(ctx, net.head, data, rows[0], config=config, seed=spec.seed)
        if name != FROM_PAIRS:
            raise JobError(
                f"The head on frozen features is not solved for the objective {name}.",
                f"Choose {FROM_PAIRS} or {FROM_RATINGS}, or train a scalar_head with freeze_backbone.",
            )
        if config.attributes:
            raise JobError(
                "This reward model rates attributes, and pairs have no ratings.",
                f"Choose the objective {FROM_RATINGS}, or a reward model without attributes.",
            )
        return solve_pairs(ctx, net.head, data, rows[0], config=config, seed=spec.seed)
