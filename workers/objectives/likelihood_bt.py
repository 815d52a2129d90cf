"""Bradley-Terry on log-likelihoods, without a reference model."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from workers.data.schema import PreferencePair
from workers.errors import JobError
from workers.families.likelihood import unread
from workers.objectives import OBJECTIVES
from workers.objectives.base import PairTargets, PairwiseObjective, Rows, pair_targets
from workers.specs import SpecModel

if TYPE_CHECKING:
    from torch import Tensor

    from workers.nn.net import Net
    from workers.nn.units import UnitData
    from workers.nn.view import BatchView

NAMED = 8
"""Pairs named in a line of the log; the result names all."""


class LikelihoodObjectiveConfig(SpecModel):
    """What the objectives on likelihoods share."""

    ties: Literal["drop", "half"] = Field(
        default="drop", description="Leave ties out, or aim at even odds. Pairs where both are bad are left out."
    )
    use_shares: bool = Field(
        default=False, description="Aim at the share of raters who preferred a response, where it is known."
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=0.5, description="Share of verdicts taken to be the wrong way round."
    )
    loss: Literal["logistic", "hinge"] = Field(
        default="logistic", description="logistic: -log sigmoid of the scaled margin. hinge: max(0, 1 - scaled margin)."
    )


class LikelihoodObjective(PairwiseObjective):
    """Base: a pairwise loss on a scaled margin of likelihoods."""

    needs: ClassVar[frozenset[str]] = frozenset({"likelihood"})
    is_one_pass: ClassVar[bool] = True

    def __init__(self, config: Any) -> None:
        self.config = config
        self.unread: dict[str, list[str]] = {}
        """Pairs without a likelihood, by reason."""

    def targets(self, pairs: Sequence[PreferencePair]) -> PairTargets:
        c = self.config
        return pair_targets(pairs, ties=c.ties, label_smoothing=c.label_smoothing, use_shares=c.use_shares)

    def scaled_margin(self, view: "BatchView") -> "Tensor":
        """What stands inside the loss, shape (n,): positive where response_a has the higher reward."""
        raise NotImplementedError

    def offset(self) -> float:
        """What the scaled margin has to exceed."""
        return 0.0

    def batch_loss(self, view: "BatchView") -> "Tensor":
        from workers.nn.hinge import hinge_pair_loss
        from workers.nn.losses import pairwise_loss

        loss = pairwise_loss if self.config.loss == "logistic" else hinge_pair_loss
        targets: PairTargets = view.targets  # type: ignore[assignment]
        offset = self.offset() * np.sign(targets.target - 0.5)
        return loss(self.scaled_margin(view), target=targets.target, weight=targets.weight, offset=offset)

    def choose(self, data: "UnitData") -> "UnitData":
        """The pairs whose responses both have a likelihood; the others are counted here and named in the result."""
        found, self.unread = with_likelihood(data)
        return found

    def finish(self, net: "Net", data: "UnitData", rows: Rows, *, budget: int) -> dict[str, Any]:
        from workers.nn.length_bias import length_correlation

        told: dict[str, Any] = {"length_correlation": length_correlation(net, data, rows, budget=budget)}
        return {**told, "unread": self.unread, "warnings": named_unread(self.unread)} if self.unread else told


def with_likelihood(data: "UnitData") -> "tuple[UnitData, dict[str, list[str]]]":
    """The pairs whose responses both have a likelihood, and the ids of the others by reason. JobError: none has."""
    reasons = [unread(unit) for unit in zip(*data.columns, strict=True)]
    left_out = {
        reason: [data.ids[i] for i, found in enumerate(reasons) if found == reason]
        for reason in sorted({r for r in reasons if r})
    }
    if not left_out:
        return data, {}
    kept = np.array([i for i, reason in enumerate(reasons) if reason is None], dtype=np.int64)
    if not len(kept):
        raise JobError(
            f"There is nothing to learn from: {'; '.join(named_unread(left_out))}.",
            "Raise max_length, choose a backbone with a longer context, or set long_responses to cut.",
        )
    return data.kept(kept, Counter({reason: len(ids) for reason, ids in left_out.items()})), left_out


def named_unread(left_out: Mapping[str, Sequence[str]]) -> list[str]:
    return [
        f"{len(ids)} left out ({reason}): {', '.join(ids[:NAMED])}" + (" and others" if len(ids) > NAMED else "")
        for reason, ids in left_out.items()
    ]


@OBJECTIVES.add("likelihood_bt")
class LikelihoodBradleyTerry(LikelihoodObjective):
    """-log sigmoid(beta * (log pi(chosen) - log pi(rejected)) - offset), log pi summed over the response's tokens."""

    title: ClassVar[str] = "Bradley-Terry on likelihoods"

    class Config(LikelihoodObjectiveConfig):
        """Settings of Bradley-Terry on likelihoods."""

        beta: float = Field(default=0.1, gt=0, le=100, description="Scale of the log-likelihoods in the loss.")
        offset: float = Field(default=0.0, ge=0, le=100, description="What the scaled margin has to exceed.")
        length_normalised: bool = Field(
            default=False,
            description="In the loss alone, divide by the number of tokens: for comparison, as the reward is the sum.",
        )

    def offset(self) -> float:
        return float(self.config.offset)

    def scaled_margin(self, view: "BatchView") -> "Tensor":
        a, b = view.rewards
        if self.config.length_normalised:
            a, b = (part / _n_tokens(view, column, like=part) for column, part in enumerate((a, b)))
        scaled: Tensor = self.config.beta * (a - b)
        return scaled


def _n_tokens(view: "BatchView", column: int, *, like: "Tensor") -> "Tensor":
    return like.new_tensor([item.n_response for item in view.encoded(column)])
