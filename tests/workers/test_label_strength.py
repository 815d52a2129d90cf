"""Strength of labels from several members, soft labels and margins made of it, and members that are told nothing."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.workers.making import LocalRun, make_pairs
from tests.workers.noisy_world import WIDTH, NoisyWorld, make_world
from workers.errors import JobError, SpecError
from workers.nn.audit_members import PairFeatures, Recipe, fold_rows, margins_of, member_margins, trained_epochs
from workers.nn.heads import DeepHead, Head
from workers.nn.losses import pairwise_loss
from workers.objectives import OBJECTIVES
from workers.objectives.base import PairTargets
from workers.specs import parse_spec
from workers.stats.label_audit import (
    LabelAudit,
    audit_labels,
    grouped,
    histogram,
    noise_rate,
    rank_classes,
    strength_groups,
    u_shape,
)

RECIPE = Recipe(epochs=3, batch_pairs=32, learning_rate=1e-3, weight_decay=0.01, folds=1)


def deep() -> Head:
    return DeepHead(WIDTH, depth=2, hidden=64)


def features(world: NoisyWorld) -> PairFeatures:
    a, b = (torch.from_numpy(part.response) for part in world.data.features or ())
    is_a = torch.from_numpy(world.data.targets.target > 0.5)[:, None]  # type: ignore[attr-defined]
    return PairFeatures(torch.where(is_a, a, b), torch.where(is_a, b, a), world.data.prompt_keys)


def audit_of(world: NoisyWorld, *, members: int = 8, folds: int = 1) -> LabelAudit:
    data, recipe = features(world), replace(RECIPE, folds=folds)
    made = [member_margins(deep, data, recipe, seed=seed, on_step=lambda: None) for seed in range(members)]
    return audit_labels(np.stack(made).astype(np.float64))


@pytest.fixture(scope="module")
def world() -> NoisyWorld:
    return make_world(0, noise=0.2)


@pytest.fixture(scope="module")
def audit(world: NoisyWorld) -> LabelAudit:
    return audit_of(world)


def test_the_lowest_strengths_are_flips(world: NoisyWorld, audit: LabelAudit) -> None:
    """Check 1."""
    flipped = world.is_flipped[np.argsort(audit.mu)]
    n = len(flipped)
    assert flipped[: n // 10].mean() >= 0.85
    assert flipped[: n // 5].mean() >= 0.65
    assert flipped[n // 2 :].mean() <= 0.03


def test_spread_is_u_shaped(audit: LabelAudit) -> None:
    """Check 2, second half."""
    groups = strength_groups(audit)
    assert [group["n"] for group in groups] == [150] * 20
    found = u_shape(groups)
    assert found["first"] >= 1.05
    assert found["last"] >= 1.05


def trained_accuracy(world: NoisyWorld, rows: Any, *, seed: int = 0, targets: Any = None, epochs: int = 12) -> float:
    """Clean accuracy of a head trained on some pairs; `targets` with soft labels and margins, else hard labels."""
    data = features(world)
    torch.manual_seed(seed)
    head = deep()
    if targets is None:
        for _ in trained_epochs(head, data, rows, replace(RECIPE, epochs=epochs), seed=[seed], on_step=lambda: None):
            pass
    else:
        train_on_targets(head, data, targets, rows, seed=seed, epochs=epochs)
    test = PairFeatures(torch.from_numpy(world.test_a).float(), torch.from_numpy(world.test_b).float(), [])
    return float((margins_of(head, test, np.arange(len(test))) > 0).mean())


def train_on_targets(
    head: Head, data: PairFeatures, targets: PairTargets, rows: Any, *, seed: int, epochs: int
) -> None:
    optimizer = torch.optim.AdamW(head.parameters(), lr=RECIPE.learning_rate, weight_decay=RECIPE.weight_decay)
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch]).permutation(rows)
        for start in range(0, len(order), RECIPE.batch_pairs):
            here = order[start : start + RECIPE.batch_pairs]
            margin = head(data.chosen[here]) - head(data.rejected[here])
            own = targets.rows(here)
            loss = pairwise_loss(margin, target=own.target, weight=own.weight, offset=own.offset).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def test_the_lowest_band_teaches_the_opposite(world: NoisyWorld, audit: LabelAudit) -> None:
    """Check 2, first half."""
    order, n = np.argsort(audit.mu), len(audit)
    lowest = trained_accuracy(world, order[: n // 5])
    middle = trained_accuracy(world, order[n // 5 : 2 * n // 5])
    top = trained_accuracy(world, np.random.default_rng(0).permutation(order[n // 2 :])[: n // 5])
    assert lowest <= 0.4
    assert middle <= top - 0.05


def strength_targets(mu: Any, **config: Any) -> PairTargets:
    """Targets as soft_margin_bt makes them, the preferred response first."""
    entry: Any = OBJECTIVES.get("soft_margin_bt")
    objective = entry(parse_spec(entry.Config, config))
    found = [
        replace(pair, verdict="a", meta={"audit_margin": float(m)})
        for pair, m in zip(pairs_of(len(mu)), mu, strict=True)
    ]
    return replace_targets(objective, objective.targets(found))


def pairs_of(n: int) -> Any:
    one = make_pairs(1)[0]
    return [replace(one, pair_id=f"p{i}") for i in range(n)]


def replace_targets(objective: Any, targets: Any) -> PairTargets:
    from workers.nn.units import UnitData

    none = UnitData(columns=[], targets=targets, prompt_keys=[], fingerprint="", n_read=0, left_out={})
    found = objective.choose(none).targets
    assert isinstance(found, PairTargets)
    return found


def remedies(world: NoisyWorld, audit: LabelAudit) -> dict[str, tuple[NoisyWorld, PairTargets]]:
    """Training sets: as they are, flipped below zero, with margins, soft below zero with margins."""
    plain = strength_targets(np.zeros(len(audit)), soften="none")
    turned = replace(plain, target=np.where(audit.mu < 0, 0.0, 1.0))
    return {
        "baseline": (world, plain),
        "flip": (world, turned),
        "margin": (world, strength_targets(audit.mu, soften="none")),
        "soft + margin": (world, strength_targets(audit.mu, soften="negative", soft_label=0.4)),
    }


@pytest.mark.slow
def test_each_remedy_helps() -> None:
    """Check 3: mean clean accuracy over four seeds."""
    found: dict[str, list[float]] = {}
    for seed in range(4):
        world = make_world(seed, noise=0.2)
        for name, (data, targets) in remedies(world, audit_of(world)).items():
            found.setdefault(name, []).append(trained_accuracy(data, world.rows, seed=seed, targets=targets, epochs=3))
    mean = {name: float(np.mean(values)) for name, values in found.items()}
    print(mean)
    for name in ("flip", "margin", "soft + margin"):
        assert mean[name] > mean["baseline"], mean


def test_values() -> None:
    """Check 4."""
    one = torch.tensor([1.0], requires_grad=True)
    margin = strength_targets(np.array([0.5]), soften="none")
    loss = pairwise_loss(one, target=margin.target, weight=margin.weight, offset=margin.offset)
    assert loss.item() == pytest.approx(0.474077, abs=1e-6)
    soft = strength_targets(np.array([-0.5]), margin_scale=0.0)
    loss = pairwise_loss(one, target=soft.target, weight=soft.weight, offset=soft.offset)
    assert loss.item() == pytest.approx(0.413262, abs=1e-6)
    (slope,) = torch.autograd.grad(loss.sum(), one)
    assert slope.item() == pytest.approx(torch.sigmoid(torch.tensor(1.0)).item() - 0.9, abs=1e-6)


def test_targets_follow_the_preferred_response() -> None:
    entry: Any = OBJECTIVES.get("soft_margin_bt")
    objective = entry(entry.Config(soft_label=0.2, margin_scale=2.0))
    pairs = [
        replace(pair, verdict=verdict, meta={"audit_margin": mu})
        for pair, verdict, mu in zip(pairs_of(4), "abab", (1.0, 1.0, -0.5, -0.5), strict=True)
    ]
    found = replace_targets(objective, objective.targets(pairs))
    assert found.target.tolist() == pytest.approx([1.0, 0.0, 0.8, 0.2])
    assert found.offset.tolist() == pytest.approx([2.0, -2.0, -1.0, 1.0])


def test_the_strongest_tenth_can_be_softened() -> None:
    found = strength_targets(np.arange(20.0), soften="strongest", margin_scale=0.0)
    assert (found.target < 1).nonzero()[0].tolist() == [18, 19]


def with_strength(n: int = 48) -> list[Any]:
    """Half of them negative, two without."""
    rng = np.random.default_rng(0)
    return [
        replace(pair, meta={} if i < 2 else {"audit_margin": float(rng.normal())})
        for i, pair in enumerate(make_pairs(n))
    ]


@pytest.mark.parametrize("unknown", ["drop", "zero"])
def test_pairs_without_a_strength_are_never_silent(tmp_path: Any, unknown: str) -> None:
    ctx = (local := LocalRun(tmp_path, with_strength())).context()
    config = {"unknown_strength": unknown, "soften": "none"}
    result = local.train(ctx, objective="soft_margin_bt", objective_config=config)
    warnings = " ".join(line for level, line in ctx.logs if level == "warning")
    if unknown == "drop":
        assert result["left_out"] == {"no strength measured": 2}
        assert "no strength measured" in warnings
    else:
        assert result["n_left_out"] == 0
        assert "2 pairs without a strength were taken to have strength 0" in warnings
    assert "negative strength" in warnings  # a margin alone, with many of them
    soft = local.train(local.context("soft"), objective="soft_margin_bt")
    assert soft["finished"]["warnings"] == []
    assert soft["probe_difference"] < 1e-4


def test_no_strength_at_all(tmp_path: Any) -> None:
    local = LocalRun(tmp_path, make_pairs(20))
    with pytest.raises(JobError, match="No pair has a strength"):
        local.train(objective="soft_margin_bt", objective_config={"unknown_strength": "zero"})
    with pytest.raises(JobError, match="20 no strength measured"):
        local.train(local.context("dropped"), objective="soft_margin_bt")


def test_a_softened_label_is_one_for_every_objective() -> None:
    pair = replace(make_pairs(1)[0], verdict="b", flip_chance=0.1)
    entry: Any = OBJECTIVES.get("bradley_terry")
    assert entry(entry.Config()).targets([pair]).target.tolist() == pytest.approx([0.1])


def test_statistics_by_hand() -> None:
    margins = np.array([[[1.0, -1.0], [2.0, -2.0]], [[-1.0, -1.0], [4.0, -4.0]], [[1.0, 1.0], [3.0, -3.0]]])
    found = audit_labels(margins)
    assert found.mu.tolist() == pytest.approx([3.0, -3.0])
    assert found.sigma.tolist() == pytest.approx([np.std([2, 4, 3])] * 2)
    assert found.sign_changes.tolist() == pytest.approx([1 / 3, 1 / 3])
    losses = np.log1p(np.exp(-margins[:, :, 0])).ravel()
    assert found.mean_loss[0] == pytest.approx(losses.mean())
    assert found.sd_loss[0] == pytest.approx(losses.std())
    assert found.negative_share == 0.5
    same = audit_labels(margins * np.array([1.0, 10.0, 100.0])[:, None, None], standardise=True)
    assert same.scale_ratio > 2
    assert audit_labels(margins, standardise=True).mu.tolist() == pytest.approx(same.mu.tolist())


@pytest.mark.parametrize("shape", [(2, 3, 10), (3, 0, 10), (3, 10)])
def test_too_few_members_or_epochs(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="members >= 3"):
        audit_labels(np.ones(shape))
    with pytest.raises(ValueError, match="not finite"):
        audit_labels(np.full((3, 1, 2), np.nan))


def test_groups_classes_and_bins() -> None:
    groups = grouped(np.array([0.1, 0.7, 2.0, 0.6]), np.array([0.1, 0.2, 0.5, 0.2]))
    assert groups.tolist() == ["robust", "ambiguous", "incorrect", "ambiguous"]
    classes = rank_classes(np.arange(10.0), wrong_share=0.2, ambiguous_share=0.3)
    assert classes.tolist() == ["wrong"] * 2 + ["ambiguous"] * 3 + ["normal"] * 5
    bins = histogram(np.array([-1.0, -0.5, 0.25, 3.0]), bins=8)
    assert sum(b["n"] for b in bins) == 4
    assert any(b["low"] == 0 for b in bins)
    assert sum(b["n"] for b in bins if b["high"] <= 0) == 2
    assert sum(b["n"] for b in histogram(np.zeros(5))) == 5


def test_noise_rate_and_where_it_comes_from(audit: LabelAudit) -> None:
    said = noise_rate(audit, given=0.25, agrees=np.array([True]), is_cross_fitted=True)
    assert (said.value, said.source) == (0.25, "given")
    agrees, errs = np.array([True] * 8 + [False] * 2), np.array([True] + [False] * 9)
    looked = noise_rate(audit, agrees=agrees, model_errs=errs, is_cross_fitted=True)
    assert (looked.value, looked.source, looked.n) == (pytest.approx(0.2), "reannotated", 10)
    assert "own error of 0.100" in looked.note
    fitted = noise_rate(audit, is_cross_fitted=True)
    assert (fitted.value, fitted.source) == (audit.negative_share, "cross_fitting")
    assert "too low" in noise_rate(audit, is_cross_fitted=False).note


def test_folds_keep_prompts_together_and_cover_every_pair() -> None:
    keys = [f"p{i // 3}" for i in range(30)]
    seen: list[int] = []
    for train, watched in fold_rows(keys, 5, seed=1):
        assert not {keys[i] for i in train} & {keys[i] for i in watched}
        assert len(train) + len(watched) == 30
        seen += watched.tolist()
    assert sorted(seen) == list(range(30))


def test_cross_fitting_is_not_fooled_by_memory() -> None:
    """Heads that memorise everything still find flips among pairs that they have not seen."""
    world = make_world(1, noise=0.2, n=600, n_test=10, gap=0.5)
    data = features(world)
    long = replace(RECIPE, epochs=40, learning_rate=5e-3)
    own = member_margins(deep, data, long, seed=0, on_step=lambda: None)[-1]
    held_out = member_margins(deep, data, replace(long, folds=5), seed=0, on_step=lambda: None)[-1]
    assert (own[world.is_flipped] < 0).mean() < 0.2
    assert (held_out[world.is_flipped] < 0).mean() > 0.6


def test_the_job_refuses_what_it_cannot_audit(tmp_path: Any) -> None:
    few = LocalRun(tmp_path, make_pairs(12))
    with pytest.raises(JobError, match="12 pairs with a preferred response"):
        few.run("audit_labels", reward_model="model")
    with pytest.raises(SpecError):
        few.run("audit_labels", members=2)
    with pytest.raises(SpecError):
        few.run("audit_labels", seeds=[4, 4, 4])


def test_a_killed_audit_reads_back_what_it_had(tmp_path: Any) -> None:
    local = LocalRun(tmp_path, make_pairs(48))
    spec = {"reward_model": "model", "members": 4, "folds": 3}
    whole = local.run("audit_labels", local.context("whole"), **spec)
    killed = local.context("killed")
    killed.is_cancelled = lambda: len(killed.metrics) >= 2
    with pytest.raises(BaseException) as caught:
        local.run("audit_labels", killed, **spec)
    assert type(caught.value).__name__ == "JobCancelled"
    made = sorted((tmp_path / "killed").glob("members-*/member-*.npy"))
    before = {path.name: path.stat().st_mtime_ns for path in made}
    assert len(before) >= 2
    again = local.run("audit_labels", local.context("killed", attempt=2), **spec)
    assert again["strengths"] == whole["strengths"]
    assert again["suspects"] == whole["suspects"]
    assert made[1].stat().st_mtime_ns == before[made[1].name]
    assert "3 folds by prompt" in whole["measured"]
