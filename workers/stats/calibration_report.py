"""All that is told of a checkpoint's calibration, as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from workers.stats.calibration import (
    FEW_PAIRS,
    N_BINS,
    Calibration,
    calibration,
    cross_fitted,
    ece_interval,
    finite,
    fit_temperature,
    log_loss,
    symmetric,
)


def calibration_report(margin: ArrayLike, prompts: Sequence[str], *, rng: np.random.Generator) -> dict[str, Any]:
    """Calibration of sigmoid(margin) as it is, and after a cross-fitted temperature.

    Parameters
    ----------
    margin : array of shape (n,)
        r(chosen) - r(rejected) in reward units, n >= 1.
    prompts
        Prompt of each pair; halves of the cross-fit and resamples of the bootstrap are of prompts.

    Returns
    -------
    dict
        form "symmetric": both orders of each pair count, so bins hold 2 n predictions and mirror one another. `after`
        is None with `after_reason` where no temperature can be fitted. What is undefined is None.
    """
    values = finite(margin)
    fit, interval = fit_temperature(values), ece_interval(values, prompts, rng=rng)
    crossed = cross_fitted(values, prompts, rng=rng)
    return {
        "form": "symmetric",
        "n": len(values),
        "n_prompts": len(set(prompts)),
        "n_bins": N_BINS,
        "level": interval.level,
        "log_loss": log_loss(values),
        **errors(calibration(*symmetric(values))),
        "low": number(interval.low),
        "high": number(interval.high),
        "temperature": number(fit.temperature),
        "temperature_reason": fit.reason,
        "fold_temperatures": [number(value) for value in crossed.temperatures],
        "after": errors(crossed.after) if crossed.after else None,
        "after_reason": crossed.reason,
        "remark": f"Fewer than {FEW_PAIRS} pairs: chance alone makes errors this large likely; go by the interval."
        if len(values) < FEW_PAIRS
        else "",
    }


def errors(found: Calibration) -> dict[str, Any]:
    bins = [
        {"low": b.low, "high": b.high, "n": b.n, "mean_p": number(b.mean_p), "share": number(b.share)}
        for b in found.bins
    ]
    return {"ece": found.ece, "ace": found.ace, "mce": found.mce, "bins": bins}


def number(value: float) -> float | None:
    """JSON has no nan."""
    return None if math.isnan(value) else value
