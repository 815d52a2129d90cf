"""Two members that choose pairs for one another: selection, loss, and what there is to tell of it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.nn.losses import centring_loss, pairwise_loss
from workers.nn.net import Net
from workers.nn.twin import NAMES, TwinHead
from workers.nn.units import UnitData
from workers.nn.validation import Validation, pair_validation
from workers.nn.view import BatchView
from workers.objectives.base import PairTargets, Rows

Mask = NDArray[np.bool_]
READ_AT_ONCE = 256
SUSPECTS = 50


def twin_head(net: Net) -> TwinHead:
    if not isinstance(net.head, TwinHead):
        raise TypeError("peer review needs two heads")
    return net.head


def member_margins(view: BatchView) -> NDArray[np.float64]:
    """Margin of each member towards the preferred response, shape (n, 2)."""
    a, b = (part.detach().double().cpu().numpy() for part in view.outputs)
    sign = np.sign(_targets(view).target - 0.5)
    return np.asarray(sign[:, None] * (a - b), dtype=np.float64)


def choose_top(margins: NDArray[np.float64], sources: Sequence[str], *, drop: float, rng: np.random.Generator) -> Mask:
    """The pairs that are kept: all but the share `drop` of lowest margins, of every source by itself.

    The number dropped is drop * n rounded up or down at random, so that it is right on average in small sources too;
    one pair of a source always stays.
    """
    kept = np.ones(len(margins), dtype=np.bool_)
    names = np.array(sources, dtype=object).astype(str)
    for name in np.unique(names):
        here = np.flatnonzero(names == name)
        n_dropped = min(int(drop * len(here) + rng.random()), len(here) - 1)
        kept[here[np.argsort(margins[here], kind="stable")[:n_dropped]]] = False
    return kept


def jaccard(a: Mask, b: Mask) -> float:
    """Common share of two selections; 1 where both are the same."""
    return float((a & b).sum() / max((a | b).sum(), 1))


def member_losses(view: BatchView, learnt: Sequence[Mask], *, centre: float) -> Tensor:
    """Sum of both members' losses of each pair, shape (n,): member m learns from the pairs `learnt[m]`.

    A member's loss is a mean over what it learns from, however much that is.
    """
    targets = _targets(view)
    total: Tensor | None = None
    for number, mask in enumerate(learnt):
        own = replace(targets, weight=targets.weight * mask * _scale(targets.weight, mask))
        a, b = (part[:, number] for part in view.outputs)
        loss = pairwise_loss(a - b, target=own.target, weight=own.weight, offset=own.offset)
        if centre:
            loss = loss + centre * centring_loss(a, b, weight=own.weight)
        total = loss if total is None else total + loss
    if total is None:
        raise ValueError("there is no member")
    return total


def _scale(weight: NDArray[np.float64], mask: Mask) -> float:
    return 1.0 if mask.all() else float(weight.sum() / weight[mask].sum())


def _targets(view: BatchView) -> PairTargets:
    if not isinstance(view.targets, PairTargets):
        raise TypeError("peer review needs pairs")
    return view.targets


@dataclass(frozen=True)
class PeerValidation:
    """Validation of the chosen output, and the accuracy of each of the three there are."""

    chosen: Validation
    outputs: dict[str, dict[str, float]]

    @property
    def loss(self) -> float:
        return self.chosen.loss

    def as_metrics(self) -> dict[str, float]:
        told = {f"validation_accuracy_{name}": found["value"] for name, found in self.outputs.items()}
        return {**self.chosen.as_metrics(), **told}

    def as_json(self, step: int) -> dict[str, Any]:
        return {**self.chosen.as_json(step), "outputs": self.outputs}


def validate_peers(net: Net, data: UnitData, rows: Rows, *, budget: int) -> PeerValidation:
    """Each member and their standardised mean on the pairs of `rows`; the loss is the mean of the members' losses.

    The mean is standardised by the rewards of these pairs: those of the training pairs are known at the end only.
    """
    head = twin_head(net)
    net.eval()
    view = BatchView(net, data, rows, budget=budget)
    with torch.inference_mode():
        everyone = np.ones(len(rows), dtype=np.bool_)
        loss = float(member_losses(view, [everyone] * 2, centre=0.0).sum() / 2) / float(_targets(view).weight.sum())
        joined = torch.cat(view.outputs)
        standard = ((joined - joined.mean(dim=0)) / joined.std(dim=0, correction=0).clamp(min=1e-12)).mean(dim=1)
    rewards = {
        **{name: joined[:, number] for number, name in enumerate(NAMES)},
        "mean": standard,
    }
    groups = {"source": view.sources, "rater": view.raters}
    found = {name: _validation(values, view, loss, groups) for name, values in rewards.items()}
    told = {name: {"value": v.accuracy, "low": v.low, "high": v.high, "n": float(v.n)} for name, v in found.items()}
    return PeerValidation(found[head.output], told)


def _validation(rewards: Tensor, view: BatchView, loss: float, groups: dict[str, list[str]]) -> Validation:
    a, b = (part.double().cpu().numpy() for part in rewards.chunk(2))
    return pair_validation(a, b, _targets(view), loss=loss, groups=groups)


@dataclass(frozen=True)
class PeerReport:
    """Of the training pairs at the end: how far the members' choices differ, and the pairs that both find least likely.

    jaccard: common share of the pairs that the members would keep; margin of a suspect: the mean of both members'.
    """

    jaccard: float
    suspects: list[dict[str, Any]]


def report_peers(net: Net, data: UnitData, rows: Rows, *, budget: int, drop: float) -> dict[str, Any]:
    """Standardise the members by the rewards of the training pairs, and tell what they think of these."""
    head = twin_head(net)
    net.eval()
    margins, outputs = [], []
    with torch.inference_mode():
        for start in range(0, len(rows), READ_AT_ONCE):
            view = BatchView(net, data, rows[start : start + READ_AT_ONCE], budget=budget)
            margins.append(member_margins(view))
            outputs += list(view.outputs)
    with torch.no_grad():
        head.standardise_by(torch.cat([part.clone() for part in outputs]))
    both = np.concatenate(margins)
    sources = [data.sources[i] for i in rows] if data.sources else [""] * len(rows)
    picked = [choose_top(both[:, m], sources, drop=drop, rng=np.random.default_rng(0)) for m in range(2)]
    mean = both.mean(axis=1)
    lowest = np.argsort(mean, kind="stable")[: min(SUSPECTS, max(1, len(rows) // 10))]
    suspects = [{"id": data.ids[rows[i]] if data.ids else int(rows[i]), "margin": float(mean[i])} for i in lowest]
    return asdict(PeerReport(jaccard(*picked), suspects))
