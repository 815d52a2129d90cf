"""The end of a stage 2: heads put on one scale, and what they are worth on pairs they have not seen."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from workers.nn.gaussian_heads import GaussianHeads
from workers.nn.net import Net
from workers.nn.units import UnitData
from workers.nn.view import BatchView
from workers.stats.intervals import wilson_interval
from workers.stats.robust_mix import mean_correlation

MOST_REFERENCE = 2048
"""Pairs of the reference set: an even sample of the training pairs."""
TOO_ALIKE = 0.995
NEAR_FLOOR = 0.01

Rows = NDArray[np.int64]
Outputs = list[torch.Tensor]


def calibrate_heads(net: Net, data: UnitData, rows: Rows, *, budget: int) -> dict[str, Any]:
    """Store mean and deviation of every head on the training responses; a report as JSON, with warnings."""
    head = net.head
    if not isinstance(head, GaussianHeads):
        raise TypeError("only Gaussian heads are calibrated here")
    chosen = rows[np.linspace(0, len(rows) - 1, min(MOST_REFERENCE, len(rows))).astype(np.int64)]
    outputs = torch.cat(_outputs(net, data, chosen, budget))
    mu, sigma = (part.double().cpu().numpy() for part in head.split(outputs))
    head.calibrate(mu)
    head.comparable(outputs)  # refused now rather than when the first response is scored
    found = {
        "n_reference": len(mu),
        "reference_mean": mu.mean(axis=0).tolist(),
        "reference_std": mu.std(axis=0).tolist(),
        "mean_correlation": _number(mean_correlation(mu)),
        "mean_sigma": float((sigma / mu.std(axis=0)).mean()),
        "w_nominal": head.w_nominal,
        "w_min": head.w_min,
        "held_out": _held_out(net, head, data, rows, budget),
    }
    return {**found, "warnings": _warnings(found)}


def _outputs(net: Net, data: UnitData, rows: Rows, budget: int) -> Outputs:
    net.eval()
    with torch.inference_mode():
        return BatchView(net, data, rows, budget=budget).outputs


def _held_out(net: Net, head: GaussianHeads, data: UnitData, rows: Rows, budget: int) -> dict[str, Any]:
    """Accuracy of every way to read the heads, and of stage 1 where there was one, on pairs not trained on."""
    held_out = np.setdiff1d(np.arange(len(data)), rows)
    if not len(held_out):
        return {}
    a, b = (head.composed(part) for part in _outputs(net, data, held_out, budget))
    sign = np.sign(data.targets.target[held_out] - 0.5)  # type: ignore[attr-defined]
    margins = {name: (a[name] - b[name]).double().cpu().numpy() for name in ("nominal", "minimum", "mixed")}
    margins["stage1"] = data.targets.stage1[held_out]  # type: ignore[attr-defined]
    return {name: _rate(sign * margin > 0) for name, margin in margins.items() if not np.isnan(margin).any()}


def _rate(right: NDArray[np.bool_]) -> dict[str, float]:
    interval = wilson_interval(int(right.sum()), len(right))
    return {"value": float(right.mean()), "low": interval.low, "high": interval.high, "n": len(right)}


def _warnings(found: dict[str, Any]) -> list[str]:
    lines = []
    alike = found["mean_correlation"]
    if alike is not None and alike > TOO_ALIKE:
        lines.append(
            f"The heads are nearly the same (mean correlation {alike:.4f}): their minimum and their spread tell next to"
            " nothing. Use a smaller subset_share, or more pairs."
        )
    if found["mean_sigma"] < NEAR_FLOOR:
        lines.append(
            f"The spread of the heads has collapsed (mean sigma {found['mean_sigma']:.2g} of a head's deviation): which"
            " head is the most certain is chance. The loss mse does this; gauss_nll does not."
        )
    return lines


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None
