"""From the hidden states of a batch to one vector a sequence. Real tokens are known from lengths, not from a pad id."""

from typing import Literal

import torch
from torch import Tensor

Pooling = Literal["last", "first", "mean", "response_mean"]


def pool(hidden: Tensor, mask: Tensor, how: Pooling, n_response: Tensor | None = None) -> Tensor:
    """One vector a sequence, wherever its padding stands.

    Parameters
    ----------
    hidden : Tensor of shape (n, t, width)
    mask : Tensor of shape (n, t)
        1 for real tokens. They stand together; padding may be left, right or absent.
    n_response : Tensor of shape (n,)
        For "response_mean": how many of the last real tokens belong to the response.

    Returns
    -------
    Tensor of shape (n, width), of the dtype of `hidden`; means are taken in float32.
    """
    start = mask.argmax(dim=1)
    end = start + mask.sum(dim=1)
    rows = torch.arange(len(hidden), device=hidden.device)
    if how == "first":
        return hidden[rows, start]
    if how == "last":
        return hidden[rows, end - 1]
    if how == "response_mean":
        if n_response is None:
            raise ValueError("response_mean needs n_response")
        start = end - n_response
    position = torch.arange(hidden.shape[1], device=hidden.device)
    chosen = (position >= start[:, None]) & (position < end[:, None])
    weights = chosen.float() / chosen.sum(dim=1, keepdim=True)
    return torch.einsum("nt,ntw->nw", weights, hidden.float()).to(hidden.dtype)
