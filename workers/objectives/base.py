"""The interface of a training objective, and the one form that every pairwise loss takes."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from workers.data.schema import LabelledResponse, PreferencePair
from workers.families.base import Item
from workers.specs import SpecModel

if TYPE_CHECKING:
    from torch import Tensor

    from workers.nn.net import Net
    from workers.nn.units import UnitData
    from workers.nn.validation import ValidationResult
    from workers.nn.view import BatchView

Rows = NDArray[np.int64]


class Targets:
    """Base of what an objective wants of each unit: a frozen dataclass of arrays whose first axis is the unit.

    Every kind has is_used (False leaves the unit out) and weight (>= 0).
    """

    is_used: NDArray[np.bool_]
    weight: NDArray[np.float64]

    def rows(self, index: Rows) -> Self:
        return type(self)(**{f.name: getattr(self, f.name)[index] for f in fields(self)})  # type: ignore[arg-type]

    @classmethod
    def joined(cls, parts: Sequence["Targets"]) -> Self:
        names = [f.name for f in fields(cls)]  # type: ignore[arg-type]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})

    def digest(self, into: Any) -> None:
        """Feed what was asked for into a hash: other targets are another training set."""
        for f in fields(self):  # type: ignore[arg-type]
            if f.name != "is_used":
                into.update(np.ascontiguousarray(getattr(self, f.name)).tobytes())


@dataclass(frozen=True)
class PairTargets(Targets):
    """What an objective wants of each pair, as arrays of shape (n,), made once before training.

    is_used: False leaves the pair out (a tie under an objective that has no place for ties);
    target: P(response_a is preferred), 0.5 for a tie; weight: >= 0; offset: the margin r_a - r_b has to exceed this,
    in reward units, signed towards the preferred response; is_tie.
    """

    is_used: NDArray[np.bool_]
    target: NDArray[np.float64]
    weight: NDArray[np.float64]
    offset: NDArray[np.float64]
    is_tie: NDArray[np.bool_]


@dataclass(frozen=True)
class LabelTargets(Targets):
    """Values to be predicted, float64 of shape (n, k), nan where a response has none."""

    is_used: NDArray[np.bool_]
    values: NDArray[np.float64]
    weight: NDArray[np.float64]


class Objective(Protocol):
    """A class with a docstring, registered in OBJECTIVES and built from its Config.

    rows: what it learns from; needs: capabilities that the family must have (words of families.base.CAPABILITIES);
    is_batch_coupled: the loss of a unit depends on others in its batch, so micro-batches change it (said in the log);
    is_one_pass: it takes nothing from a net but its outputs, one pass a group, so that a net may lie in parts over
    processes: every one of them then passes through it as often as the others.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    Config: ClassVar[type[SpecModel]]
    rows: ClassVar[Literal["pairs", "labelled"]]
    needs: ClassVar[frozenset[str]]
    is_batch_coupled: ClassVar[bool]
    is_one_pass: ClassVar[bool]
    split_by: ClassVar[str]

    def __init__(self, config: Any) -> None: ...

    def meet(self, config: Any) -> None:
        """Called first of all, with the configuration of the family that is trained."""

    def targets(self, rows: Sequence[Any]) -> Targets:
        """What to aim at, from the labels."""

    def items(self, row: Any) -> list[Item]:
        """The sequences of one unit."""

    def refusal(self, row: Any) -> str:
        """Why a row that `targets` does not use is left out, in two or three words."""

    def batch_loss(self, view: "BatchView") -> "Tensor":
        """Loss of each unit, shape (n,), float32, each already multiplied by its weight."""

    def step_metrics(self, view: "BatchView") -> dict[str, float]:
        """What to chart of a batch besides its loss: means over its units."""

    def validation(self, net: "Net", data: "UnitData", rows: Rows, *, budget: int) -> "ValidationResult":
        """How the net does on units it was not trained on."""

    def choose(self, data: "UnitData") -> "UnitData":
        """Of all units that were read, those to use, the others counted; JobError where they cannot be learnt from."""

    def split_keys(self, data: "UnitData") -> list[str]:
        """Units of one key are never on both sides of the train/validation split."""

    def order(self, epoch: int, data: "UnitData", rows: Rows, margins: NDArray[np.float32], *, seed: int) -> Rows:
        """The training rows in the order of this epoch. margins: last known margin of every unit of data, or nan."""

    def around_step(self, net: "Net", step: int) -> AbstractContextManager[None]:
        """Entered before the gradient of a step is taken, left before the optimiser moves the weights."""

    def begin(self, net: "Net", data: "UnitData", rows: Rows, *, budget: int) -> None:
        """Called once before the first step of an attempt."""

    def state(self) -> dict[str, NDArray[Any]]:
        """What the objective remembers from step to step, kept with every saved state of the run."""

    def restore(self, kept: dict[str, NDArray[Any]]) -> None:
        """Remember again; called before begin() where a run goes on."""

    def finish(self, net: "Net", data: "UnitData", rows: Rows, *, budget: int) -> dict[str, Any]:
        """Called once after the last step, on the weights that are kept; what it returns goes into the result.

        Lines under "warnings" are logged as warnings too.
        """


class BaseObjective:
    """What most objectives do the same way."""

    needs: ClassVar[frozenset[str]] = frozenset()
    is_batch_coupled: ClassVar[bool] = False
    is_one_pass: ClassVar[bool] = False
    split_by: ClassVar[str] = "prompt"
    """What split_keys names, in a word."""

    def meet(self, config: Any) -> None: ...

    def choose(self, data: "UnitData") -> "UnitData":
        return data

    def split_keys(self, data: "UnitData") -> list[str]:
        return data.prompt_keys

    def order(self, epoch: int, data: "UnitData", rows: Rows, margins: NDArray[np.float32], *, seed: int) -> Rows:
        return rows[np.random.default_rng([seed, epoch]).permutation(len(rows))]

    def around_step(self, net: "Net", step: int) -> AbstractContextManager[None]:
        return nullcontext()

    def begin(self, net: "Net", data: "UnitData", rows: Rows, *, budget: int) -> None: ...

    def state(self) -> dict[str, NDArray[Any]]:
        return {}

    def restore(self, kept: dict[str, NDArray[Any]]) -> None: ...

    def finish(self, net: "Net", data: "UnitData", rows: Rows, *, budget: int) -> dict[str, Any]:
        return {}


class PairwiseObjective(BaseObjective):
    """Base of objectives on the rewards of two responses to one prompt."""

    rows: ClassVar[Literal["pairs"]] = "pairs"
    needs: ClassVar[frozenset[str]] = frozenset({"scalar"})

    def loss(self, rewards_a: "Tensor", rewards_b: "Tensor", targets: PairTargets) -> "Tensor":
        """Loss of each pair, shape (n,), float32, each already multiplied by its weight."""
        raise NotImplementedError

    def batch_loss(self, view: "BatchView") -> "Tensor":
        rewards_a, rewards_b = view.rewards
        return self.loss(rewards_a, rewards_b, view.targets)  # type: ignore[arg-type]

    def validation_loss(self, view: "BatchView") -> "Tensor":
        """The part of the loss that validation compares; the whole, unless an objective adds terms for training."""
        return self.batch_loss(view)

    def items(self, row: PreferencePair) -> list[Item]:
        extra = {"reference": row.reference} if row.reference else {}
        return [(row.prompt, row.response_a, extra), (row.prompt, row.response_b, extra)]

    def refusal(self, row: PreferencePair) -> str:
        return row.verdict if row.verdict in ("tie", "both_bad") else "no weight"

    def step_metrics(self, view: "BatchView") -> dict[str, float]:
        rewards_a, rewards_b = view.rewards
        preferred = preferred_margins(view, (rewards_a - rewards_b).detach().double().cpu().numpy())
        return {"accuracy": float((preferred > 0).mean()), "margin_mean": float(preferred.mean())}

    def validation(self, net: "Net", data: "UnitData", rows: Rows, *, budget: int) -> "ValidationResult":
        from workers.nn.validation import validate_pairs

        return validate_pairs(net, self, data, rows, budget=budget)


class LabelledObjective(BaseObjective):
    """Base of objectives on labels of single responses: the outputs of the net against values."""

    rows: ClassVar[Literal["labelled"]] = "labelled"

    def loss(self, outputs: "Tensor", targets: LabelTargets) -> "Tensor":
        """Loss of each response, shape (n,), float32, each already multiplied by its weight."""
        raise NotImplementedError

    def metrics(self, outputs: NDArray[np.float64], targets: LabelTargets) -> dict[str, float]:
        """What validation tells besides the loss."""
        raise NotImplementedError

    def batch_loss(self, view: "BatchView") -> "Tensor":
        return self.loss(view.outputs[0], view.targets)  # type: ignore[arg-type]

    def items(self, row: LabelledResponse) -> list[Item]:
        extra: dict[str, Any] = {"reference": row.reference} if row.reference else {}
        if row.steps:
            extra["steps"] = list(row.steps)
        return [(row.prompt, row.response, extra)]

    def refusal(self, row: LabelledResponse) -> str:
        return "no label"

    def step_metrics(self, view: "BatchView") -> dict[str, float]:
        return {}

    def validation(self, net: "Net", data: "UnitData", rows: Rows, *, budget: int) -> "ValidationResult":
        from workers.nn.validation import validate_labelled

        return validate_labelled(net, self, data, rows, budget=budget)


def preferred_margins(view: "BatchView", margins: NDArray[np.float64]) -> NDArray[np.float64]:
    """Margins r_a - r_b signed towards the preferred response; 0 for a tie."""
    targets = view.targets
    if not isinstance(targets, PairTargets):
        raise TypeError("margins need pairs")
    return np.asarray(np.sign(targets.target - 0.5) * margins)


def pair_targets(
    pairs: Sequence[PreferencePair],
    *,
    ties: Literal["drop", "half"] = "drop",
    label_smoothing: float = 0.0,
    use_shares: bool = False,
) -> PairTargets:
    """Targets of plain pairwise losses: weight 1 times the pair's own, no offset.

    With `use_shares`, P(a preferred) is the share of raters who said so, where a pair carries one. A pair that an edit
    has softened counts as turned with that chance.
    """
    aim = {"a": 1.0 - label_smoothing, "b": label_smoothing, "tie": 0.5, "both_bad": 0.5}
    used = {"a", "b", "tie"} if ties == "half" else {"a", "b"}
    told = [p.soft_target if use_shares and p.soft_target is not None else aim[p.verdict] for p in pairs]
    target = [t * (1 - p.flip_chance) + (1 - t) * p.flip_chance for t, p in zip(told, pairs, strict=True)]
    return PairTargets(
        is_used=np.array([p.verdict in used and p.weight > 0 for p in pairs], dtype=np.bool_),
        target=np.array(target, dtype=np.float64),
        weight=np.array([p.weight for p in pairs], dtype=np.float64),
        offset=np.zeros(len(pairs), dtype=np.float64),
        is_tie=np.array([p.verdict == "tie" for p in pairs], dtype=np.bool_),
    )
