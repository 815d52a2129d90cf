"""Bradley-Terry with a contrastive term that spreads the states of responses."""

import math
from collections.abc import Sequence
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

BETA = {("simcse", "pairs"): 1.0, ("simcse", "difference"): 1.0, ("swav", "pairs"): 0.1, ("swav", "difference"): 0.5}
PROTOTYPES = {"pairs": 50, "difference": 20}
PROBED, READ_AT_ONCE = 256, 32
"""Training pairs whose states are probed, and how many are read together."""


@OBJECTIVES.add("contrastive_bt")
class ContrastiveBradleyTerry(PairwiseObjective):
    """Bradley-Terry on two dropout passes, plus beta times a term that pulls both passes of an item together.

    Other items of the batch are pushed away (SimCSE), or codes of one pass are predicted from the other (SwAV).
    """

    title: ClassVar[str] = "Bradley-Terry with a contrastive term"
    needs: ClassVar[frozenset[str]] = frozenset({"scalar", "states"})
    is_batch_coupled: ClassVar[bool] = True

    class Config(SpecModel):
        """Settings of the contrastive term."""

        term: Literal["simcse", "swav"] = Field(default="simcse", description="Which contrastive term.")
        on: Literal["pairs", "difference"] = Field(
            default="pairs", description="Items: both responses of each pair, or their difference in both directions."
        )
        beta: float | None = Field(
            default=None, ge=0, le=100, description="Weight of the term; empty: 1, for SwAV 0.1 (pairs) or 0.5."
        )
        temperature: float = Field(default=0.1, gt=0, le=100, description="Of cosines; lower is stricter.")
        prototypes: int | None = Field(
            default=None, ge=2, le=4096, description="Prototypes of SwAV; empty: 50 for pairs, 20 for differences."
        )

    def __init__(self, config: Config) -> None:
        self.config = config
        self._told: dict[str, float] = {}
        self._before = math.nan

    def meet(self, config: Any) -> None:
        if not config.dropout:
            raise JobError(
                "The contrastive term compares two passes with different dropout, and this reward model has none.",
                "Register it with dropout above 0, such as 0.05.",
            )

    def begin(self, net: "Net", data: "UnitData", rows: Rows, *, budget: int) -> None:
        if data.features is not None:
            raise JobError(
                "The contrastive term trains the backbone, which this run leaves frozen: both passes would be alike.",
                "Set freeze_backbone to no.",
            )
        if math.isnan(self._before):
            self._before = self._told_apart(net, data, rows, budget=budget)

    def state(self) -> dict[str, NDArray[Any]]:
        return {"probe before": np.array(self._before)}

    def restore(self, kept: dict[str, NDArray[Any]]) -> None:
        self._before = float(kept.get("probe before", np.array(math.nan)))

    def finish(self, net: "Net", data: "UnitData", rows: Rows, *, budget: int) -> dict[str, Any]:
        """How well a linear probe on the states finds the chosen response, before and after."""
        after = self._told_apart(net, data, rows, budget=budget)
        return {"probe_accuracy": {"before": self._before, "after": after, "n": min(len(rows), PROBED)}}

    def _told_apart(self, net: "Net", data: "UnitData", rows: Rows, *, budget: int) -> float:
        import torch

        from workers.nn.contrastive import probe_accuracy
        from workers.nn.view import BatchView

        net.eval()
        parts = []
        with torch.inference_mode():
            for start in range(0, min(len(rows), PROBED), READ_AT_ONCE):
                view = BatchView(net, data, rows[start : min(start + READ_AT_ONCE, PROBED)], budget=budget)
                parts.append(torch.stack(self._chosen_and_rejected(view)).cpu())
        return probe_accuracy(*torch.cat(parts, dim=1))

    def targets(self, pairs: Sequence[PreferencePair]) -> PairTargets:
        return pair_targets(pairs)

    def loss(self, rewards_a: "Tensor", rewards_b: "Tensor", targets: PairTargets) -> "Tensor":
        from workers.nn.losses import pairwise_loss

        return pairwise_loss(rewards_a - rewards_b, target=targets.target, weight=targets.weight, offset=targets.offset)

    def validation_loss(self, view: "BatchView") -> "Tensor":
        return super().batch_loss(view)

    def batch_loss(self, view: "BatchView") -> "Tensor":
        import torch

        other = view.again()
        items = [self._items(one) for one in (view, other)]
        plain = (super().batch_loss(view) + super().batch_loss(other)) / 2
        term = self._term(*items).reshape(-1, len(view)).mean(dim=0)
        self._told = {"contrastive_loss": float(term.detach().mean())}
        weight = torch.as_tensor(view.targets.weight, dtype=torch.float32, device=term.device)
        return plain + self.beta * weight * term

    def step_metrics(self, view: "BatchView") -> dict[str, float]:
        return {**super().step_metrics(view), **self._told}

    @property
    def beta(self) -> float:
        c = self.config
        return BETA[c.term, c.on] if c.beta is None else c.beta

    def _items(self, view: "BatchView") -> "Tensor":
        """What is contrasted, shape (2 n, width): chosen then rejected states, or their differences both ways."""
        import torch

        chosen, rejected = self._chosen_and_rejected(view)
        if self.config.on == "difference":
            return torch.cat([chosen - rejected, rejected - chosen])
        return torch.cat([chosen, rejected])

    def _chosen_and_rejected(self, view: "BatchView") -> "tuple[Tensor, Tensor]":
        import torch

        a, b = (pooled_states(view, column) for column in range(2))
        is_a = torch.from_numpy(np.asarray(view.targets.target > 0.5)).to(a.device)[:, None]  # type: ignore[attr-defined]
        return torch.where(is_a, a, b), torch.where(is_a, b, a)

    def _term(self, first: "Tensor", second: "Tensor") -> "Tensor":
        from workers.nn.contrastive import fixed_prototypes, simcse_loss, swav_loss

        c = self.config
        if c.term == "simcse":
            return simcse_loss(first, second, temperature=c.temperature)
        prototypes = fixed_prototypes(c.prototypes or PROTOTYPES[c.on], first.shape[1]).to(first.device)
        return swav_loss(first, second, prototypes, temperature=c.temperature)


def pooled_states(view: "BatchView", column: int) -> "Tensor":
    """The vector that the head reads, of every response of a column: shape (n, width)."""
    import torch

    net: Any = view.net
    pairs = zip(view.states[column], view.encoded(column), strict=True)
    return torch.stack([net.pool_one(states, item) for states, item in pairs]).float()
