"""Several heads that each say how sure they are, for rewards that hold up when a policy pushes on them."""

from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, model_validator

from workers.errors import JobError
from workers.families import FAMILIES
from workers.families.base import BackboneConfig, NetFamily
from workers.stats.robust_mix import check_weights

if TYPE_CHECKING:
    from workers.nn.gaussian_heads import GaussianHeads


@FAMILIES.add("bayesian_ensemble")
class BayesianEnsembleFamily(NetFamily):
    """K linear heads on one backbone, each with mean and spread; the reward mixes the surest head with the lowest.

    Trained in a second stage: start_from a scalar_head checkpoint, whose backbone it keeps and whose margins it learns.
    """

    title: ClassVar[str] = "Bayesian ensemble of heads"
    capabilities: ClassVar[frozenset[str]] = frozenset(
        {"pointwise", "trainable", "tokens", "heads", "gaussian", "features"}
    )
    default_objective: ClassVar[str] = "gaussian_margins"
    frozen: ClassVar[bool] = True

    class Config(BackboneConfig):
        """What the reward model is made of."""

        n_heads: int = Field(default=5, ge=1, le=64, description="Heads, each trained on its own bootstrap.")
        w_nominal: float = Field(default=0.4, ge=0, le=1, description="Weight of the head that is most certain.")
        w_min: float = Field(default=0.6, ge=0, le=1, description="Weight of the lowest head; 1 - w_nominal.")
        standardise: bool = Field(
            default=True, description="Put the heads on one scale, that of the training responses, before they mix."
        )
        subset_share: float = Field(
            default=0.8, gt=0, le=1, description="Prompts drawn, with replacement, for each head; a share of all."
        )
        n_refits: int = Field(
            default=8, ge=0, le=64, description="Bootstraps of a head's pairs that show how much it does not know."
        )
        clip_margin: float = Field(default=5.0, gt=0, le=100, description="Stage-1 margins are held in this range.")
        ridge: float = Field(
            default=0.01,
            gt=0,
            le=100,
            description="Penalty of the heads' stage-1 fits, times the mean squared feature.",
        )

        @model_validator(mode="after")
        def _weights_add_up(self) -> Self:
            check_weights(self.w_nominal, self.w_min)
            return self

    @classmethod
    def head(cls, config: Any, width: int) -> "GaussianHeads":
        from workers.nn.gaussian_heads import GaussianHeads

        return GaussianHeads(
            width,
            n_heads=config.n_heads,
            w_nominal=config.w_nominal,
            w_min=config.w_min,
            standardise=config.standardise,
        )

    @classmethod
    def adopt(cls, net: Any, weights: Any, family: str) -> str:
        """Backbone and margins of stage 1; the scalar head itself is dropped."""
        stage1 = weights.tensors.get("head.weight")
        if family != "scalar_head" or stage1 is None or stage1.shape != (1, net.head.stage1.shape[0]):
            raise JobError(
                f"Stage 2 starts from a scalar head of one layer, not from this checkpoint of the family {family}.",
                "Train a reward model of the family scalar_head with head_depth 1 on the same backbone first.",
            )
        said = super().adopt(net, weights, family)
        net.head.stage1.copy_(stage1[0])
        return said + "; its margins are what stage 2 learns"

    @classmethod
    def prepare_head(cls, ctx: Any, config: Any, *, net: Any, data: Any, rows: Any) -> None:
        """Fit each head's own stage 1 and write all margins into the targets; the same at every attempt."""
        from workers.nn.gaussian_targets import fill_margins

        if bool(net.head.stage1.isnan().any()):
            ctx.log(
                "No stage-1 checkpoint in start_from: heads learn on the features of the backbone as it is", "warning"
            )
        fill_margins(ctx, config, net=net, data=data, rows=rows)
