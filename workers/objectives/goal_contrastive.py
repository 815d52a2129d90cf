"""Bradley-Terry with a contrastive term on token states, so that a stored goal state values unfinished responses."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from workers.data.schema import Message, PreferencePair
from workers.errors import JobError
from workers.objectives import OBJECTIVES
from workers.objectives.base import PairTargets, PairwiseObjective, Rows, pair_targets
from workers.specs import SpecModel

if TYPE_CHECKING:
    from torch import Tensor

    from workers.nn.net import Net
    from workers.nn.units import UnitData
    from workers.nn.view import BatchView

NAMED = 20


@OBJECTIVES.add("goal_contrastive")
class GoalContrastive(PairwiseObjective):
    """Bradley-Terry plus beta times a term that draws states of a preferred response together.

    States of the preferred and of the rejected response are pushed apart. The mean last state of the preferred
    responses trained on is kept as the goal where the family has a place for it (goal_conditioned).
    """

    title: ClassVar[str] = "Bradley-Terry with goal states"
    needs: ClassVar[frozenset[str]] = frozenset({"scalar", "states"})
    is_batch_coupled: ClassVar[bool] = True

    class Config(SpecModel):
        """Settings of the contrastive term."""

        beta: float = Field(default=0.5, ge=0, le=100, description="Weight of the term; 0: Bradley-Terry with a goal.")
        variant: Literal["random", "single", "average"] = Field(
            default="random",
            description="Goals of a pair: sampled states, the one last state, or the mean of the sampled states.",
        )
        n_samples: int = Field(default=16, ge=1, le=1024, description="States sampled a response.")
        share_skipped: float = Field(
            default=0.0, ge=0, lt=1, description="Part of a preferred response, from its start, that is not sampled."
        )

    def __init__(self, config: Config) -> None:
        self.config = config
        self._told: dict[str, float] = {}
        self._empty: list[str] = []

    def begin(self, net: "Net", data: "UnitData", rows: Rows, *, budget: int) -> None:
        if data.features is not None:
            raise JobError(
                "The contrastive term trains the states of the backbone, which this run leaves frozen.",
                "Set freeze_backbone to no.",
            )

    def targets(self, pairs: Sequence[PreferencePair]) -> PairTargets:
        found = pair_targets(pairs)
        for i, pair in enumerate(pairs):
            if is_empty(pair.response_a) or is_empty(pair.response_b):
                found.is_used[i] = False
                self._empty.append(pair.pair_id)
        return found

    def refusal(self, row: PreferencePair) -> str:
        return "empty response" if is_empty(row.response_a) or is_empty(row.response_b) else super().refusal(row)

    def loss(self, rewards_a: "Tensor", rewards_b: "Tensor", targets: PairTargets) -> "Tensor":
        from workers.nn.losses import pairwise_loss

        return pairwise_loss(rewards_a - rewards_b, target=targets.target, weight=targets.weight, offset=targets.offset)

    def validation_loss(self, view: "BatchView") -> "Tensor":
        return super().batch_loss(view)

    def batch_loss(self, view: "BatchView") -> "Tensor":
        import torch

        if not self.config.beta:
            return super().batch_loss(view)
        term = self._term(view)  # before the rewards: one pass gives states and rewards
        self._told = {"contrastive_loss": float(term.detach())}
        plain = super().batch_loss(view)
        weight = torch.as_tensor(view.targets.weight, dtype=torch.float32, device=plain.device)
        return plain + self.config.beta * weight * term

    def step_metrics(self, view: "BatchView") -> dict[str, float]:
        return {**super().step_metrics(view), **self._told}

    def _term(self, view: "BatchView") -> "Tensor":
        import torch

        from workers.nn.goal_states import contrastive_loss, sampled_cosines

        states, rng, c = [view.response_states(0), view.response_states(1)], view.rng(), self.config
        positive, negative = [], []
        for i, is_a in enumerate(preferred_is_a(view.targets)):
            near, far = sampled_cosines(
                states[0 if is_a else 1][i],
                states[1 if is_a else 0][i],
                m=c.n_samples,
                rng=rng,
                variant=c.variant,
                share_skipped=c.share_skipped,
            )
            positive.append(near)
            negative.append(far)
        return contrastive_loss(torch.stack(positive), torch.stack(negative))

    def finish(self, net: "Net", data: "UnitData", rows: Rows, *, budget: int) -> dict[str, Any]:
        """Compute the goal on the weights that are kept, and leave it in the head where that has a place."""
        told: dict[str, Any] = {"warnings": []}
        if self._empty:
            more = f" and {len(self._empty) - NAMED} more" if len(self._empty) > NAMED else ""
            told["warnings"].append(f"Left out for an empty response: {', '.join(self._empty[:NAMED])}{more}")
        head: Any = net.head
        if not hasattr(head, "goal"):
            told["warnings"].append("No goal state is kept: train the family goal_conditioned for values of tokens")
            return told
        from workers.nn.goal_states import mean_last_state

        firsts = preferred_is_a(data.targets)
        encoded = [data.columns[0 if firsts[i] else 1][i] for i in rows]
        trained_in, net.dtype = net.dtype, "float32"
        head.goal.copy_(mean_last_state(net, encoded, budget=budget))  # type: ignore[arg-type]
        net.dtype = trained_in
        told["goal"] = {"n_responses": len(encoded), "width": len(head.goal), "norm": float(head.goal.norm())}
        return told


def preferred_is_a(targets: Any) -> Any:
    return np.asarray(targets.target > 0.5)


def is_empty(response: Sequence[Message]) -> bool:
    return not any(m["content"].strip() for m in response)
