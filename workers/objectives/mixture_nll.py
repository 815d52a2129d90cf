"""Heads and router of a mixture, from plain pairs of unknown raters."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from workers.data.schema import PreferencePair
from workers.objectives import OBJECTIVES
from workers.objectives.base import PairTargets, PairwiseObjective, Rows, pair_targets
from workers.specs import SpecModel

if TYPE_CHECKING:
    from torch import Tensor

    from workers.nn.net import Net
    from workers.nn.units import UnitData
    from workers.nn.view import BatchView


@OBJECTIVES.add("mixture_nll")
class MixtureNll(PairwiseObjective):
    """-log sum_k f_k(x) sigmoid(D_k), plus alpha sum_k f_k log f_k, which spreads the router over the heads.

    A mixture of probabilities: every head explains the pairs of some of the people. At the end it says how many tastes
    the held-out pairs really show, and warns where they show none.
    """

    title: ClassVar[str] = "Mixture likelihood"
    needs: ClassVar[frozenset[str]] = frozenset({"heads", "router"})

    class Config(SpecModel):
        """Settings of the mixture likelihood."""

        alpha: float = Field(default=0.5, ge=0, le=100, description="Weight of the router's negative entropy.")
        ties: Literal["drop", "half"] = Field(
            default="drop", description="Leave ties out, or aim at even odds. Pairs where both are bad are left out."
        )

    def __init__(self, config: Config) -> None:
        self.config = config

    def targets(self, pairs: Sequence[PreferencePair]) -> PairTargets:
        return pair_targets(pairs, ties=self.config.ties)

    def batch_loss(self, view: "BatchView") -> "Tensor":
        from workers.nn.mixture_report import pair_losses, pair_outputs

        log_f, margins = pair_outputs(view)
        negative_entropy = (log_f.exp() * log_f).sum(dim=1)
        return pair_losses(log_f, margins, view.targets) + self.config.alpha * _like(log_f, view) * negative_entropy

    def validation_loss(self, view: "BatchView") -> "Tensor":
        from workers.nn.mixture_report import pair_losses, pair_outputs

        return pair_losses(*pair_outputs(view), view.targets)

    def finish(self, net: "Net", data: "UnitData", rows: Rows, *, budget: int) -> dict[str, Any]:
        """Is one reward enough? Measured on the held-out pairs; `warnings` where groups cannot be told apart."""
        from workers.nn.mixture import MixtureHead
        from workers.nn.mixture_report import mixture_report

        if isinstance(net.head, MixtureHead):
            net.head.end_stage_one()
        return mixture_report(net, data, rows, budget=budget)


def _like(log_f: "Tensor", view: "BatchView") -> "Tensor":
    import torch

    return torch.as_tensor(view.targets.weight, dtype=torch.float32, device=log_f.device)
