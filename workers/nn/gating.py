"""Before a gate is trained: what ratings owe to verbosity on the training responses."""

import math
from typing import Any

import numpy as np
import torch

from workers.context import JobContext
from workers.errors import JobError
from workers.nn.gated_head import GatedHead
from workers.nn.units import UnitData
from workers.objectives.base import Rows
from workers.stats.debias import MAX_CORRELATION, debias


def clear_of_verbosity(ctx: JobContext, head: GatedHead, data: UnitData, rows: Rows, verbosity: int) -> dict[str, Any]:
    """Set the head's transform from the responses of the pairs `rows`; what was found, by attribute."""
    if data.features is None:
        raise JobError("The gate is trained on a frozen backbone.", "Leave freeze_backbone empty.")
    pooled = np.concatenate([part.response[rows] for part in data.features])
    with torch.inference_mode():
        device = head.stage1.weight.device
        rated = head.stage1.normalised(torch.from_numpy(pooled).to(device)).double().cpu().numpy()
    try:
        found = debias(rated, verbosity)
    except ValueError as error:
        raise JobError(
            f"{head.names[verbosity]} cannot be taken out of the ratings: {error}.",
            "Use more pairs, another attribute, or verbosity: none.",
        ) from error
    head.set_transform(torch.from_numpy(found.transform), torch.from_numpy(found.penalties))
    told = {
        name: {
            "penalty": float(found.penalties[i]),
            "before": _or_none(found.before[i]),
            "after": _or_none(found.after[i]),
            "reached": bool(found.reached[i]),
        }
        for i, name in enumerate(head.names)
    }
    lam = ", ".join(f"{name} {found.penalties[i]:g}" for i, name in enumerate(head.names))
    ctx.log(f"Penalties for {head.names[verbosity]} on {len(pooled)} responses: {lam}")
    missed = [name for i, name in enumerate(head.names) if not found.reached[i]]
    if missed:
        ctx.log(f"No penalty brought {', '.join(missed)} below {MAX_CORRELATION}: they get 1", "warning")
    return {"verbosity": head.names[verbosity], "n_responses": len(pooled), "attributes": told}


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
