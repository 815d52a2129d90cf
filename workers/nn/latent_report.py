"""How a latent-user model does on users it has never seen, and whether its latent says anything at all."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import logsigmoid

from workers.nn.net import Net
from workers.nn.units import UnitData
from workers.nn.user_pairs import UserPairs
from workers.nn.validation import Validation, pair_validation

Rows = NDArray[np.int64]
ACTIVE = 0.01
"""A latent dimension is active when mu_j varies more than this over users (Burda et al. 2016)."""


@dataclass(frozen=True)
class LatentValidation:
    """Held-out users' pairs, predicted from a context of their other pairs; and the same from no context."""

    pairs: Validation
    without_context: float
    kl: float

    @property
    def loss(self) -> float:
        return self.pairs.loss

    def as_metrics(self) -> dict[str, float]:
        told = {"validation_without_context": self.without_context, "validation_kl": self.kl}
        return {**self.pairs.as_metrics(), **told}

    def as_json(self, step: int) -> dict[str, Any]:
        return {**self.pairs.as_json(step), "accuracy_without_context": self.without_context, "kl": self.kl}


def validate_users(net: Net, users: UserPairs, rows: Rows, *, n_context: int) -> LatentValidation:
    """z = mu of `n_context` other pairs of the same user; always the same contexts, so that validations compare."""
    net.eval()
    index, mask = users.contexts(rows, least=n_context, most=n_context, rng=np.random.default_rng(len(rows)))
    targets = users.targets.rows(rows)
    with torch.inference_mode():
        found = users.posterior(net, index, mask)
        a, b = (r.double().cpu() for r in users.rewards(net, rows, found.mu))
        plain_a, plain_b = (r.cpu().numpy() for r in users.rewards(net, rows, torch.zeros_like(found.mu)))
        kl = float(found.kl().mean())
    sign = torch.from_numpy(np.sign(targets.target - 0.5))
    nll = -logsigmoid(sign * (a - b)).numpy()
    names = {"rater": [users.data.raters[i] for i in rows], "source": [users.data.sources[i] for i in rows]}
    loss = float((nll * targets.weight).sum() / targets.weight.sum())
    return LatentValidation(
        pairs=pair_validation(a.numpy(), b.numpy(), targets, loss=loss, groups=names),
        without_context=float((np.sign(plain_a - plain_b) == sign.numpy()).mean()),
        kl=kl,
    )


def latent_report(net: Net, users: UserPairs, *, n_context: int, with_map: bool) -> dict[str, Any]:
    """Active units, KL and shared prompts over all raters as JSON; `warnings` where the latent says nothing.

    The map of the users is personal data: it is there only when it was asked for.
    """
    net.eval()
    names, index, mask = users.of_users(most=n_context, rng=np.random.default_rng(0))
    with torch.inference_mode():
        found = users.posterior(net, index, mask)
    mu = found.mu.double().cpu().numpy()
    n_active, kl = active_units(mu), float(found.kl().mean())
    shared = shared_prompts(users.data)
    warnings = []
    if not n_active:
        warnings.append(
            f"Posterior collapse: none of {mu.shape[1]} latent dimensions is active (KL {kl:.4f} nats), so every user "
            "gets the same reward. Lower beta, anneal longer, or give more pairs a user."
        )
    if shared < LEAST_SHARED:
        warnings.append(
            f"Raters hardly overlap: {shared:.0%} of the pairs have a prompt that a second rater judged. What looks "
            "like a taste may be the topic that a rater was given. Let raters judge common prompts."
        )
    told: dict[str, Any] = {
        "n_raters": len(names),
        "n_active_units": n_active,
        "n_latent": mu.shape[1],
        "kl": kl,
        "share_of_pairs_on_shared_prompts": shared,
        "warnings": warnings,
    }
    if with_map:
        told["user_map"] = {name: xy for name, xy in zip(names, user_map(mu).round(4).tolist(), strict=True)}
    return told


LEAST_SHARED = 0.05


def active_units(mu: NDArray[np.float64]) -> int:
    """Latent dimensions whose mean varies over users; mu (n users, latent)."""
    return int((mu.var(axis=0) > ACTIVE).sum())


def user_map(mu: NDArray[np.float64]) -> NDArray[np.float64]:
    """Posterior means in their two widest directions, shape (n, 2)."""
    centred = mu - mu.mean(axis=0)
    directions = np.linalg.svd(centred, full_matrices=False)[2][:2]
    flat = np.zeros((len(mu), 2))
    flat[:, : len(directions)] = centred @ directions.T
    return flat


def shared_prompts(data: UnitData) -> float:
    """Share of pairs whose prompt was judged by two raters or more."""
    judged: dict[str, set[str]] = {}
    for key, rater in zip(data.prompt_keys, data.raters, strict=True):
        judged.setdefault(key, set()).add(rater)
    return float(np.mean([len(judged[key]) > 1 for key in data.prompt_keys])) if data.prompt_keys else 0.0
