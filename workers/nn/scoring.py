"""Score many responses with a reward net: no padding where that is possible, hardly any elsewhere."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from workers.data.collate import length_batches, prompt_batches
from workers.data.render import Encoded, Renderer
from workers.data.schema import Scores
from workers.families.base import Item, no_report
from workers.nn.failures import explaining_memory
from workers.nn.net import Net, no_tick
from workers.nn.packed_causal import prompt_key
from workers.nn.ticks import Throttle

TOKENISED_AT_ONCE = 256
ADVICE = "Use a smaller max_length or backbone, or a machine with more memory."
Parts = list[dict[str, Any]] | None


class NetScorer:
    """Rewards by a trained net. What else is in the batch changes a reward by rounding only (tested to 1e-4)."""

    def __init__(
        self,
        net: Net,
        renderer: Renderer,
        *,
        encode: Callable[[Sequence[Item]], Sequence[Encoded]] | None = None,
        token_budget: int = 2048,
    ) -> None:
        self.net = net
        self.renderer = renderer
        self.encode = encode or (lambda items: renderer.encode([(item[0], item[1]) for item in items]))
        self.token_budget = token_budget

    def score(self, items: Sequence[Item], *, on_batch: Callable[[int], None] = no_report) -> Scores:
        encoded: list[Encoded] = []
        for start in range(0, len(items), TOKENISED_AT_ONCE):
            encoded += self.encode(items[start : start + TOKENISED_AT_ONCE])
            on_batch(0)
        values, parts = net_scores(self.net, encoded, self.token_budget, on_batch=on_batch)
        return Scores(
            values=values.astype(np.float64),
            n_tokens=np.array([len(item) for item in encoded], dtype=np.int64),
            n_truncated=sum(item.n_prompt_dropped > 0 for item in encoded),
            n_response_cut=sum(item.n_response_dropped > 0 for item in encoded),
            parts=parts,
        )


def net_rewards(
    net: Net, encoded: Sequence[Encoded], budget: int, *, on_batch: Callable[[int], None] = no_report
) -> NDArray[np.float32]:
    """Rewards of shape (n,), in the order of `encoded`, computed in batches of similar length."""
    return net_scores(net, encoded, budget, on_batch=on_batch)[0]


def net_scores(
    net: Net, encoded: Sequence[Encoded], budget: int, *, on_batch: Callable[[int], None] = no_report
) -> tuple[NDArray[np.float32], Parts]:
    """Rewards, and what the head tells besides: one JSON object an item, or None."""
    rewards = np.empty(len(encoded), dtype=np.float32)
    parts: list[dict[str, Any]] = [{} for _ in encoded]
    has_parts = False
    net.tick = Throttle(lambda: on_batch(0))
    try:
        with torch.inference_mode(), explaining_memory(ADVICE):
            for batch in batches_for(net, encoded, budget):
                outputs = net([encoded[i] for i in batch])
                rewards[batch] = net.reward(outputs).float().cpu().numpy()
                for i, told in zip(batch, net.head.parts(outputs) or (), strict=False):
                    parts[i], has_parts = told, True
                on_batch(len(batch))
    finally:
        net.tick = no_tick
    return rewards, parts if has_parts else None


def batches_for(net: Net, encoded: Sequence[Encoded], budget: int) -> Iterator[NDArray[np.int64]]:
    """Responses of one prompt together where the net computes it once for them; else sequences of similar length."""
    lengths = [len(item) for item in encoded]
    if net.shares_prompts():
        return prompt_batches(lengths, [(prompt_key(item), len(item) - item.n_response) for item in encoded], budget)
    return length_batches(lengths, budget, is_padded=not net.is_packed())
