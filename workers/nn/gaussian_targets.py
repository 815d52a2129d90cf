"""Margins of stage 1 for every pair, before stage 2 begins."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from workers.context import JobContext
from workers.nn.features import encode_features
from workers.nn.gaussian_heads import GaussianHeads, head_fits
from workers.nn.reward_net import RewardNet
from workers.nn.trainer import Rows
from workers.nn.units import Features, UnitData

BUDGET = 2048


def fill_margins(ctx: JobContext, config: Any, *, net: RewardNet, data: UnitData, rows: Rows) -> None:
    """Put the clipped margins of stage 1 and of each head's own fits into data.targets; mu begins at those fits.

    The backbone must be that of stage 1: called before a saved state is restored. Draws follow from the run's seed.
    """
    head: GaussianHeads = net.head  # type: ignore[assignment]
    rng = np.random.default_rng(int(torch.randint(2**31, (1,))))
    found = data.features or _features(ctx, net, data)
    difference = torch.from_numpy(found[0].response - found[1].response).to(net.device)
    targets: Any = data.targets
    ctx.progress(0, 1, f"Fitting stage 1 for each of {head.n_heads} heads")
    own, refits, counts = head_fits(
        difference, targets.target, targets.weight, data.prompt_keys, rows,
        n_heads=head.n_heads, share=config.subset_share, n_refits=config.n_refits, ridge=config.ridge, rng=rng,
    )  # fmt: skip
    head.start_from(own)

    def clipped(margins: torch.Tensor) -> Any:
        return margins.clamp(-config.clip_margin, config.clip_margin).double().cpu().numpy()

    mean = clipped(difference @ own.T)
    scatter = [((clipped(difference @ again.T) - mean[:, [k]]) ** 2).mean(axis=1) for k, again in enumerate(refits)]
    data.targets = replace(
        targets,
        stage1=clipped(difference @ head.stage1),
        own=mean,
        variance=np.stack(scatter, axis=1) if config.n_refits else np.zeros_like(mean),
        counts=counts,
    )


def _features(ctx: JobContext, net: RewardNet, data: UnitData) -> list[Features]:
    """Of the backbone as stage 2 finds it, where it is going to be trained."""

    def on_batch(_: int) -> None:
        ctx.checkpoint()

    return [encode_features(net, column, budget=BUDGET, on_batch=on_batch) for column in data.columns]
