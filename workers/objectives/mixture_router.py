"""The router of a mixture for stated contexts, from few pairs each; the heads stay as they are."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from workers.data.schema import PreferencePair
from workers.errors import JobError
from workers.families.base import Item
from workers.objectives import OBJECTIVES
from workers.objectives.base import PairTargets, PairwiseObjective, Rows, pair_targets
from workers.specs import SpecModel

if TYPE_CHECKING:
    from torch import Tensor

    from workers.nn.net import Net
    from workers.nn.units import UnitData
    from workers.nn.view import BatchView

LEAST_PAIRS = 2
"""A context with fewer training pairs stays with the router of the first stage."""


@OBJECTIVES.add("mixture_router")
class MixtureRouter(PairwiseObjective):
    """Moves the router towards the heads that explain a context's pairs: Hedge targets, made once an epoch.

    Every pair carries its context, a criterion in words, in the metadata of its example under "context"; the router
    reads it before the prompt. The heads come from a checkpoint trained with mixture_nll and do not change.
    """

    title: ClassVar[str] = "Context-aware router"
    needs: ClassVar[frozenset[str]] = frozenset({"heads", "router"})

    class Config(SpecModel):
        """Settings of the context-aware router."""

        tau: float = Field(
            default=0.001, gt=0, le=1e6, description="Temperature of the targets: small trusts the best head alone."
        )

    def __init__(self, config: Config) -> None:
        self.config = config

    def targets(self, pairs: Sequence[PreferencePair]) -> PairTargets:
        found = pair_targets(pairs)
        found.is_used[:] &= [bool(_context(pair)) for pair in pairs]
        return found

    def items(self, row: PreferencePair) -> list[Item]:
        extra = {"context": _context(row)}
        return [(row.prompt, row.response_a, extra), (row.prompt, row.response_b, extra)]

    def refusal(self, row: PreferencePair) -> str:
        return super().refusal(row) if row.verdict in ("tie", "both_bad") or _context(row) else "no context"

    def begin(self, net: "Net", data: "UnitData", rows: Rows, *, budget: int) -> None:
        """Which contexts are known from now on: those with two training pairs or more."""
        import torch

        from workers.nn.mixture_report import mixture_head

        head = mixture_head(net)
        if data.features is None:
            raise JobError(
                "The context-aware router is trained on a frozen backbone.", "Leave freeze_backbone empty or at yes."
            )
        if not int(head.stage):
            raise JobError(
                "The heads of this mixture have not been trained yet.",
                "Train with mixture_nll first and give that checkpoint as start_from.",
            )
        known = _known(_codes(data)[rows])
        if not known:
            raise JobError(
                "No context has two training pairs or more.", "Label more pairs for each context, fifty or so."
            )
        if len(known) > len(head.known_contexts):
            raise JobError(
                f"There are {len(known)} contexts; this model has room for {len(head.known_contexts)}.",
                "Raise max_contexts of the reward model and train its heads again.",
            )
        with torch.no_grad():
            head.known_contexts.zero_()
            head.known_contexts[: len(known)] = torch.tensor(known, dtype=torch.float32)

    def batch_loss(self, view: "BatchView") -> "Tensor":
        import torch

        from workers.nn.mixture import hedge_targets, mean_log_weights
        from workers.nn.mixture_report import mixture_head, pair_outputs

        head = mixture_head(view.net)
        head.anchor_at(view.epoch)
        with torch.no_grad():  # not even a zero gradient: weight decay would move the heads
            _, margins = pair_outputs(view)
        split = [head.split(_prompts(view, column)) for column in (0, 1)]
        contextual = [_contextual(part[1]) for part in split]
        log_f = mean_log_weights(*(head.context_log_weights(part) for part in contextual))
        before = mean_log_weights(*(head.anchored_log_weights(part) for part in contextual))
        aim = hedge_targets(before, _losses(margins, view), self.config.tau).float()
        is_known = torch.isin(split[0][2], head.known_contexts)
        weight = torch.as_tensor(view.targets.weight, dtype=torch.float32, device=log_f.device)
        return -(aim * log_f).sum(dim=1) * weight * is_known

    def validation_loss(self, view: "BatchView") -> "Tensor":
        from workers.nn.mixture_report import pair_losses, pair_outputs

        return pair_losses(*pair_outputs(view), view.targets)

    def finish(self, net: "Net", data: "UnitData", rows: Rows, *, budget: int) -> dict[str, Any]:
        from workers.nn.mixture_report import mixture_head

        codes = _codes(data)[rows]
        known = _known(codes)
        n_left = int((~np.isin(codes, known)).sum())
        mixture_head(net).anchor_epoch.fill_(-1)
        found: dict[str, Any] = {"n_contexts": len(known), "n_pairs_of_unknown_contexts": n_left}
        if n_left:
            line = f"{n_left} training pairs have a context with one pair alone: these contexts are not personalised."
            found["warnings"] = [line]
        return found


def _context(pair: PreferencePair) -> str:
    found = pair.meta.get("context")
    return found.strip() if isinstance(found, str) else ""


def _codes(data: "UnitData") -> Any:
    """Codes of the pairs' contexts, shape (n,)."""
    if data.features is None or data.features[0].prompt is None:
        raise ValueError("contexts are read into the features")
    return data.features[0].prompt[:, -1]


def _known(codes: Any) -> list[float]:
    found, counts = np.unique(codes, return_counts=True)
    return [float(code) for code, n in zip(found, counts, strict=True) if code > 0 and n >= LEAST_PAIRS]


def _prompts(view: "BatchView", column: int) -> "Tensor":
    found = view.features(column)[1]
    if found is None:
        raise ValueError("a mixture's features have prompts")
    return found


def _contextual(found: "Tensor | None") -> "Tensor":
    if found is None:
        raise ValueError("these features were read without contexts")
    return found


def _losses(margins: "Tensor", view: "BatchView") -> "Tensor":
    """How badly each head explains each pair: -log sigmoid(D_k), shape (n, K), without gradients."""
    import torch
    from torch.nn.functional import softplus

    targets = view.targets
    if not isinstance(targets, PairTargets):
        raise TypeError("a router is trained on pairs")
    sign = torch.as_tensor(np.sign(targets.target - 0.5), dtype=torch.float32, device=margins.device)
    return softplus(-margins * sign[:, None])
