"""Goal states: the contrastive loss on token states, the head that keeps a goal, and the values it gives tokens.

Nath et al. 2024 (arXiv 2407.13887). States of one preferred response are pulled together, states of the preferred and
the rejected response apart; the cosine between a state and the mean last state of preferred responses is then a value.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from workers.data.render import Encoded
from workers.nn.heads import Head
from workers.nn.likelihood_net import token_texts
from workers.nn.reward_net import RewardNet

Variant = Literal["random", "single", "average"]
Places = NDArray[np.int64]


def sample_positive(n: int, m: int, rng: np.random.Generator, *, share_skipped: float = 0.0) -> tuple[Places, Places]:
    """m places of a source and of a goal in a response of n tokens, each (m,), a source never after its goal.

    Two sorted uniforms u1 <= u2 become distances from the end, floor((1 - u)(1 - p) n) + 1, kept within the response;
    p = `share_skipped` in [0, 1) leaves out the first part of the response.
    """
    u = np.sort(rng.random((2, m)), axis=0)
    furthest = max(1, math.ceil((1 - share_skipped) * n))
    offsets = np.floor((1 - u) * (1 - share_skipped) * n).astype(np.int64) + 1
    places = n - np.clip(offsets, 1, furthest)
    return places[0], places[1]


def contrastive_loss(positive: Tensor, negative: Tensor) -> Tensor:
    """-log mean sigmoid(C+) - log(1 - mean sigmoid(C-)): the means over all cosines come before the logarithms.

    Parameters
    ----------
    positive, negative : Tensors of cosines, of any shape

    Returns
    -------
    Tensor of shape ()
        2 ln 2 where all cosines are 0; from 0.626523 (positive 1, negative -1) to 2.626523.
    """
    near, far = positive.float().sigmoid().mean(), negative.float().sigmoid().mean()
    return -near.log() - (1 - far).log()


def sampled_cosines(
    preferred: Tensor, rejected: Tensor, *, m: int, rng: np.random.Generator, variant: Variant, share_skipped: float
) -> tuple[Tensor, Tensor]:
    """Cosines C+ and C- of one pair, every source with every goal: (m, m), or (m, 1) with one goal.

    preferred, rejected: states (tokens, width) of the two responses' own tokens. Negative sources are uniform places of
    the preferred response, negative goals uniform places of the rejected one. single: the goals are the last tokens;
    average: the sampled goals' mean.
    """
    source, goal = sample_positive(len(preferred), m, rng, share_skipped=share_skipped)
    negative_source = rng.integers(len(preferred), size=m)
    negative_goal = rng.integers(len(rejected), size=m)
    positive = _cosines(preferred[source], _goals(preferred, goal, variant))
    return positive, _cosines(preferred[negative_source], _goals(rejected, negative_goal, variant))


def _goals(states: Tensor, places: Places, variant: Variant) -> Tensor:
    if variant == "single":
        return states[-1:]
    chosen = states[places]
    return chosen.mean(dim=0, keepdim=True) if variant == "average" else chosen


def _cosines(sources: Tensor, goals: Tensor) -> Tensor:
    return normalize(sources.float(), dim=-1) @ normalize(goals.float(), dim=-1).T


def goal_values(states: Tensor, goal: Tensor) -> Tensor:
    """Cosine of every state (tokens, width) with the goal (width,): shape (tokens,), in [-1, 1]."""
    return _cosines(states, goal[None])[:, 0]


class GoalHead(Head):
    """A reward head that keeps a goal state beside its weights; nan until a run has computed one.

    linear: one layer without bias. mlp: width, half, half, width, 1 with ReLU between, the last without bias.
    Outputs are rewards (n,), or (n, 1 + longest, 3) where tokens are asked for: the reward thrice, then value, reward
    and id of every response token, nan beyond the end.
    """

    goal: Tensor

    def __init__(self, width: int, *, shape: Literal["linear", "mlp"] = "linear", tokenizer: Any = None) -> None:
        super().__init__()
        half = max(1, width // 2)
        inner: list[nn.Module] = []
        if shape == "mlp":
            inner = [nn.Linear(width, half), nn.ReLU(), nn.Linear(half, half), nn.ReLU(), nn.Linear(half, width)]
            inner += [nn.ReLU()]
        last = nn.Linear(width, 1, bias=False)
        nn.init.normal_(last.weight, std=1 / (width + 1))
        self.layers = nn.Sequential(*inner, last)
        self.register_buffer("goal", torch.full((width,), float("nan")))
        self.tokenizer = tokenizer

    @property
    def has_goal(self) -> bool:
        return bool(self.goal.isfinite().all())

    def forward(self, x: Tensor, prompt: Tensor | None = None) -> Tensor:
        found: Tensor = self.layers(x)
        return found.squeeze(-1)

    def reward(self, outputs: Tensor) -> Tensor:
        return outputs if outputs.ndim == 1 else outputs[:, 0, 0]

    def parts(self, outputs: Tensor) -> list[dict[str, Any]] | None:
        """{"tokens": [{"text", "value", "reward"}]} an item where tokens were asked for: value is the cosine."""
        if outputs.ndim == 1:
            return None
        return [{"tokens": self._tokens(row[1:][~row[1:, 2].isnan()])} for row in outputs.detach().double().cpu()]

    def _tokens(self, row: Tensor) -> list[dict[str, Any]]:
        texts = token_texts(self.tokenizer, [int(number) for number in row[:, 2]])
        told = zip(texts, row[:, 0].tolist(), row[:, 1].tolist(), strict=True)
        return [{"text": t, "value": None if math.isnan(q) else q, "reward": r} for t, q, r in told]


class GoalNet(RewardNet):
    """A RewardNet that can tell value and reward of every response token in the same pass (`per_token`)."""

    per_token = False
    head: GoalHead

    def forward(self, batch: Sequence[Encoded]) -> Tensor:
        if not self.per_token:
            return super().forward(batch)
        rows = [self._told(states, item) for states, item in zip(self.states(batch), batch, strict=True)]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=float("nan"))

    def _told(self, states: Tensor, item: Encoded) -> Tensor:
        own = states[len(item) - item.n_response :].float()
        ids = torch.from_numpy(item.ids[len(item) - item.n_response :]).to(own.device)
        reward = self.outputs_of(self.pool_one(states, item)[None]).expand(3)
        tokens = torch.stack([goal_values(own, self.head.goal), self.outputs_of(own), ids.float()], dim=1)
        return torch.cat([reward[None], tokens])


@torch.inference_mode()
def mean_last_state(net: RewardNet, encoded: Sequence[Encoded], *, budget: int) -> Tensor:
    """Mean state of the last token of each sequence, float32 (width,): the goal of these responses."""
    from workers.nn.scoring import batches_for

    if not encoded:
        raise ValueError("a goal is a mean over responses: there are none")
    total = torch.zeros(0)
    net.eval()
    for batch in batches_for(net, encoded, budget):
        ends = torch.stack([states[-1].double() for states in net.states([encoded[i] for i in batch])]).sum(dim=0).cpu()
        total = ends if not len(total) else total + ends
    return (total / len(encoded)).float()
