"""From a spec and a context to the strengths of all pairs: features once, members one by one, a table and a summary."""

import csv
import hashlib
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from workers.context import JobContext
from workers.environment import describe_environment, keep_freed_memory, peak_rss_mib
from workers.errors import JobError
from workers.families import FAMILIES
from workers.jobs.audit_labels import MIN_PAIRS
from workers.nn.audit_members import PairFeatures, Recipe, Watch, member_margins
from workers.nn.features import compute_features
from workers.nn.heads import DeepHead, Head, ScalarHead
from workers.nn.reward_net import RewardNet
from workers.nn.ticks import Throttle
from workers.nn.units import UnitData, read_units
from workers.objectives import OBJECTIVES
from workers.objectives.base import PairTargets
from workers.specs import parse_spec
from workers.stats.label_audit import (
    GROUPS,
    UNEQUAL_SCALES,
    LabelAudit,
    NoiseRate,
    audit_labels,
    group_report,
    histogram,
    noise_rate,
    rank_classes,
    strength_groups,
    u_shape,
)

MOST_SUSPECTS = 200
TABLE = "strengths.csv"
COLUMNS = (
    *("pair_id", "verdict", "mu", "sigma", "mean_loss", "sd_loss", "sign_changes", "group", "rank_class"),
    *("response_a_id", "response_b_id"),
)
Margins = NDArray[np.float64]


def audit(ctx: JobContext, spec: Any) -> dict[str, Any]:
    keep_freed_memory()
    started = time.monotonic()
    net, data, responses, backbone = _prepare(ctx, spec)
    pairs = _oriented(data)
    recipe = Recipe(spec.epochs, spec.batch_pairs, spec.learning_rate, spec.weight_decay, spec.folds)
    watch = Watch()
    margins = _all_margins(ctx, spec, net, data, pairs, recipe=recipe, watch=watch)
    found = audit_labels(margins, standardise=spec.standardise)
    if found.scale_ratio > UNEQUAL_SCALES and not spec.standardise:
        ctx.log(
            f"The members' margins differ in scale by a factor of {found.scale_ratio:.1f}: the largest outweighs the "
            "others in the mean. Set standardise to yes to give each the same weight",
            "warning",
        )
    classes = rank_classes(found.mu, wrong_share=spec.wrong_share, ambiguous_share=spec.ambiguous_share)
    table = _write_table(ctx.work_dir / TABLE, data, found, classes, responses)
    uid = ctx.save_artifact(table, kind="table", name=TABLE, meta={"n": len(found), "columns": list(COLUMNS)})
    gradients = watch.gradient_norms(pairs, {name: np.flatnonzero(found.group == name) for name in GROUPS})
    groups = strength_groups(found)
    noise = _noise(ctx, spec, found, data, responses)
    ctx.log(f"{noise.value:.1%} of the labels are taken to be wrong ({noise.source}: {noise.note})")
    return {
        "table": uid,
        "backbone": backbone,
        "n_pairs": data.n_read,
        "n_audited": len(found),
        "n_left_out": data.n_read - len(data),
        "left_out": data.left_out,
        "members": len(margins),
        "seeds": spec.all_seeds(),
        "epochs": spec.epochs,
        "measured": measured(spec),
        "is_standardised": found.is_standardised,
        "scale_ratio": found.scale_ratio,
        "negative_strength_share": found.negative_share,
        "noise_rate": {"value": noise.value, "source": noise.source, "note": noise.note, "n": noise.n},
        "groups": group_report(found, gradients),
        "rank_classes": {name: int((classes == name).sum()) for name in ("wrong", "ambiguous", "normal")},
        "strengths": histogram(found.mu),
        "strength_groups": groups,
        "u_shape": u_shape(groups),
        "suspects": _suspects(spec, data, found),
        "encoded_sha256": data.fingerprint,
        "seconds": round(time.monotonic() - started, 3),
        "peak_rss_mib": round(peak_rss_mib()),
        "environment": describe_environment(),
    }


def measured(spec: Any) -> str:
    """How the strengths were measured, in words: it decides how far they can be trusted."""
    if spec.folds > 1:
        return f"on pairs not trained on ({spec.folds} folds by prompt, {spec.epochs} epochs)"
    return f"on the pairs trained on, after {spec.epochs} epochs"


def _prepare(ctx: JobContext, spec: Any) -> tuple[RewardNet, UnitData, dict[str, tuple[Any, Any]], str]:
    """The net, its features of every decided pair, the ids of their responses, and the backbone's name."""
    family, config = _family_of(ctx, spec)
    ctx.progress(0, 1, f"Loading the backbone {config.backbone}")
    backbone = family.load_backbone(config)
    torch.manual_seed(spec.seed)
    net = family.net(config, backbone)
    if not isinstance(net, RewardNet) or net.head.needs_prompt:
        raise JobError(
            "The head of this reward model reads more than one vector a response.",
            "Name a reward model of the family scalar_head, or none for the built-in MiniLM.",
        )
    if torch.cuda.is_available():
        net.cuda()
    responses: dict[str, tuple[Any, Any]] = {}
    plain: Any = OBJECTIVES.get("bradley_terry")
    query = spec.source.query()
    total = ctx.count_input("pairs", source=query)

    def on_read(n: int) -> None:
        ctx.checkpoint()
        ctx.progress(0, 1, f"Read {n} of {max(n, total)} pairs")

    data = read_units(
        _noting(ctx.open_input("pairs", source=query), responses),
        family.renderer(config, backbone),
        plain(plain.Config()),
        on_read=on_read,
        encode=lambda renderer, items: family.encode(config, renderer, items),
        unfit=lambda item: family.unfit(config, item),
    )
    _check_enough(ctx, data)

    def on_done(done: int, all_texts: int) -> None:
        ctx.checkpoint()
        ctx.progress(done, 2 * all_texts, f"Read {done} of {all_texts} texts with the frozen backbone")

    net.backbone.requires_grad_(False)
    data.features = compute_features(net, data, ctx.work_dir / "features", budget=spec.token_budget, on_done=on_done)
    return net, data, responses, config.backbone


def _family_of(ctx: JobContext, spec: Any) -> tuple[Any, Any]:
    if spec.reward_model is None:
        family: Any = FAMILIES.get("scalar_head")
        return family, family.Config(head_depth=spec.head_depth or 2)
    reference = ctx.load_reward_model(spec.reward_model)
    family = FAMILIES.get(reference.family)
    return family, parse_spec(family.Config, reference.config, at="/reward_model")


def _noting(pairs: Iterable[Any], responses: dict[str, tuple[Any, Any]]) -> Iterable[Any]:
    for pair in pairs:
        responses[pair.pair_id] = (pair.response_a_id, pair.response_b_id)
        yield pair


def _check_enough(ctx: JobContext, data: UnitData) -> None:
    why = ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in sorted(data.left_out.items()))
    if len(data) < MIN_PAIRS:
        raise JobError(
            f"There are {len(data)} pairs with a preferred response to audit, and fewer than {MIN_PAIRS} tell nothing"
            + (f" ({why} left out)." if why else "."),
            "Choose a source with more decided pairs.",
        )
    if why:
        ctx.log(f"Left out: {why}", "warning")


def _oriented(data: UnitData) -> PairFeatures:
    """Features with the preferred response first."""
    if data.features is None or not isinstance(data.targets, PairTargets):
        raise TypeError("an audit needs the features of pairs")
    a, b = (torch.from_numpy(np.ascontiguousarray(column.response)) for column in data.features)
    is_a = torch.from_numpy(data.targets.target > 0.5)[:, None]
    return PairFeatures(torch.where(is_a, a, b), torch.where(is_a, b, a), data.prompt_keys)


def _all_margins(
    ctx: JobContext, spec: Any, net: RewardNet, data: UnitData, pairs: PairFeatures, *, recipe: Recipe, watch: Watch
) -> Margins:
    """Margins (members, epochs, n); a member that an earlier attempt has finished is read back."""
    folder = _members_folder(ctx, spec, data)
    tick, found = Throttle(ctx.checkpoint), []
    seeds = spec.all_seeds()
    for number, seed in enumerate(seeds):
        ctx.progress(len(seeds) + number, 2 * len(seeds), f"Member {number + 1} of {len(seeds)}")
        ctx.checkpoint()
        path = folder / f"member-{seed}.npy"
        if not path.is_file() or number == 0:  # the first one's weights are needed for the gradients
            made = member_margins(
                lambda: _head(spec, net),
                pairs,
                recipe,
                seed=seed,
                on_step=tick,
                watch=watch if number == 0 else None,
            )
            draft = path.with_suffix(".draft.npy")
            np.save(draft, made)
            draft.replace(path)
        margins = np.load(path).astype(np.float64)
        found.append(margins)
        losses = {f"epoch_{e + 1}_loss": float(np.logaddexp(0, -m).mean()) for e, m in enumerate(margins)}
        ctx.metric(number + 1, **losses, negative_share=float((margins[-1] < 0).mean()))
    return np.stack(found)


def _head(spec: Any, net: RewardNet) -> Head:
    """A fresh head: of the depth asked for, or of the reward model's own kind where it gives one reward."""
    width = int(net.backbone.config.hidden_size)
    own = net.head
    depth = spec.head_depth or (1 if isinstance(own, ScalarHead) else 2)
    if isinstance(own, DeepHead) and not spec.head_depth:
        depth = (len(own.layers) + 1) // 2
    return ScalarHead(width) if depth == 1 else DeepHead(width, depth=depth)


def _members_folder(ctx: JobContext, spec: Any, data: UnitData) -> Path:
    """Of this data and these settings; others never go on from it."""
    told = json.dumps([data.fingerprint, data.prompt_keys, spec.model_dump(mode="json")], sort_keys=True)
    folder: Path = ctx.work_dir / f"members-{hashlib.sha256(told.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write_table(
    path: Path, data: UnitData, found: LabelAudit, classes: NDArray[np.str_], responses: dict[str, tuple[Any, Any]]
) -> Path:
    """One row a pair, in stored order."""
    targets: Any = data.targets
    with path.open("w", encoding="utf-8", newline="") as out:
        table = csv.writer(out)
        table.writerow(COLUMNS)
        for i, pair_id in enumerate(data.ids):
            numbers = (found.mu[i], found.sigma[i], found.mean_loss[i], found.sd_loss[i], found.sign_changes[i])
            verdict = "a" if targets.target[i] > 0.5 else "b"
            told = [f"{value:.6g}" for value in numbers]
            table.writerow([pair_id, verdict, *told, found.group[i], classes[i], *responses.get(pair_id, ("", ""))])
    return path


def _suspects(spec: Any, data: UnitData, found: LabelAudit) -> dict[str, Any]:
    """The lowest share by strength: how many, below what, and the first of them by name."""
    n = max(1, round(spec.suspect_share * len(found)))
    order = np.argsort(found.mu, kind="stable")[:n]
    top = [
        {"id": data.ids[i], "mu": float(found.mu[i]), "sigma": float(found.sigma[i]), "group": str(found.group[i])}
        for i in order[:MOST_SUSPECTS]
    ]
    return {"n": n, "share": spec.suspect_share, "below": float(found.mu[order[-1]]), "top": top}


def _noise(
    ctx: JobContext, spec: Any, found: LabelAudit, data: UnitData, responses: dict[str, tuple[Any, Any]]
) -> NoiseRate:
    agrees = errs = None
    if spec.reannotated is not None:
        agrees, errs = _second_look(ctx, spec, found, data, responses)
    return noise_rate(found, given=spec.noise_rate, agrees=agrees, model_errs=errs, is_cross_fitted=spec.folds > 1)


def _second_look(
    ctx: JobContext, spec: Any, found: LabelAudit, data: UnitData, responses: dict[str, tuple[Any, Any]]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Of pairs that were judged once more: did the label stand, and is the sign of mu another than people say?"""
    again = {}
    for pair in ctx.open_input("pairs", source=spec.reannotated.query()):
        if pair.verdict in ("a", "b") and pair.response_a_id is not None:
            again[pair.response_a_id, pair.response_b_id] = pair.verdict
            again[pair.response_b_id, pair.response_a_id] = "b" if pair.verdict == "a" else "a"
    targets: Any = data.targets
    stood, wrong = [], []
    for i, pair_id in enumerate(data.ids):
        if (said := again.get(responses[pair_id])) is not None:
            label = "a" if targets.target[i] > 0.5 else "b"
            stood.append(said == label)
            wrong.append((found.mu[i] > 0) != (said == label))
    if not stood:
        raise JobError(
            "No decided pair of reannotated is one of the audited pairs.",
            "Name a snapshot of a queue that was made from pairs of this dataset, or leave it empty.",
        )
    return np.array(stood, dtype=np.bool_), np.array(wrong, dtype=np.bool_)
