"""Pairwise losses on margins, in float32."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import logsigmoid

Values = NDArray[np.float64]


def pairwise_loss(margin: Tensor, *, target: Values, weight: Values, offset: Values) -> Tensor:
    """Cross-entropy between P(a preferred) and sigmoid(margin - offset), of each pair, times its weight.

    Parameters
    ----------
    margin : Tensor of shape (n,)
        r_a - r_b, in reward units.
    target : ndarray of shape (n,)
        P(a is preferred) in [0, 1]: 1 or 0 for a verdict, anything between for a soft label, 0.5 for a tie.
    weight : ndarray of shape (n,)
        >= 0.
    offset : ndarray of shape (n,)
        What the margin has to exceed, > 0 where a is preferred and < 0 where b is.

    Returns
    -------
    Tensor of shape (n,)
        float32. With target 1, weight 1, offset 0 this is -log sigmoid(margin), the Bradley-Terry loss.
    """
    aim, scale, shift = (_like(margin, values) for values in (target, weight, offset))
    clear = margin.float() - shift
    return -scale * (aim * logsigmoid(clear) + (1 - aim) * logsigmoid(-clear))


def centring_loss(rewards_a: Tensor, rewards_b: Tensor, *, weight: Values) -> Tensor:
    """(r_a + r_b)^2 of each pair, times its weight: a loss on margins alone leaves the mean reward free to drift."""
    return _like(rewards_a, weight) * (rewards_a + rewards_b).float().square()


def mean_square_loss(rewards_a: Tensor, rewards_b: Tensor, *, weight: Values) -> Tensor:
    """(r_a^2 + r_b^2) / 2 of each pair, times its weight."""
    return _like(rewards_a, weight) * (rewards_a.float().square() + rewards_b.float().square()) / 2


def _like(margin: Tensor, values: Values) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float32, device=margin.device)
