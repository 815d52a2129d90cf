"""Collaborative reward modelling: two members choose the pairs from which the other one learns."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from workers.data.schema import PreferencePair
from workers.errors import JobError
from workers.objectives import OBJECTIVES
from workers.objectives.base import PairTargets, PairwiseObjective, Rows, pair_targets
from workers.specs import SpecModel

if TYPE_CHECKING:
    from torch import Tensor

    from workers.nn.net import Net
    from workers.nn.peer_review import PeerValidation
    from workers.nn.units import UnitData
    from workers.nn.view import BatchView


@OBJECTIVES.add("peer_review")
class PeerReview(PairwiseObjective):
    """Bradley-Terry for two members: in each batch either one hands the other the pairs that it finds most credible.

    Wrong labels stay hard to fit and are left out, without any clean data. Hard but right pairs are left out as well.
    """

    title: ClassVar[str] = "Peer review against wrong labels"
    needs: ClassVar[frozenset[str]] = frozenset({"twins"})
    is_batch_coupled: ClassVar[bool] = True
    shares_trained: ClassVar[bool] = True
    """Is a backbone that is trained one for both members?"""

    class Config(SpecModel):
        """Settings of peer review."""

        noise_rate: float = Field(
            default=0.2,
            description="Share of labels taken to be wrong, from 0 to below 0.5: what is dropped at the end.",
        )
        noise_rate_source: Literal["given", "reannotated", "cross_fitting"] = Field(
            default="given", description="How the share is known; kept with the result."
        )
        ramp_epochs: float = Field(
            default=3, gt=0, le=1000, description="Epochs over which the dropped share rises from 0 to the noise rate."
        )
        ramp_steps: int | None = Field(
            default=None, ge=1, description="Optimiser steps instead, for a run of one epoch; about a third of them."
        )
        curriculum: bool = Field(
            default=True, description="From the second epoch on, show pairs of large margin first, in mixed buckets."
        )
        buckets: int = Field(default=20, ge=1, le=10000, description="Buckets of the curriculum, mixed inside.")
        exchange: bool = Field(default=True, description="No: each member learns from its own choice, to compare.")
        centre_coefficient: float = Field(
            default=0.01, ge=0, le=10, description="Weight of (r_a + r_b)^2, which keeps the mean reward near zero."
        )

        @field_validator("noise_rate")
        @classmethod
        def _is_less_than_half(cls, value: float) -> float:
            if value >= 0.5:
                raise ValueError("At half or more, most labels would be wrong: flip the dataset first.")
            if value < 0:
                raise ValueError("A share of wrong labels is not below 0.")
            return value

    def __init__(self, config: Config) -> None:
        self.config = config
        self._told: dict[str, float] = {}

    def targets(self, pairs: Sequence[PreferencePair]) -> PairTargets:
        return pair_targets(pairs)

    def drop_share(self, epoch: int, step: int) -> float:
        """noise_rate * min(1, e / ramp): nothing is dropped while the members have no opinion yet."""
        c = self.config
        done = (step - 1) / c.ramp_steps if c.ramp_steps else epoch / c.ramp_epochs
        return c.noise_rate * min(1.0, done)

    def begin(self, net: "Net", data: "UnitData", rows: Rows, *, budget: int) -> None:
        from workers.nn.peer_review import twin_head

        if not twin_head(net).is_split():
            raise JobError(
                "Both members have the same weights, so that they would choose alike for ever.",
                "Start from a fresh head, or from a checkpoint whose members differ; two policies need dropout.",
            )

    def order(self, epoch: int, data: "UnitData", rows: Rows, margins: NDArray[np.float32], *, seed: int) -> Rows:
        """Epoch 0, and without a noise rate, at random; then easy pairs first, shuffled inside buckets.

        The share of lowest margins that is likely to be dropped is dealt evenly over the epoch: batches at its end
        would else hold little but wrong labels, of which the choice inside a batch keeps its share nevertheless.
        """
        c = self.config
        shuffled = super().order(epoch, data, rows, margins, seed=seed)
        if epoch == 0 or not c.curriculum or not c.noise_rate:
            return shuffled
        targets = data.targets
        sign = np.sign(targets.target - 0.5) if isinstance(targets, PairTargets) else np.ones(len(data))
        known = np.nan_to_num(sign * margins, nan=0.0)
        ranked = shuffled[np.argsort(known[shuffled], kind="stable")[::-1]]
        rng = np.random.default_rng([seed, epoch, 1])
        n_easy = len(ranked) - int(c.noise_rate * len(ranked))
        easy = np.concatenate([rng.permutation(bucket) for bucket in np.array_split(ranked[:n_easy], c.buckets)])
        return dealt(easy, rng.permutation(ranked[n_easy:]))

    def batch_loss(self, view: "BatchView") -> "Tensor":
        from workers.nn.peer_review import choose_top, jaccard, member_losses, member_margins

        drop = self.drop_share(view.epoch, view.step)
        margins, rng = member_margins(view), view.rng()
        a, b = (choose_top(margins[:, m], view.sources, drop=drop, rng=rng) for m in range(2))
        self._told = {"kept_share": float((a.mean() + b.mean()) / 2), "selection_jaccard": jaccard(a, b)}
        learnt = (b, a) if self.config.exchange else (a, b)
        return member_losses(view, learnt, centre=self.config.centre_coefficient)

    def validation_loss(self, view: "BatchView") -> "Tensor":
        from workers.nn.peer_review import member_losses

        everything = np.ones(len(view), dtype=np.bool_)
        return member_losses(view, (everything, everything), centre=0.0) / 2

    def step_metrics(self, view: "BatchView") -> dict[str, float]:
        return {**super().step_metrics(view), **self._told}

    def validation(self, net: "Net", data: "UnitData", rows: Rows, *, budget: int) -> "PeerValidation":
        from workers.nn.peer_review import validate_peers

        return validate_peers(net, data, rows, budget=budget)

    def finish(self, net: "Net", data: "UnitData", rows: Rows, *, budget: int) -> dict[str, Any]:
        from workers.nn.peer_review import report_peers

        c = self.config
        found = report_peers(net, data, rows, budget=budget, drop=c.noise_rate)
        noise = {"value": c.noise_rate, "source": c.noise_rate_source}
        is_shared = self.shares_trained and data.features is None
        warnings = [SHARED] if is_shared else []
        return {"noise_rate": noise, "shares_trained_backbone": is_shared, **found, "warnings": warnings}


def dealt(first: Rows, second: Rows) -> Rows:
    """Both in their own order, each spread evenly over the whole."""
    places = [(np.arange(len(part)) + 0.5) / max(len(part), 1) for part in (first, second)]
    return np.concatenate([first, second])[np.argsort(np.concatenate(places), kind="stable")]


SHARED = (
    "Both members train one backbone, which departs from the method: two whole models would check one another more "
    "freely. Freeze the backbone to train heads that share nothing."
)
