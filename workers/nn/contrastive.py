"""Contrastive terms on the states of responses: SimCSE between two dropout passes, SwAV between their codes."""

import math

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize


def simcse_loss(first: Tensor, second: Tensor, *, temperature: float) -> Tensor:
    """-log of the share that the other view of the same item has among all items, of each item.

    Parameters
    ----------
    first, second : Tensor of shape (n, width)
        Two views of n items, such as two passes with different dropout.
    temperature : float
        Of the cosines, > 0.

    Returns
    -------
    Tensor of shape (n,)
        ln n where views tell nothing; near 0 where every item is nearest to itself. Gao et al. 2021 (arXiv 2104.08821).
    """
    cosines = normalize(first.float(), dim=1) @ normalize(second.float(), dim=1).T
    aims = torch.arange(len(first), device=first.device)
    return cross_entropy(cosines / temperature, aims, reduction="none")


def swav_loss(
    first: Tensor, second: Tensor, prototypes: Tensor, *, temperature: float, epsilon: float = 0.05, n_iter: int = 3
) -> Tensor:
    """Each view predicts the code of the other, of each item: shape (n,). Caron et al. 2020 (arXiv 2006.09882).

    prototypes: (k, width); codes are balanced over them within the batch.
    """
    centres = normalize(prototypes.float(), dim=1)
    scores = [normalize(view.float(), dim=1) @ centres.T for view in (first, second)]
    codes = [balanced_codes(found.detach(), epsilon=epsilon, n_iter=n_iter) for found in scores]
    told = [torch.log_softmax(found / temperature, dim=1) for found in scores]
    return -(codes[0] * told[1]).sum(dim=1) - (codes[1] * told[0]).sum(dim=1)


def balanced_codes(scores: Tensor, *, epsilon: float, n_iter: int) -> Tensor:
    """Soft assignments (n, k) whose rows add up to 1 and whose columns are about equally full (Sinkhorn and Knopp)."""
    plan = torch.exp((scores - scores.max()) / epsilon).double()
    plan /= plan.sum()
    n, k = plan.shape
    for _ in range(n_iter):
        plan /= plan.sum(dim=0, keepdim=True).clamp(min=1e-300) * k
        plan /= plan.sum(dim=1, keepdim=True).clamp(min=1e-300) * n
    return (plan * n).float()


def fixed_prototypes(k: int, width: int, seed: int = 0) -> Tensor:
    """k random unit vectors that stay as they are, the same at every attempt of a run."""
    drawn = torch.randn(k, width, generator=torch.Generator().manual_seed(seed))
    return normalize(drawn / math.sqrt(width), dim=1)


def probe_accuracy(chosen: Tensor, rejected: Tensor, *, folds: int = 2, ridge: float = 1e-2) -> float:
    """Share of held-out pairs whose chosen response a linear probe finds; near 0.5 where the states do not tell.

    The probe reads the difference of the states of a pair and is fitted by ridge regression on the other folds.
    """
    apart = (chosen - rejected).double()
    apart = apart / apart.std().clamp(min=1e-12)
    which = torch.arange(len(apart)) % folds
    right = 0
    for fold in range(folds):
        x = apart[which != fold]
        gram = x.T @ x + ridge * len(x) * torch.eye(x.shape[1], dtype=x.dtype)
        weight = torch.linalg.solve(gram, x.sum(dim=0))
        right += int((apart[which == fold] @ weight > 0).sum())
    return right / len(apart)
