"""Score with a likelihood: responses that have none are named instead of being given a number."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from workers.data.render import Encoded
from workers.data.schema import Scores
from workers.families.base import Item, no_report
from workers.families.likelihood import unread
from workers.nn.scoring import TOKENISED_AT_ONCE, NetScorer, net_scores

UNSCORED, CUT = "unscored", "n_tokens_cut"


class LikelihoodScorer(NetScorer):
    """Rewards as NetScorer gives them; nan and {"unscored": reason} in the parts where there is none.

    A response whose end was cut carries {"n_tokens_cut": n} in its parts.
    """

    def score(self, items: Sequence[Item], *, on_batch: Callable[[int], None] = no_report) -> Scores:
        encoded: list[Encoded] = []
        for start in range(0, len(items), TOKENISED_AT_ONCE):
            encoded += self.encode(items[start : start + TOKENISED_AT_ONCE])
            on_batch(0)
        reasons = [unread([item]) for item in encoded]
        readable = [i for i, reason in enumerate(reasons) if reason is None]
        found, told = net_scores(self.net, [encoded[i] for i in readable], self.token_budget, on_batch=on_batch)
        values = np.full(len(items), np.nan)
        values[readable] = found
        parts: list[dict[str, Any]] = [{UNSCORED: reason} if reason else {} for reason in reasons]
        for place, i in enumerate(readable):
            parts[i] = {**(told[place] if told else {}), **cut_of(encoded[i])}
        return Scores(
            values=values,
            n_tokens=np.array([len(item) for item in encoded], dtype=np.int64),
            n_truncated=sum(item.n_prompt_dropped > 0 for item in encoded),
            n_response_cut=sum(item.n_response_dropped > 0 for item in encoded),
            parts=parts if any(parts) else None,
        )


def cut_of(item: Encoded) -> dict[str, int]:
    return {CUT: item.n_response_dropped} if item.n_response_dropped else {}
