"""What a trained mixture shows of its people, and whether it may be believed."""

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from workers.nn.mixture import MixtureHead, mean_log_weights, mixture_log_likelihood
from workers.nn.net import Net
from workers.nn.units import UnitData
from workers.nn.view import BatchView
from workers.objectives.base import PairTargets, Rows, Targets
from workers.stats.mixtures import (
    Mean,
    head_correlations,
    log_likelihoods,
    mean_with_interval,
    memberships,
    merge_heads,
)

if TYPE_CHECKING:
    from workers.stats.mixtures import Array

LEAST_GAIN = 0.02
"""Nats a pair below log 2 that a mixture has to reach before its heads are called groups."""
SAME_TASTE = 0.9
READ_AT_ONCE = 1024
MOST_RATERS = 100
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def pair_outputs(view: BatchView) -> tuple[Tensor, Tensor]:
    """log f of shape (n, K), and margins D = r_k(a) - r_k(b) of shape (n, K)."""
    head = mixture_head(view.net)
    a, b = view.outputs
    log_f = mean_log_weights(head.log_weights_of(a), head.log_weights_of(b))
    return log_f, head.rewards_of(a) - head.rewards_of(b)


def pair_losses(log_f: Tensor, margins: Tensor, targets: Targets) -> Tensor:
    """Weighted cross-entropy of each pair between its target and the mixture, shape (n,)."""
    aim, weight = (torch.as_tensor(v, dtype=torch.float32, device=margins.device) for v in _aims(targets))
    towards_a, towards_b = mixture_log_likelihood(log_f, margins), mixture_log_likelihood(log_f, -margins)
    return -weight * (aim * towards_a + (1 - aim) * towards_b)


def _aims(targets: Targets) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if not isinstance(targets, PairTargets):
        raise TypeError("a mixture learns from pairs")
    return targets.target, targets.weight


def mixture_head(net: Net) -> MixtureHead:
    if not isinstance(net.head, MixtureHead):
        raise TypeError("this objective trains a mixture head")
    return net.head


@dataclass(frozen=True)
class Read:
    """log f and margins towards the preferred response, both (n, K), of decided pairs `rows`."""

    rows: Rows
    log_f: "Array"
    margins: "Array"


def read_pairs(net: Net, data: UnitData, rows: Rows, *, budget: int) -> Read:
    """Without gradients; ties are left out."""
    decided = rows[~data.targets.rows(rows).is_tie]  # type: ignore[attr-defined]
    net.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(decided), READ_AT_ONCE):
            parts.append(pair_outputs(BatchView(net, data, decided[start : start + READ_AT_ONCE], budget=budget)))
    if not parts:
        empty = np.zeros((0, mixture_head(net).n_heads))
        return Read(decided, empty, empty)
    log_f, margins = (torch.cat(tensors).double().cpu().numpy() for tensors in zip(*parts, strict=True))
    return Read(decided, log_f, margins * preferred_sign(data, decided)[:, None])


def preferred_sign(data: UnitData, rows: Rows) -> NDArray[np.float64]:
    return np.asarray(np.sign(_aims(data.targets)[0][rows] - 0.5))


def mixture_report(net: Net, data: UnitData, rows: Rows, *, budget: int) -> dict[str, Any]:
    """Likelihood, router entropy, tastes, raters and the comparison with one reward, as JSON; `warnings` in words."""
    held_out = np.setdiff1d(np.arange(len(data)), rows)
    on_held_out = len(held_out) > 1
    read = read_pairs(net, data, held_out if on_held_out else rows, budget=budget)
    if len(read.rows) < 2:
        return {"warnings": ["No decided pairs are left to measure the mixture on: how many tastes it shows is open."]}
    log_p = log_likelihoods(read.log_f, read.margins)
    correlations = head_correlations(read.margins)
    clusters = merge_heads(correlations, threshold=SAME_TASTE)
    gain = mean_with_interval(math.log(2) + log_p)
    single = _single_reward(data, rows, read.rows) if on_held_out and data.features is not None else None
    over_single = None if single is None else mean_with_interval(log_p - single)
    warnings = _warnings(gain, clusters, over_single)
    if not on_held_out:
        warnings.append("No pairs are held out: how far the mixture beats a coin was measured on its training pairs.")
    return {
        "n_pairs": len(read.rows),
        "measured_on": "held-out pairs" if on_held_out else "training pairs",
        "nll": -float(log_p.mean()),
        "gain_over_coin": asdict(gain),
        "gain_over_one_reward": None if over_single is None else asdict(over_single),
        "router_entropy": float(-(np.exp(read.log_f) * read.log_f).sum(axis=1).mean()),
        "router_entropy_most": math.log(read.log_f.shape[1]),
        "mean_router": np.exp(read.log_f).mean(axis=0).tolist(),
        "head_correlations": correlations.round(4).tolist(),
        "tastes": [] if _denies(gain) else [[k + 1 for k in cluster] for cluster in clusters],
        "raters": _raters(net, data, clusters, budget=budget) if not _denies(gain) else [],
        "warnings": warnings,
    }


def _denies(gain: Mean) -> bool:
    """Is the mixture as good as a coin? Then its heads are noise, whatever they look like."""
    return gain.value < LEAST_GAIN or gain.low <= 0


def _warnings(gain: Mean, clusters: list[list[int]], over_single: Mean | None) -> list[str]:
    found = []
    if _denies(gain):
        found.append(
            f"Not identifiable: the mixture explains pairs no better than a coin ({gain.value:.3f} nats below log 2). "
            "Tastes that oppose each other and do not follow from the prompt look exactly like this. Do not read its "
            "heads as groups; name raters or contexts instead."
        )
    elif len(clusters) == 1:
        found.append("All heads order the pairs alike: these pairs show one taste, and one reward head is enough.")
    if over_single is not None and over_single.low <= 0 and not _denies(gain):
        found.append(
            f"One reward explains these pairs as well (the mixture gains {over_single.value:.3f} nats, 95 % interval "
            f"{over_single.low:.3f} to {over_single.high:.3f}): several tastes are not shown."
        )
    return found


def _raters(net: Net, data: UnitData, clusters: list[list[int]], *, budget: int) -> list[dict[str, Any]]:
    """Derived from every pair of each rater; an estimate with its interval, never what a person is."""
    if len(set(data.raters) - {""}) < 2:
        return []
    read = read_pairs(net, data, np.arange(len(data)), budget=budget)
    log_prior = np.log(np.exp(read.log_f).mean(axis=0))
    names = [data.raters[i] for i in read.rows]
    found = memberships(read.margins, log_prior, names, clusters, rng=np.random.default_rng(0))
    return [asdict(m) for m in found[:MOST_RATERS]]


def _single_reward(data: UnitData, rows: Rows, held_out: Rows) -> "Array":
    """Log-likelihood of each held-out pair under one linear reward on the same features.

    Its ridge is the best for these very pairs, which favours the single reward: what the mixture gains is real.
    """
    train = rows[~data.targets.rows(rows).is_tie]  # type: ignore[attr-defined]
    x, test = (_differences(data, index) for index in (train, held_out))
    found = [logsigmoid(test @ fit_linear(x, ridge)).double().numpy() for ridge in RIDGES]
    return max(found, key=lambda log_p: float(log_p.mean()))


def _differences(data: UnitData, rows: Rows) -> Tensor:
    if data.features is None:
        raise ValueError("one reward is fitted on the features of a frozen backbone")
    a, b = (torch.from_numpy(part.response[rows]) for part in data.features)
    return (a - b) * torch.from_numpy(preferred_sign(data, rows)).float()[:, None]


def fit_linear(x: Tensor, ridge: float) -> Tensor:
    """Weights w of shape (d,) that minimise mean log(1 + exp(-x w)) + ridge s |w|^2 / 2, s the mean squared feature."""
    w = torch.zeros(x.shape[1], requires_grad=True)
    scale = ridge * float(x.square().mean())
    solver = torch.optim.LBFGS([w], max_iter=100, line_search_fn="strong_wolfe", tolerance_grad=1e-6)

    def closure() -> Tensor:
        solver.zero_grad()
        loss: Tensor = softplus(-(x @ w)).mean() + scale * w.square().sum() / 2
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        solver.step(closure)  # type: ignore[no-untyped-call]
    return w.detach()
