"""One batch as an objective sees it: outputs, rewards, states and targets, computed when they are asked for."""

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.data.render import Encoded
from workers.nn.heads import join_outputs
from workers.nn.net import Net
from workers.nn.reward_net import RewardNet
from workers.nn.units import UnitData
from workers.objectives.base import Targets

Rows = NDArray[np.int64]


def aligned(vectors: NDArray[np.float32]) -> Tensor:
    """A copy where torch puts its own tensors. A product of floats differs in the last bit by where in memory they
    lie, and numpy's arrays lie anywhere: two trainings alike would not be the same.
    """
    return torch.tensor(vectors)


class BatchView:
    """The units `rows` of `data` under `net`. Lists have one entry a column: a pair has response_a and response_b."""

    def __init__(
        self, net: Net, data: UnitData, rows: Rows, *, budget: int, step: int = 0, epoch: int = 0, seed: int = 0
    ) -> None:
        self.net, self.data, self.rows, self.budget = net, data, rows, budget
        self.step, self.epoch, self.seed = step, epoch, seed
        self.targets: Targets = data.targets.rows(rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def sources(self) -> list[str]:
        return [self.data.sources[i] for i in self.rows]

    @property
    def raters(self) -> list[str]:
        return [self.data.raters[i] for i in self.rows]

    def rng(self, salt: int = 0) -> np.random.Generator:
        """The same numbers at the same step of the same run, whatever was killed before."""
        return np.random.default_rng([self.seed, self.step, salt, int(self.rows[0]) if len(self.rows) else 0])

    def encoded(self, column: int) -> list[Encoded]:
        return [self.data.columns[column][i] for i in self.rows]

    @cached_property
    def outputs(self) -> list[Tensor]:
        """Outputs of the net, shape (n,) or (n, ...) a column."""
        if self.data.features is not None:
            return [self._head_on(column) for column in range(len(self.data.features))]
        if "states" in self.__dict__:
            return [self._from_states(column) for column in range(len(self.data.columns))]
        sequences = [item for column in range(len(self.data.columns)) for item in self.encoded(column)]
        return list(self.net.forward_bucketed(sequences, self.budget).chunk(len(self.data.columns)))

    @cached_property
    def rewards(self) -> list[Tensor]:
        """Rewards, shape (n,) a column."""
        return [self.net.reward(part) for part in self.outputs]

    @cached_property
    def states(self) -> list[list[Tensor]]:
        """Last hidden states (tokens, width) of every sequence. Ask for them before outputs: one pass gives both."""
        if not isinstance(self.net, RewardNet):
            raise TypeError("states come from a net with a pooled head")
        return [self.net.states(self.encoded(column)) for column in range(len(self.data.columns))]

    def response_states(self, column: int) -> list[Tensor]:
        """States of the response's own tokens, its closing special tokens included."""
        pairs = zip(self.states[column], self.encoded(column), strict=True)
        return [states[len(item) - item.n_response :] for states, item in pairs]

    def again(self) -> "BatchView":
        """The same batch once more, with other dropout."""
        return BatchView(
            self.net, self.data, self.rows, budget=self.budget, step=self.step, epoch=self.epoch, seed=self.seed
        )

    def features(self, column: int, rows: Rows | None = None) -> tuple[Tensor, Tensor | None]:
        """Frozen features of this batch (or of other units): vectors (n, width), and of the prompts or None."""
        if self.data.features is None:
            raise ValueError("the backbone of this run is not frozen: there are no stored features")
        kept = self.data.features[column]
        index = self.rows if rows is None else rows
        device = self.net.device
        prompt = None if kept.prompt is None else aligned(kept.prompt[index]).to(device)
        return aligned(kept.response[index]).to(device), prompt

    def _head_on(self, column: int) -> Tensor:
        vectors, prompts = self.features(column)
        outputs: Tensor = self.net.head(vectors, prompts)
        return outputs

    def _from_states(self, column: int) -> Tensor:
        net = self.net
        if not isinstance(net, RewardNet) or net.head.needs_prompt:
            raise TypeError("states come from a net with a pooled head that reads no prompt of its own")
        pooled = [net.pool_one(s, item) for s, item in zip(self.states[column], self.encoded(column), strict=True)]
        return join_outputs([net.outputs_of(torch.stack(pooled))])
