"""Bradley-Terry on several sources, each weighed so that the step is along what they agree on."""

from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from workers.data.schema import PreferencePair
from workers.errors import JobError
from workers.objectives import OBJECTIVES
from workers.objectives.base import PairTargets, PairwiseObjective, Rows, pair_targets
from workers.specs import SpecModel
from workers.stats.min_norm import is_full_conflict, min_norm_weights, normalised
from workers.stats.source_weights import WeightWatch

if TYPE_CHECKING:
    from torch import Tensor

    from workers.nn.net import Net
    from workers.nn.units import UnitData
    from workers.nn.view import BatchView

MOST_SOURCES = 64
NO_GRADIENT = 1e-12


@OBJECTIVES.add("min_norm_bt")
class MinNormBradleyTerry(PairwiseObjective):
    """-log sigmoid(margin), the mean loss of each source weighed at every step by the min-norm combination.

    The weights make the combined gradient of the reward head as short as it can be; a step along it raises the loss of
    no source, to first order. Sources are the datasets, or what source_key names. Tastes that are few or opposed to the
    others gain weight: watch the weights, which are charted as lambda_ and the source's name.
    """

    title: ClassVar[str] = "Bradley-Terry, sources weighed by agreement"
    is_batch_coupled: ClassVar[bool] = True

    class Config(SpecModel):
        """Settings of the weighing."""

        weighting: Literal["min_norm", "equal"] = Field(
            default="min_norm", description="equal: every source the same weight, on the same batches, to compare with."
        )
        normalise: Literal["none", "l2", "loss", "loss+"] = Field(
            default="l2", description="Scale of a source's gradient. none: the source with the longest has least say."
        )
        alpha: float = Field(
            default=0.99, gt=0, le=1, description="Part of the new gradient in the running one of each source."
        )
        sampling: Literal["balanced", "as_is"] = Field(
            default="balanced", description="Equally many pairs of every source in each batch, small ones repeated."
        )
        ties: Literal["drop", "half"] = Field(
            default="drop", description="Leave ties out, or aim at even odds. Pairs where both are bad are left out."
        )

    def __init__(self, config: Config) -> None:
        self.config = config
        self.running: dict[str, NDArray[np.float64]] = {}
        self.watch = WeightWatch(())
        self._told: dict[str, float] = {}

    def targets(self, pairs: Sequence[PreferencePair]) -> PairTargets:
        return pair_targets(pairs, ties=self.config.ties)

    def choose(self, data: "UnitData") -> "UnitData":
        n = len(set(data.sources))
        if not 2 <= n <= MOST_SOURCES:
            raise JobError(
                f"Weighing sources needs 2 to {MOST_SOURCES} of them; the pairs have {n}.",
                "Name the metadata key that holds the source in source_key, or use the objective bradley_terry.",
            )
        self.watch = WeightWatch(sorted(set(data.sources)))
        return data

    def order(self, epoch: int, data: "UnitData", rows: Rows, margins: NDArray[np.float32], *, seed: int) -> Rows:
        """An epoch is as long as ever; balanced, its rows take turns over the sources that are trained on."""
        if self.config.sampling == "as_is":
            return super().order(epoch, data, rows, margins, seed=seed)
        rng = np.random.default_rng([seed, epoch])
        names = np.array([data.sources[i] for i in rows], dtype=object)
        decks = [_deck(rows[names == name], rng) for name in sorted(set(names))]
        turns = cycle(decks)
        return np.array([next(next(turns)) for _ in range(len(rows))], dtype=np.int64)

    def begin(self, net: "Net", data: "UnitData", rows: Rows, *, budget: int) -> None:
        from workers.nn.source_gradients import head_parameters

        head_parameters(net)

    def validation_loss(self, view: "BatchView") -> "Tensor":
        from workers.nn.losses import pairwise_loss

        targets: PairTargets = view.targets  # type: ignore[assignment]
        rewards_a, rewards_b = view.rewards
        return pairwise_loss(rewards_a - rewards_b, target=targets.target, weight=targets.weight, offset=targets.offset)

    def batch_loss(self, view: "BatchView") -> "Tensor":
        """Summed and divided by the total weight, this is the sum of lambda_k times the mean loss of source k."""
        import torch

        from workers.nn.source_gradients import source_means

        losses = self.validation_loss(view)
        weight = view.targets.weight
        names, means, totals = source_means(losses, weight, view.sources)
        weights = dict(zip(names, self._weights(view, names, means), strict=True))
        factor = {name: weights[name] * weight.sum() / total for name, total in zip(names, totals, strict=True)}
        scale = torch.tensor([factor.get(name, 0.0) for name in view.sources], dtype=torch.float32)
        return losses * scale.to(losses.device)

    def _weights(self, view: "BatchView", names: list[str], means: "list[Tensor]") -> NDArray[np.float64]:
        """lambda_k of the sources in this batch: numbers, so no gradient flows through them."""
        from workers.nn.source_gradients import head_gradients, head_parameters

        new = head_gradients(means, head_parameters(view.net))
        vectors = np.stack([self._run_on(name, vector) for name, vector in zip(names, new, strict=True)])
        losses = np.array([max(float(mean.detach()), NO_GRADIENT) for mean in means])
        weights, is_conflict = self._solve(vectors, losses)
        told = dict(zip(names, weights.tolist(), strict=True))
        self.watch.note(view.step, told, share=float(len(view)), is_conflict=is_conflict)
        self._told = {f"lambda_{name}": told.get(name, 0.0) for name in self.watch.names}
        self._told["full_conflict"] = float(is_conflict)
        return weights

    def _run_on(self, name: str, new: NDArray[np.float64]) -> NDArray[np.float64]:
        """m <- (1 - alpha) m + alpha g. Alpha is on the new gradient: the other way round the weights would freeze."""
        alpha = self.config.alpha
        self.running[name] = (1 - alpha) * self.running.get(name, np.zeros_like(new)) + alpha * new
        return self.running[name]

    def _solve(self, vectors: NDArray[np.float64], losses: NDArray[np.float64]) -> tuple[NDArray[np.float64], bool]:
        """Weights, and whether the sources conflict fully. A source without a gradient has nothing to weigh."""
        weights = np.zeros(len(vectors))
        moving = np.linalg.norm(vectors, axis=1) > NO_GRADIENT
        if self.config.weighting == "equal" or not moving.any():
            return np.full(len(vectors), 1 / len(vectors)), False
        scaled = normalised(vectors[moving], losses[moving], self.config.normalise)
        found = min_norm_weights(scaled)
        weights[moving] = found.weights
        return weights, is_full_conflict(found, scaled)

    def step_metrics(self, view: "BatchView") -> dict[str, float]:
        return {**super().step_metrics(view), **self._told}

    def state(self) -> dict[str, NDArray[Any]]:
        kept: dict[str, NDArray[Any]] = {f"running {name}": vector for name, vector in self.running.items()}
        return {**kept, "watch": np.array(self.watch.dump())}

    def restore(self, kept: dict[str, NDArray[Any]]) -> None:
        self.running = {name[8:]: vector for name, vector in kept.items() if name.startswith("running ")}
        if "watch" in kept:
            self.watch = WeightWatch.load(str(kept["watch"]))

    def finish(self, net: "Net", data: "UnitData", rows: Rows, *, budget: int) -> dict[str, Any]:
        return self.watch.report()


def _deck(rows: Rows, rng: np.random.Generator) -> Any:
    """The rows of one source without end, shuffled anew whenever all have had their turn."""
    while True:
        yield from rng.permutation(rows).tolist()
