"""Which labels are wrong: what several reward models, trained apart, think of every pair."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Group = Literal["robust", "ambiguous", "incorrect"]
GROUPS: tuple[Group, ...] = ("robust", "ambiguous", "incorrect")
MIN_MEMBERS = 3
LN2 = math.log(2)
UNEQUAL_SCALES = 2.0


@dataclass(frozen=True)
class LabelAudit:
    """One entry a pair, arrays of shape (n,).

    mu, sigma: mean and population standard deviation over members of the last margin towards the label, in reward
    units; mean_loss, sd_loss: of -log sigmoid(margin) over members and epochs; sign_changes: of the margin from epoch
    to epoch, mean over members; group: see `grouped`. scale_ratio: largest over smallest standard deviation of a
    member's margins; is_standardised: whether each member's margins were divided by its own.
    """

    mu: Floats
    sigma: Floats
    mean_loss: Floats
    sd_loss: Floats
    sign_changes: Floats
    group: NDArray[np.str_]
    scale_ratio: float
    is_standardised: bool

    def __len__(self) -> int:
        return len(self.mu)

    @property
    def negative_share(self) -> float:
        """Share of pairs whose label the members together hold to be the wrong way round."""
        return float((self.mu < 0).mean())


def audit_labels(margins: Floats, *, standardise: bool = False) -> LabelAudit:
    """Summaries of margins of shape (members, epochs, n), each towards the label as given.

    Strength as Wang et al. 2024 (arXiv 2401.06080), dynamics after Zhang et al. 2025 (arXiv 2505.10597).

    Raises
    ------
    ValueError
        Fewer than three members, no epoch, or margins that are not finite.
    """
    found = np.asarray(margins, dtype=np.float64)
    if found.ndim != 3 or found.shape[0] < MIN_MEMBERS or not found.shape[1]:
        raise ValueError(f"margins must be (members >= {MIN_MEMBERS}, epochs >= 1, pairs), got {found.shape}")
    if not np.isfinite(found).all():
        raise ValueError("margins hold values that are not finite numbers")
    spreads = found[:, -1].std(axis=1)
    ratio = float(spreads.max() / spreads.min()) if spreads.min() > 0 else math.inf
    last = found[:, -1] / spreads[:, None] if standardise and spreads.min() > 0 else found[:, -1]
    losses = np.logaddexp(0.0, -found)
    flat = losses.reshape(-1, found.shape[2])
    mean_loss, sd_loss = flat.mean(axis=0), flat.std(axis=0)
    changes = (np.sign(found[:, 1:]) != np.sign(found[:, :-1])).sum(axis=1).mean(axis=0)
    return LabelAudit(
        mu=last.mean(axis=0),
        sigma=last.std(axis=0),
        mean_loss=mean_loss,
        sd_loss=sd_loss,
        sign_changes=np.asarray(changes, dtype=np.float64),
        group=grouped(mean_loss, sd_loss),
        scale_ratio=ratio,
        is_standardised=standardise,
    )


def grouped(mean_loss: Floats, sd_loss: Floats) -> NDArray[np.str_]:
    """incorrect: the mean loss lies above ln 2 by more than its spread; robust: below by more; else ambiguous."""
    above, below = mean_loss - sd_loss > LN2, mean_loss + sd_loss < LN2
    return np.where(above, "incorrect", np.where(below, "robust", "ambiguous"))


def rank_classes(mu: Floats, *, wrong_share: float, ambiguous_share: float) -> NDArray[np.str_]:
    """Rough classes by rank of mu: the lowest share wrong, the next ambiguous, the rest normal."""
    ranks = np.empty(len(mu), dtype=np.int64)
    ranks[np.argsort(mu, kind="stable")] = np.arange(len(mu))
    share = (ranks + 0.5) / max(len(mu), 1)
    return np.where(
        share < wrong_share, "wrong", np.where(share < wrong_share + ambiguous_share, "ambiguous", "normal")
    )


def strength_groups(audit: LabelAudit, *, n_groups: int = 20) -> list[dict[str, float]]:
    """Quantile groups of mu from the lowest up: mean mu, mean sigma, n. Groups differ in size by one at most."""
    order = np.argsort(audit.mu, kind="stable")
    return [
        {"mu": float(audit.mu[part].mean()), "sigma": float(audit.sigma[part].mean()), "n": len(part)}
        for part in np.array_split(order, n_groups)
        if len(part)
    ]


def u_shape(groups: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean sigma of the first and the last group over that of the smallest: both above 1 where it is U-shaped."""
    sigmas = [group["sigma"] for group in groups]
    least = min(sigmas)
    return {"first": sigmas[0] / least, "last": sigmas[-1] / least} if least > 0 else {"first": 1.0, "last": 1.0}


def histogram(values: Floats, *, bins: int = 40) -> list[dict[str, float]]:
    """Counts in bins of equal width; 0 is an edge where values lie on both sides of it."""
    low, high = float(values.min()), float(values.max())
    if low < 0 < high:
        width = (high - low) / bins
        edges = np.arange(math.floor(low / width), math.ceil(high / width) + 1) * width
    else:
        edges = np.linspace(low, high if high > low else low + 1.0, bins + 1)
    counts, edges = np.histogram(values, edges)
    return [
        {"low": float(a), "high": float(b), "n": int(n)} for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True)
    ]


@dataclass(frozen=True)
class NoiseRate:
    """Share of wrong labels with where it comes from; `note` says what it leaves out."""

    value: float
    source: str
    note: str
    n: int


def noise_rate(
    audit: LabelAudit,
    *,
    given: float | None = None,
    agrees: NDArray[np.bool_] | None = None,
    model_errs: NDArray[np.bool_] | None = None,
    is_cross_fitted: bool,
) -> NoiseRate:
    """In this order: as given; 1 - agreement with a re-annotated sample; share of negative mu.

    agrees: of re-annotated pairs, whether the label stood; model_errs: of the same pairs, whether the sign of mu
    disagrees with what people said the second time (the model's own error).
    """
    if given is not None:
        return NoiseRate(given, "given", "as whoever started the audit said", len(audit))
    if agrees is not None and len(agrees):
        return NoiseRate(float(1 - agrees.mean()), "reannotated", _sample_note(audit, model_errs), len(agrees))
    how = "cross_fitting" if is_cross_fitted else "same_pairs"
    note = "share of pairs with negative mean margin; the models' own errors are in it, so it is rather too high"
    if not is_cross_fitted:
        note += ", and they were trained on these very pairs, which makes it rather too low"
    return NoiseRate(audit.negative_share, how, note, len(audit))


def _sample_note(audit: LabelAudit, model_errs: NDArray[np.bool_] | None) -> str:
    note = "1 - agreement with the re-annotated pairs, right only where these were drawn at random"
    if model_errs is None or not len(model_errs):
        return note
    own = float(model_errs.mean())
    corrected = max(0.0, audit.negative_share - own)
    return f"{note}; by the margins less the models' own error of {own:.3f} it would be {corrected:.3f}"


def group_report(audit: LabelAudit, gradients: dict[str, list[float]]) -> dict[str, dict[str, Any]]:
    """n, mean loss, spread and mean mu of each group, with the gradient norm at each epoch where it is known."""
    told: dict[str, dict[str, Any]] = {}
    for name in GROUPS:
        here = audit.group == name
        means = {
            key: float(getattr(audit, key)[here].mean()) if here.any() else None
            for key in ("mean_loss", "sd_loss", "mu", "sigma", "sign_changes")
        }
        told[name] = {"n": int(here.sum()), **means, "gradient_norm": gradients.get(name, [])}
    return told
