"""What happened to the weights of sources over the steps of a run, and what of it deserves a warning."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

DOMINANT = 0.8
FOR_STEPS = 50


@dataclass
class WeightWatch:
    """Follows the weights step by step. A source that is absent from a step has no weight there."""

    names: Sequence[str]
    n_steps: int = 0
    totals: dict[str, float] = field(default_factory=dict)
    in_a_row: dict[str, int] = field(default_factory=dict)
    longest: dict[str, int] = field(default_factory=dict)
    """Most steps in a row in which a source held more than 0.8."""
    n_absent: dict[str, int] = field(default_factory=dict)
    n_conflict: int = 0
    first_conflict: int | None = None
    step: int | None = None
    open_weights: dict[str, float] = field(default_factory=dict)
    """Of the step under way, summed over its parts, each times its share of the pairs."""
    open_conflict: bool = False

    def note(self, step: int, weights: Mapping[str, float], *, share: float, is_conflict: bool) -> None:
        """One part of a batch: weights of the sources in it, and how many pairs it has (in any unit)."""
        if step != self.step:
            self.close()
            self.step = step
        for name, weight in weights.items():
            self.open_weights[name] = self.open_weights.get(name, 0.0) + share * weight
        self.open_conflict = self.open_conflict or is_conflict

    def close(self) -> None:
        """The step under way is over."""
        if self.step is None:
            return
        whole = sum(self.open_weights.values())
        for name in self.names:
            weight = self.open_weights.get(name, 0.0) / whole if whole else 0.0
            self.totals[name] = self.totals.get(name, 0.0) + weight
            self.n_absent[name] = self.n_absent.get(name, 0) + (name not in self.open_weights)
            self.in_a_row[name] = self.in_a_row.get(name, 0) + 1 if weight > DOMINANT else 0
            self.longest[name] = max(self.longest.get(name, 0), self.in_a_row[name])
        self.n_steps += 1
        if self.open_conflict:
            self.n_conflict += 1
            self.first_conflict = self.step if self.first_conflict is None else self.first_conflict
        self.step, self.open_weights, self.open_conflict = None, {}, False

    def report(self) -> dict[str, Any]:
        """Mean weights by source, and warnings in words."""
        self.close()
        means = {name: self.totals.get(name, 0.0) / self.n_steps for name in self.names} if self.n_steps else {}
        return {"mean_weights": means, "n_conflict": self.n_conflict, "warnings": self._warnings()}

    def _warnings(self) -> list[str]:
        lines = [
            f"{shown(name)} held more than {DOMINANT} of the weight for {longest} steps in a row: it may be small, or"
            " pull against the others. Look at its pairs."
            for name, longest in self.longest.items()
            if longest >= FOR_STEPS
        ]
        if self.n_conflict:
            lines.append(
                f"sources in full conflict at {self.n_conflict} of {self.n_steps} steps, first at step"
                f" {self.first_conflict}: no step helped all of them"
            )
        lines += [
            f"{shown(name)} had no pair in {n} of {self.n_steps} steps and was left out there"
            for name, n in self.n_absent.items()
            if n
        ]
        return lines

    def dump(self) -> str:
        return json.dumps({**asdict(self), "names": list(self.names)})

    @classmethod
    def load(cls, text: str) -> WeightWatch:
        return cls(**json.loads(text))


def shown(name: str) -> str:
    return f"The source {name}" if name else "The source without a name"
