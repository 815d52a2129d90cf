"""Gradients of each source's loss with respect to the reward head alone: cheap, as nothing below the head is run."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from workers.errors import JobError
from workers.nn.net import Net

Array = NDArray[np.float64]


def head_parameters(net: Net) -> list[nn.Parameter]:
    """What is differentiated; JobError where the family has no head that is trained."""
    found = [p for p in net.head.parameters() if p.requires_grad]
    if not found:
        raise JobError(
            "This reward model has no reward head, so sources cannot be weighed by its gradients.",
            "Use a family with a head, such as scalar_head, or the objective bradley_terry.",
        )
    return found


def head_gradients(losses: Sequence[Tensor], parameters: Sequence[nn.Parameter]) -> Array:
    """d losses[k] / d parameters, flat: shape (k, number of weights), float64. The graph stays for the real step."""
    rows = []
    for loss in losses:
        found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        parts = [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]
        rows.append(torch.cat([part.detach().reshape(-1) for part in parts]).double().cpu().numpy())
    return np.stack(rows)


def source_means(losses: Tensor, weight: Array, sources: Sequence[str]) -> tuple[list[str], list[Tensor], Array]:
    """Names of the sources with weight in a batch, the weighted mean loss of each, and each source's total weight.

    losses: (n,), each already multiplied by its weight.
    """
    names = np.array(sources, dtype=object)
    present = [name for name in dict.fromkeys(sources) if weight[names == name].sum() > 0]
    totals = np.array([weight[names == name].sum() for name in present], dtype=np.float64)
    means = [
        losses[torch.from_numpy(np.flatnonzero(names == name)).to(losses.device)].sum() / float(total)
        for name, total in zip(present, totals, strict=True)
    ]
    return present, means, totals
