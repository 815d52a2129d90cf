"""Several heads that each give a reward as mean and spread, and the stage-1 fits that they learn from."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import softplus

from workers.errors import JobError
from workers.nn.heads import Head
from workers.stats.robust_mix import MOST_APART, means_apart

LEAST_SIGMA, MOST_SIGMA = 1e-4, 10.0
Array = NDArray[np.float64]


class GaussianHeads(Head):
    """K linear heads, each to mu and s; sigma = softplus(s) + 1e-4, held in [1e-4, 10]. Outputs (n, 2K): mu, sigma.

    Heads are standardised by mean and deviation of mu on a reference set, which training stores at its end; until then
    the reward is the mean of the heads, afterwards w_nominal times the most certain head plus w_min times the least.
    """

    reference_mean: Tensor
    reference_std: Tensor
    n_reference: Tensor
    stage1: Tensor

    def __init__(self, width: int, *, n_heads: int, w_nominal: float, w_min: float, standardise: bool = True) -> None:
        super().__init__()
        self.n_heads, self.w_nominal, self.w_min, self.standardise = n_heads, w_nominal, w_min, standardise
        self.mu, self.s = nn.Linear(width, n_heads), nn.Linear(width, n_heads)
        for linear in (self.mu, self.s):
            nn.init.normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
        self.register_buffer("reference_mean", torch.zeros(n_heads))
        self.register_buffer("reference_std", torch.ones(n_heads))
        self.register_buffer("n_reference", torch.tensor(0))
        self.register_buffer("stage1", torch.full((width,), float("nan")), persistent=False)

    def forward(self, x: Tensor, prompt: Tensor | None = None) -> Tensor:
        sigma = (softplus(self.s(x)) + LEAST_SIGMA).clamp(LEAST_SIGMA, MOST_SIGMA)
        return torch.cat([self.mu(x), sigma], dim=1)

    def split(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """mu and sigma as the heads give them, each (n, K)."""
        return outputs[:, : self.n_heads], outputs[:, self.n_heads :]

    def comparable(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """mu and sigma on one scale; JobError where the heads have none."""
        mu, sigma = self.split(outputs)
        if self.standardise:
            return (mu - self.reference_mean) / self.reference_std, sigma / self.reference_std
        apart = means_apart(self.reference_mean.double().cpu(), self.reference_std.double().cpu())
        if apart > MOST_APART:
            raise JobError(
                f"heads not comparable: run calibrate first. Their means on the reference set are {apart:.2g} pooled"
                f" standard deviations apart; at {MOST_APART} the minimum only picks the head with the lowest offset.",
                "Set standardise to yes in the reward model, and train again.",
            )
        return mu, sigma

    def composed(self, outputs: Tensor) -> dict[str, Tensor]:
        """mu, sigma (n, K); nominal, minimum, k_star, mixed (n,): stats.robust_mix on tensors."""
        mu, sigma = self.comparable(outputs)
        k_star = sigma.argmin(dim=1)
        nominal = mu.gather(1, k_star[:, None])[:, 0]
        minimum = mu.min(dim=1).values
        mixed = self.w_nominal * nominal + self.w_min * minimum
        return {"mu": mu, "sigma": sigma, "nominal": nominal, "minimum": minimum, "k_star": k_star, "mixed": mixed}

    def reward(self, outputs: Tensor) -> Tensor:
        if not int(self.n_reference):
            return self.split(outputs)[0].mean(dim=1)
        return self.composed(outputs)["mixed"]

    def parts(self, outputs: Tensor) -> list[dict[str, Any]] | None:
        if not int(self.n_reference):
            return None
        told = {name: values.detach().cpu().tolist() for name, values in self.composed(outputs).items()}
        return [dict(zip(told, row, strict=True)) for row in zip(*told.values(), strict=True)]

    @torch.no_grad()
    def calibrate(self, mu: Array) -> None:
        """Keep mean and deviation of every head on a reference set, mu (n, K), n >= 2."""
        std = mu.std(axis=0)
        if not (np.isfinite(mu).all() and (std > 0).all()):
            raise JobError(
                f"Head {int(np.argmin(std))} gives every response of the reference set the same reward.",
                "Train longer, with a higher head_learning_rate, or on more pairs.",
            )
        self.reference_mean.copy_(torch.from_numpy(mu.mean(axis=0)))
        self.reference_std.copy_(torch.from_numpy(std))
        self.n_reference.fill_(len(mu))

    @torch.no_grad()
    def start_from(self, margins_by: Tensor) -> None:
        """mu begins at linear rewards of shape (K, width)."""
        self.mu.weight.copy_(margins_by)


def subsets(
    keys: Sequence[str], rows: NDArray[np.int64], *, n_heads: int, share: float, rng: np.random.Generator
) -> Array:
    """How often each unit counts for each head, (n, K): prompts drawn with replacement, `share` of their number.

    Units outside `rows` count once for every head.
    """
    counts = np.ones((len(keys), n_heads))
    names, place = np.unique(np.array([keys[i] for i in rows], dtype=object).astype(str), return_inverse=True)
    n_drawn = max(1, round(share * len(names)))
    for head in range(n_heads):
        drawn = np.bincount(rng.integers(len(names), size=n_drawn), minlength=len(names))
        counts[rows, head] = drawn[place]
    return counts


def fit_margins(difference: Tensor, target: Array, counts: Array, *, ridge: float) -> Tensor:
    """Stage-1 rewards w of shape (m, width), each the Bradley-Terry fit on its own column of counts (n, m).

    difference: features of response_a minus response_b, (n, width); target: P(a preferred). The penalty is
    ridge * mean squared feature * |w|^2 / 2 beside the mean loss. All fits are one problem, solved by L-BFGS.
    """
    n_fits = counts.shape[1]
    aim = torch.from_numpy(target).float().to(difference.device)[:, None]
    weight = torch.from_numpy(counts / counts.sum(axis=0)).float().to(difference.device)
    scale = ridge * float(difference.square().mean())
    w = torch.zeros(difference.shape[1], n_fits, device=difference.device, requires_grad=True)
    solver = torch.optim.LBFGS([w], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-6)

    def closure() -> Tensor:
        solver.zero_grad()
        margin = difference @ w
        losses = softplus(-margin) + (1 - aim) * margin
        loss: Tensor = (weight * losses).sum() + scale * w.square().sum() / 2
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        solver.step(closure)  # type: ignore[no-untyped-call]
    return w.detach().T.contiguous()


def head_fits(
    difference: Tensor,
    target: Array,
    weight: Array,
    keys: Sequence[str],
    rows: NDArray[np.int64],
    *,
    n_heads: int,
    share: float,
    n_refits: int,
    ridge: float,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor, Array]:
    """Each head's own stage-1 reward (K, width) on its bootstrap, refits (K, R, width) on bootstraps of that, counts.

    The refits of a head draw again from the pairs it has seen: how far their margins scatter is what it does not know.
    """
    counts = subsets(keys, rows, n_heads=n_heads, share=share, rng=rng)
    columns = [counts[rows, head] for head in range(n_heads)]
    for head in range(n_heads):
        p = columns[head] / columns[head].sum()
        columns += [rng.multinomial(int(columns[head].sum()), p).astype(np.float64) for _ in range(n_refits)]
    table = np.stack(columns, axis=1) * weight[rows, None]
    found = fit_margins(difference[torch.from_numpy(rows)], target[rows], table, ridge=ridge)
    return found[:n_heads], found[n_heads:].view(n_heads, n_refits, -1), counts
