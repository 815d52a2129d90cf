"""Stage 2 of a Bayesian ensemble: heads with mean and spread learn the margins of stage 1."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from workers.data.schema import PreferencePair
from workers.errors import JobError
from workers.objectives import OBJECTIVES
from workers.objectives.base import PairTargets, PairwiseObjective, Rows, pair_targets
from workers.specs import SpecModel

if TYPE_CHECKING:
    from torch import Tensor

    from workers.nn.net import Net
    from workers.nn.units import UnitData
    from workers.nn.view import BatchView


@dataclass(frozen=True)
class MarginTargets(PairTargets):
    """stage1 (n,): margin of the stage-1 checkpoint; own, variance, counts (n, k): each head's own stage-1 margin, how
    far that of its refits scatters about it (squared), and how often the pair counts for it. Filled by the family."""

    stage1: NDArray[np.float64]
    own: NDArray[np.float64]
    variance: NDArray[np.float64]
    counts: NDArray[np.float64]


@OBJECTIVES.add("gaussian_margins")
class GaussianMargins(PairwiseObjective):
    """Every head learns stage-1 margins on its own bootstrap of the pairs, and how sure it is of them.

    gauss_nll: 0.5 ((D - m_k)^2 / v + log v), v the summed variance of both rewards, m_k the head's own stage-1 margin.
    mse: (D - m)^2 + v, the squared error that a noisy reward is expected to make; it only ever shrinks the spread.
    """

    title: ClassVar[str] = "Gaussian heads on stage-1 margins"
    needs: ClassVar[frozenset[str]] = frozenset({"gaussian"})

    class Config(SpecModel):
        """Settings of stage 2."""

        stage2_loss: Literal["gauss_nll", "mse"] = Field(
            default="gauss_nll", description="mse needs a checkpoint in start_from, and leaves no spread to speak of."
        )

    def __init__(self, config: Config) -> None:
        self.config = config
        self.n_heads = 1

    def meet(self, config: Any) -> None:
        self.n_heads = config.n_heads

    def targets(self, pairs: Sequence[PreferencePair]) -> MarginTargets:
        plain = pair_targets(pairs)
        told = {f.name: getattr(plain, f.name) for f in fields(plain)}
        shape = (len(pairs), self.n_heads)
        return MarginTargets(
            **told,
            stage1=np.full(len(pairs), np.nan),
            own=np.full(shape, np.nan),
            variance=np.zeros(shape),
            counts=np.ones(shape),
        )

    def begin(self, net: "Net", data: "UnitData", rows: Rows, *, budget: int) -> None:
        targets: MarginTargets = data.targets  # type: ignore[assignment]
        if self.config.stage2_loss == "mse" and np.isnan(targets.stage1).any():
            raise JobError(
                "The loss mse learns the margins of a stage-1 reward model, and this run starts from none.",
                "Name a checkpoint of the family scalar_head in start_from, or use the loss gauss_nll.",
            )

    def batch_loss(self, view: "BatchView") -> "Tensor":
        import torch

        from workers.nn.gaussian_heads import GaussianHeads

        targets: MarginTargets = view.targets  # type: ignore[assignment]
        head = view.net.head
        if not isinstance(head, GaussianHeads):
            raise TypeError("these targets are for Gaussian heads")

        def like(values: NDArray[np.float64]) -> "Tensor":
            return torch.from_numpy(values).float().to(view.outputs[0].device)

        (mu_a, sigma_a), (mu_b, sigma_b) = (head.split(outputs) for outputs in view.outputs)
        v = sigma_a.square() + sigma_b.square()
        if self.config.stage2_loss == "mse":
            losses = (mu_a - mu_b - like(targets.stage1)[:, None]).square() + v
        else:
            error = (mu_a - mu_b - like(targets.own)).square() + like(targets.variance)
            losses = 0.5 * (error / v + v.log())
        return (losses * like(targets.counts)).sum(dim=1) * like(targets.weight)

    def finish(self, net: "Net", data: "UnitData", rows: Rows, *, budget: int) -> dict[str, Any]:
        """Standardise the heads on the training responses, and tell how they do and how alike they are."""
        from workers.nn.gaussian_report import calibrate_heads

        return calibrate_heads(net, data, rows, budget=budget)
