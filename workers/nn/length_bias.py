"""How far rewards follow the length of responses: a sum over tokens does by its nature."""

from typing import Any

import numpy as np
import torch

from workers.nn.net import Net
from workers.nn.units import UnitData
from workers.nn.view import BatchView, Rows
from workers.stats.rank_correlation import spearman

AT_MOST = 256


def length_correlation(net: Net, data: UnitData, rows: Rows, *, budget: int) -> dict[str, Any]:
    """Spearman correlations over up to 256 pairs of `rows`, evenly spread.

    `of_margins`: margins with differences in response tokens, within pairs; `of_rewards`: rewards with tokens; None
    where there is nothing to correlate.
    """
    chosen = rows[np.linspace(0, len(rows) - 1, min(AT_MOST, len(rows))).round().astype(np.int64)]
    net.eval()
    view = BatchView(net, data, chosen, budget=budget)
    with torch.inference_mode():
        a, b = (part.double().cpu().numpy() for part in view.rewards)
    n_a, n_b = (np.array([item.n_response for item in view.encoded(column)]) for column in (0, 1))
    found = {
        "of_margins": spearman(a - b, n_a - n_b),
        "of_rewards": spearman(np.concatenate([a, b]), np.concatenate([n_a, n_b])),
    }
    told: dict[str, Any] = {name: None if np.isnan(value) else round(value, 4) for name, value in found.items()}
    return {**told, "n_pairs": len(chosen)}
