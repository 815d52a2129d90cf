"""Score many responses with a reward net: no padding where that is possible, hardly any elsewhere."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from workers.data.collate import length_batches
from workers.data.render import Encoded, Renderer
from workers.data.schema import Scores
from workers.families.base import Item, no_report
from workers.nn.failures import explaining_memory
from workers.nn.reward_net import RewardNet, no_tick
from workers.nn.ticks import Throttle

TOKENISED_AT_ONCE = 256
ADVICE = "Use a smaller max_length or backbone, or a machine with more memory."


class NetScorer:
    """Rewards by a trained net. What else is in the batch changes a reward by rounding only (tested to 1e-4)."""

    def __init__(self, net: RewardNet, renderer: Renderer, *, token_budget: int = 2048) -> None:
        self.net = net
        self.renderer = renderer
        self.token_budget = token_budget

    def score(self, items: Sequence[Item], *, on_batch: Callable[[int], None] = no_report) -> Scores:
        encoded: list[Encoded] = []
        for start in range(0, len(items), TOKENISED_AT_ONCE):
            encoded += self.renderer.encode(items[start : start + TOKENISED_AT_ONCE])
            on_batch(0)
        return Scores(
            values=net_rewards(self.net, encoded, self.token_budget, on_batch=on_batch).astype(np.float64),
            n_tokens=np.array([len(item) for item in encoded], dtype=np.int64),
            n_truncated=sum(item.n_prompt_dropped > 0 for item in encoded),
            n_response_cut=sum(item.n_response_dropped > 0 for item in encoded),
        )


def net_rewards(
    net: RewardNet, encoded: Sequence[Encoded], budget: int, *, on_batch: Callable[[int], None] = no_report
) -> "np.typing.NDArray[np.float32]":
    """Rewards of shape (n,), in the order of `encoded`, computed in batches of similar length."""
    rewards = np.empty(len(encoded), dtype=np.float32)
    lengths = [len(item) for item in encoded]
    net.tick = Throttle(lambda: on_batch(0))
    try:
        with torch.inference_mode(), explaining_memory(ADVICE):
            for batch in length_batches(lengths, budget, is_padded=not net.is_packed()):
                rewards[batch] = net([encoded[i] for i in batch]).cpu().numpy()
                on_batch(len(batch))
    finally:
        net.tick = no_tick
    return rewards
