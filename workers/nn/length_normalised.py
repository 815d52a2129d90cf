"""A reward divided by the logarithm of the length of the response. The form is reconstructed, not published."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from workers.data.render import Encoded
from workers.nn.heads import Head
from workers.nn.reward_net import RewardNet


class LengthNormalised(Head):
    """r / ln(e + n), n the tokens of the response. The divisor comes where other heads get the prompt's vector."""

    needs_prompt = True

    def __init__(self, inner: Head) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, prompt: Tensor | None = None) -> Tensor:
        if prompt is None:
            raise ValueError("a length-normalised head needs the length of the response")
        found: Tensor = self.inner(x)
        return found / prompt[:, 0]


class LengthNormalisedNet(RewardNet):
    """Reads the text once, and counts the response's tokens, closing special tokens included."""

    def features(self, batch: Sequence[Encoded]) -> tuple[Tensor, Tensor]:
        divisors = [[math.log(math.e + item.n_response)] for item in batch]
        return self.pooled(batch), torch.tensor(divisors, device=self.device)
