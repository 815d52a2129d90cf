"""Collaborative reward modelling on implicit rewards: two policies choose the pairs from which the other one learns."""

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from workers.objectives import OBJECTIVES
from workers.objectives.base import Rows
from workers.objectives.likelihood_bt import named_unread, with_likelihood
from workers.objectives.peer_review import PeerReview

if TYPE_CHECKING:
    from workers.nn.net import Net
    from workers.nn.units import UnitData


@OBJECTIVES.add("peer_review_dpo")
class PeerReviewDPO(PeerReview):
    """DPO for two policies: in each batch either one hands the other the pairs that it finds most credible.

    A member's margin is beta times the difference of its log-ratios to the reference. Else as peer_review.
    """

    title: ClassVar[str] = "Peer review of two policies (DPO)"
    needs: ClassVar[frozenset[str]] = frozenset({"twin_policies"})
    is_one_pass: ClassVar[bool] = True
    shares_trained: ClassVar[bool] = False

    class Config(PeerReview.Config):
        """Settings of peer review; beta is the reward model's."""

        centre_coefficient: float = Field(
            default=0.0, ge=0, le=10, description="Weight of (r_a + r_b)^2. DPO has none: the reference holds rewards."
        )

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.unread: dict[str, list[str]] = {}

    def choose(self, data: "UnitData") -> "UnitData":
        """The pairs whose responses both have a likelihood; the others are counted and named."""
        found, self.unread = with_likelihood(data)
        return found

    def finish(self, net: "Net", data: "UnitData", rows: Rows, *, budget: int) -> dict[str, Any]:
        found = super().finish(net, data, rows, budget=budget)
        return {**found, "unread": self.unread, "warnings": [*found["warnings"], *named_unread(self.unread)]}
