"""The hinge in the one form of pairwise losses."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Values = NDArray[np.float64]


def hinge_pair_loss(margin: Tensor, *, target: Values, weight: Values, offset: Values) -> Tensor:
    """max(0, 1 - z) of each pair for z = margin - offset, float32 (n,); arguments as those of losses.pairwise_loss.

    With a target between 0 and 1, the mean of both sides: target * max(0, 1 - z) + (1 - target) * max(0, 1 + z).
    """
    aim, scale, shift = (
        torch.as_tensor(values, dtype=torch.float32, device=margin.device) for values in (target, weight, offset)
    )
    clear = margin.float() - shift
    return scale * (aim * torch.relu(1 - clear) + (1 - aim) * torch.relu(1 + clear))
