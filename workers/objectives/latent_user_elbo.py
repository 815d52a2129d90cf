"""Encoder and decoder of a latent user, trained together as a variational autoencoder of preferences."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from workers.data.schema import PreferencePair
from workers.errors import JobError
from workers.objectives import OBJECTIVES
from workers.objectives.base import PairTargets, PairwiseObjective, Rows, pair_targets
from workers.specs import SpecModel

if TYPE_CHECKING:
    from torch import Tensor

    from workers.nn.latent_report import LatentValidation
    from workers.nn.net import Net
    from workers.nn.units import UnitData
    from workers.nn.user_pairs import UserPairs
    from workers.nn.view import BatchView


@OBJECTIVES.add("latent_user_elbo")
class LatentUserElbo(PairwiseObjective):
    """-log sigmoid(r(chosen, z) - r(rejected, z)) + beta KL(q(z | context) || N(0, I)), z drawn from q.

    A pair is predicted from other pairs of the same rater. Raters, not prompts, are held out for validation, so its
    accuracy is that of people the model has never met. KL is summed over dimensions, the loss averaged over pairs.
    """

    title: ClassVar[str] = "Latent-user evidence bound"
    needs: ClassVar[frozenset[str]] = frozenset({"latent_user", "features"})
    split_by: ClassVar[str] = "rater"

    class Config(SpecModel):
        """Settings of the evidence bound."""

        beta: float = Field(
            default=0.003, ge=0, le=100, description="Weight of the KL. Near 1 the latent says nothing."
        )
        annealing: Literal["none", "cosine", "cyclic"] = Field(
            default="cosine", description="How beta rises from 0: at once, over anneal_steps, or again and again."
        )
        anneal_steps: int = Field(default=200, ge=1, le=10**7, description="Steps in which beta rises.")
        min_context: int = Field(default=2, ge=1, le=64, description="Fewest pairs in a context.")
        max_context: int = Field(
            default=8, ge=1, le=64, description="Most pairs in a context, and those of validation."
        )
        no_context_share: float = Field(
            default=0.1, ge=0, lt=1, description="Part of the pairs predicted from no context, from the prior's mean."
        )
        user_map: bool = Field(
            default=False, description="Put a two-dimensional map of the raters into the result: personal data."
        )

        @model_validator(mode="after")
        def _in_order(self) -> Self:
            if self.min_context > self.max_context:
                raise ValueError("min_context is larger than max_context")
            return self

    def __init__(self, config: Config) -> None:
        self.config = config
        self._users: UserPairs | None = None
        self._told: dict[str, float] = {}

    def targets(self, pairs: Sequence[PreferencePair]) -> PairTargets:
        return pair_targets(pairs)

    def choose(self, data: "UnitData") -> "UnitData":
        """Pairs of raters with enough pairs on other prompts to be predicted from; JobError for a single rater."""
        raters, prompts = np.array(data.raters, dtype=object), np.array(data.prompt_keys, dtype=object)
        enough = {
            name: len(np.unique(prompts[raters == name].astype(str))) > self.config.min_context
            for name in set(data.raters) - {""}
        }
        reasons = Counter("no rater" if not r else "rater with too few prompts" for r in raters if not enough.get(r))
        n_left = sum(enough.values())
        if n_left < 2:
            raise JobError(
                f"{'One rater has' if n_left else 'No rater has'} pairs on more than {self.config.min_context} prompts"
                f" ({len(enough)} raters, {reasons['no rater']} pairs without a rater): what a person likes cannot be "
                "told from what is good, so a latent user is not identifiable.",
                "Use pairs of several raters, and name the metadata key that holds them (rater_key).",
            )
        return data.kept(np.flatnonzero([enough.get(r, False) for r in raters]), reasons)

    def split_keys(self, data: "UnitData") -> list[str]:
        return data.raters

    def begin(self, net: "Net", data: "UnitData", rows: Rows, *, budget: int) -> None:
        """Take reference responses for the comparable scale from the training pairs."""
        import torch

        from workers.nn.user_pairs import latent_head

        if data.features is None:
            raise JobError(
                "A latent user is trained on the features of a frozen backbone.",
                "Leave freeze_backbone empty or at yes.",
            )
        head = latent_head(net)
        texts = np.concatenate([part.response[rows] for part in data.features])
        order = np.random.default_rng(0).permutation(len(texts))[: len(head.references)]
        head.set_references(torch.from_numpy(texts[order]).to(net.device))

    def batch_loss(self, view: "BatchView") -> "Tensor":
        import torch
        from torch.nn.functional import logsigmoid

        c, users, rng = self.config, self._of(view.data), view.rng(1)
        index, mask = users.contexts(view.rows, least=c.min_context, most=c.max_context, rng=rng)
        mask[rng.random(len(mask)) < c.no_context_share] = False
        found = users.posterior(view.net, index, mask)
        noise = torch.from_numpy(rng.normal(size=tuple(found.mu.shape))).to(found.mu)
        noise[torch.from_numpy(~mask.any(axis=1)).to(noise.device)] = 0.0
        z = found.mu + noise * (0.5 * found.log_var).exp()
        a, b = users.rewards(view.net, view.rows, z)
        targets = users.targets.rows(view.rows)
        sign = torch.as_tensor(np.sign(targets.target - 0.5), dtype=torch.float32, device=a.device)
        weight = torch.as_tensor(targets.weight, dtype=torch.float32, device=a.device)
        margins, kl = sign * (a - b), found.kl()
        beta = c.beta * beta_share(view.step, how=c.annealing, n_steps=c.anneal_steps)
        self._told = {
            "accuracy": float((margins.detach() > 0).float().mean()),
            "margin_mean": float(margins.detach().mean()),
            "kl": float(kl.detach().mean()),
            "beta": beta,
        }
        return weight * (beta * kl - logsigmoid(margins))

    def step_metrics(self, view: "BatchView") -> dict[str, float]:
        return self._told

    def validation(self, net: "Net", data: "UnitData", rows: Rows, *, budget: int) -> "LatentValidation":
        from workers.nn.latent_report import validate_users

        return validate_users(net, self._of(data), rows, n_context=self.config.max_context)

    def finish(self, net: "Net", data: "UnitData", rows: Rows, *, budget: int) -> dict[str, Any]:
        """Active units, KL and overlap of the raters; `warnings` where the latent says nothing."""
        from workers.nn.latent_report import latent_report

        c = self.config
        return latent_report(net, self._of(data), n_context=c.max_context, with_map=c.user_map)

    def _of(self, data: "UnitData") -> "UserPairs":
        from workers.nn.user_pairs import UserPairs

        if self._users is None or self._users.data is not data:
            self._users = UserPairs(data)
        return self._users


def beta_share(step: int, *, how: str, n_steps: int) -> float:
    """Share of beta at a step counted from 1, in [0, 1]: half a cosine up, once or in every second block of steps."""
    if how == "none":
        return 1.0
    if how == "cyclic":
        step %= 2 * n_steps
    return 0.5 * (1 - math.cos(math.pi * min(1.0, step / n_steps)))
