"""The reference verifier's head and renderer, and the pairwise update of its logit."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from workers.data.render import Encoded, Renderer, Tokenizer
from workers.data.schema import Message
from workers.nn.heads import ScalarHead
from workers.nn.net import Net


class LogitHead(ScalarHead):
    """The reward is a logit; told besides is the probability."""

    def parts(self, outputs: Tensor) -> list[dict[str, Any]]:
        return [{"probability": p} for p in outputs.detach().double().sigmoid().cpu().tolist()]


class TextRenderer(Renderer):
    """Texts as they are: no role labels, no chat template, no separator between what comes before and after."""

    def __init__(self, tokenizer: Tokenizer, max_length: int) -> None:
        super().__init__(tokenizer, max_length, "plain")
        self.between = ()

    def text(self, prompt: Sequence[Message], response: Sequence[Message]) -> tuple[str, str]:
        before, own = ("".join(m["content"] for m in part) for part in (prompt, response))
        return before, own


def masked_pairwise_loss(positive: Tensor, negative: Tensor, is_valid: Tensor) -> Tensor:
    """- sum_q m_q log sigmoid(R_q+ - R_q-) / (sum_q m_q + 1e-6), Bradley-Terry over the valid pairs.

    Parameters
    ----------
    positive, negative : Tensor of shape (n,)
        Logits of the verified and of the corrupted response to each question; ignored where not valid, nan allowed.
    is_valid : bool Tensor of shape (n,)
    """
    margin = torch.where(is_valid, positive.float() - negative.float(), 0.0)
    return -(logsigmoid(margin) * is_valid).sum() / (is_valid.sum() + 1e-6)


def pairwise_update(
    net: Net,
    optimizer: torch.optim.Optimizer,
    pairs: Sequence[tuple[Encoded, Encoded] | None],
    *,
    budget: int,
    max_grad_norm: float = 1.0,
) -> dict[str, float]:
    """One step of the optimiser on (positive, negative) pairs, None where a question has no valid pair.

    Without any valid pair, or with a gradient that is not finite, neither weights nor the optimiser's state move: a
    step on zero gradients would still apply momentum and weight decay. Returns loss (nan without a pair), grad_norm,
    n_valid and has_stepped (0 or 1).
    """
    valid = [pair for pair in pairs if pair is not None]
    if not valid:
        return {"loss": math.nan, "grad_norm": 0.0, "n_valid": 0.0, "has_stepped": 0.0}
    net.train()
    optimizer.zero_grad(set_to_none=True)
    outputs = net.forward_bucketed([part for side in (0, 1) for part in (pair[side] for pair in valid)], budget)
    positive, negative = net.reward(outputs).chunk(2)
    loss = masked_pairwise_loss(positive, negative, torch.ones(len(valid), dtype=torch.bool, device=positive.device))
    loss.backward()  # type: ignore[no-untyped-call]
    norm = float(torch.nn.utils.clip_grad_norm_(net.parameters(), max_grad_norm))
    is_finite = math.isfinite(norm) and math.isfinite(loss.item())
    if is_finite:
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return {"loss": loss.item(), "grad_norm": norm, "n_valid": float(len(valid)), "has_stepped": float(is_finite)}
