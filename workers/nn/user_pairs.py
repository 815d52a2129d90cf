"""The labelled pairs of each user, and contexts drawn from them that never hold what is to be predicted."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.nn.latent_user import LatentUserHead, Posterior
from workers.nn.net import Net
from workers.nn.units import UnitData
from workers.nn.view import aligned
from workers.objectives.base import PairTargets

Rows = NDArray[np.int64]


class UserPairs:
    """Which units are whose."""

    def __init__(self, data: UnitData) -> None:
        if data.features is None or not isinstance(data.targets, PairTargets):
            raise TypeError("users are encoded from stored features of pairs")
        self.data, self.features, self.targets = data, data.features, data.targets
        raters = np.array(data.raters, dtype=object)
        self.rows: dict[str, Rows] = {str(name): np.flatnonzero(raters == name) for name in sorted(set(data.raters))}
        self.prompts = np.unique(np.array(data.prompt_keys, dtype=object), return_inverse=True)[1]

    def contexts(
        self, rows: Rows, *, least: int, most: int, rng: np.random.Generator
    ) -> tuple[Rows, NDArray[np.bool_]]:
        """For each unit of `rows` other units of its rater: numbers (n, most), and which of them are real.

        None of them shares the unit's prompt, so no context holds what it is to predict. A rater with fewer pairs
        than were drawn gives what there is.
        """
        index = np.zeros((len(rows), most), dtype=np.int64)
        mask = np.zeros((len(rows), most), dtype=np.bool_)
        sizes = rng.integers(least, most + 1, size=len(rows))
        for i, (row, size) in enumerate(zip(rows, sizes, strict=True)):
            own = self.rows[self.data.raters[row]]
            others = own[self.prompts[own] != self.prompts[row]]
            drawn = rng.choice(others, size=min(int(size), len(others)), replace=False)
            index[i, : len(drawn)], mask[i, : len(drawn)] = drawn, True
        return index, mask

    def of_users(self, *, most: int, rng: np.random.Generator) -> tuple[list[str], Rows, NDArray[np.bool_]]:
        """One context a rater, of all sizes up to `most`."""
        names = list(self.rows)
        index = np.zeros((len(names), most), dtype=np.int64)
        mask = np.zeros((len(names), most), dtype=np.bool_)
        for i, name in enumerate(names):
            drawn = rng.choice(self.rows[name], size=min(most, len(self.rows[name])), replace=False)
            index[i, : len(drawn)], mask[i, : len(drawn)] = drawn, True
        return names, index, mask

    def posterior(
        self, net: Net, index: Rows, mask: NDArray[np.bool_], *, flipped: NDArray[np.bool_] | None = None
    ) -> Posterior:
        """q(z | context) of each row of `index`; `flipped` (n, most) turns labels round, to see what noise does."""
        a, b = (aligned(part.response[index]).to(net.device) for part in self.features)
        is_a = self.targets.target[index] > 0.5
        if flipped is not None:
            is_a ^= flipped
        first = torch.from_numpy(is_a).to(net.device)[:, :, None]
        chosen, rejected = torch.where(first, a, b), torch.where(first, b, a)
        found: Posterior = latent_head(net).encoder(chosen, rejected, torch.from_numpy(mask).to(net.device))
        return found

    def rewards(self, net: Net, rows: Rows, z: Tensor) -> tuple[Tensor, Tensor]:
        """r(a, z) and r(b, z) of the units `rows`, shape (n,) each."""
        a, b = (aligned(part.response[rows]).to(net.device) for part in self.features)
        return latent_head(net).rate(a, z), latent_head(net).rate(b, z)


def latent_head(net: Net) -> LatentUserHead:
    if not isinstance(net.head, LatentUserHead):
        raise TypeError("this objective trains a latent-user head")
    return net.head
