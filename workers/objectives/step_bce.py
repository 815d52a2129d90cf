"""Cross-entropy a step: how process reward models are trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from workers.data.schema import LabelledResponse
from workers.errors import JobError
from workers.objectives import OBJECTIVES
from workers.objectives.base import LabelledObjective, LabelTargets, Rows, Targets
from workers.specs import SpecModel
from workers.stats.auroc import auroc

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class StepTargets(LabelTargets):
    """Labels of steps, shape (n, most steps), nan where a step has none or is not there."""

    @classmethod
    def joined(cls, parts: Sequence[Targets]) -> Self:
        labels = [part.values for part in parts if isinstance(part, StepTargets)]
        widest = max((block.shape[1] for block in labels), default=0)
        wide = [np.pad(block, ((0, 0), (0, widest - block.shape[1])), constant_values=np.nan) for block in labels]
        return cls(
            is_used=np.concatenate([part.is_used for part in parts]),
            values=np.concatenate(wide),
            weight=np.concatenate([part.weight for part in parts]),
        )


@OBJECTIVES.add("step_bce")
class StepCrossEntropy(LabelledObjective):
    """-[y log p + (1 - y) log(1 - p)] of every labelled step, y in [0, 1]; steps without a label count for nothing."""

    title: ClassVar[str] = "Cross-entropy a step"
    needs: ClassVar[frozenset[str]] = frozenset({"per_step"})
    is_one_pass: ClassVar[bool] = True

    class Config(SpecModel):
        """Settings of the step objective."""

        weigh: Literal["steps", "responses"] = Field(
            default="steps",
            description="Every labelled step counts the same, or every response does, however many steps it has.",
        )

    def __init__(self, config: Config) -> None:
        self.config = config

    def targets(self, rows: Sequence[LabelledResponse]) -> StepTargets:
        kept = [[] if refused(row) else list(row.step_labels) for row in rows]
        values = np.full((len(rows), max((len(labels) for labels in kept), default=0)), np.nan)
        for place, labels in enumerate(kept):
            values[place, : len(labels)] = [np.nan if label is None else label for label in labels]
        n_labelled = np.isfinite(values).sum(axis=1)
        own = np.array([row.weight for row in rows], dtype=np.float64)
        return StepTargets(
            is_used=n_labelled > 0,
            values=values,
            weight=own * n_labelled if self.config.weigh == "steps" else own,
        )

    def refusal(self, row: LabelledResponse) -> str:
        return refused(row) or "no labelled step"

    def begin(self, net: Any, data: Any, rows: Rows, *, budget: int) -> None:
        labels = data.targets.values[rows]
        known = labels[np.isfinite(labels)]
        if len(known) and (known == known[0]).all():
            raise JobError(
                f"All {len(known)} labelled steps to train on have the label {known[0]:g}.",
                "Choose a source with right steps (1) and wrong ones (0).",
            )

    def loss(self, outputs: "Tensor", targets: LabelTargets) -> "Tensor":
        """Mean over the labelled steps of each response that were read, times its weight."""
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits

        logits = outputs.float()
        labels = torch.as_tensor(targets.values[:, : logits.shape[1]], dtype=torch.float32, device=logits.device)
        logits = logits[:, : labels.shape[1]]
        is_known = ~labels.isnan() & ~logits.isnan()
        zero = torch.zeros_like(logits)
        each = binary_cross_entropy_with_logits(
            torch.where(is_known, logits, zero), torch.where(is_known, labels, zero), reduction="none"
        )
        mean = torch.where(is_known, each, zero).sum(dim=1) / is_known.sum(dim=1).clamp(min=1)
        return mean * torch.as_tensor(targets.weight, dtype=torch.float32, device=logits.device)

    def metrics(self, outputs: NDArray[np.float64], targets: LabelTargets) -> dict[str, float]:
        """Over labelled steps: accuracy at 1/2 and AUROC (labels of 1/2 and more are right), and how many.

        What is not defined, such as the AUROC of right steps alone, is absent.
        """
        width = min(outputs.shape[1], targets.values.shape[1])
        logits, labels = outputs[:, :width], targets.values[:, :width]
        is_known = np.isfinite(logits) & np.isfinite(labels)
        logits, is_right = logits[is_known], labels[is_known] >= 0.5
        told = {"n_steps": float(len(logits))}
        if len(logits):
            told |= {"step_accuracy": float(((logits > 0) == is_right).mean()), "share_right": float(is_right.mean())}
        if is_right.any() and not is_right.all():
            told["step_auroc"] = auroc(logits, is_right)
        return told


def refused(row: LabelledResponse) -> str | None:
    """Why the steps of a response cannot be learned from, in two or three words."""
    if not row.steps:
        return "no steps"
    if len(row.step_labels) != len(row.steps):
        return "labels do not match steps"
    if any(label is not None and not 0 <= label <= 1 for label in row.step_labels):
        return "a label outside 0 to 1"
    return None if row.weight > 0 else "no weight"
