"""Mixtures of heads: two tastes are found where they can be, and a warning stands where they cannot."""

import math

import numpy as np
import pytest
import torch

from tests.workers.feature_training import FeatureNet, pair_data, train_head
from tests.workers.mixture_world import (
    BUDGET,
    TEST,
    TRAIN,
    WIDTH,
    World,
    best_heads,
    make_world,
    single_reward,
    train_mixture,
)
from workers.errors import JobError
from workers.nn.mixture import BY_PAIRS, KNOWN, NO_CONTEXT, UNKNOWN, MixtureHead, hedge_targets, mixture_log_likelihood
from workers.nn.mixture_report import mixture_report, read_pairs
from workers.nn.view import BatchView
from workers.objectives import OBJECTIVES
from workers.stats.mixtures import entropy, head_correlations, memberships, merge_heads, single_reward_bound


@pytest.fixture(scope="module")
def opposed(tmp_path_factory) -> tuple[World, FeatureNet]:
    """Check 1: opposite tastes, the group follows from the prompt. The router has room for a one-hot context."""
    world = make_world(8000, degrees=180, steepness=4, router_width=WIDTH + 2)
    return world, train_mixture(tmp_path_factory.mktemp("opposed"), world, TRAIN)


def test_opposite_tastes_are_found(opposed) -> None:
    world, net = opposed
    accuracy, best = best_heads(world, net)
    read = read_pairs(net, world.data, TEST, budget=BUDGET)
    assert min(single_reward(world)) <= 0.55
    assert accuracy.min() >= 0.93
    assert best[0] != best[1]
    assert np.corrcoef(np.exp(read.log_f[:, best[1]]), world.group_share[TEST])[0, 1] >= 0.75
    report = mixture_report(net, world.data, TRAIN, budget=BUDGET)
    assert report["warnings"] == []
    assert report["tastes"] == [[1], [2]]
    assert report["gain_over_one_reward"]["low"] > 0.1
    assert report["measured_on"] == "held-out pairs"
    assert report["n_pairs"] == len(TEST)


def test_partly_opposed_tastes_with_heads_to_spare(tmp_path) -> None:
    world = make_world(8000, degrees=110, steepness=4)
    assert all(0.60 <= share <= 0.78 for share in single_reward(world))
    net = train_mixture(tmp_path, world, TRAIN, n_heads=5)
    assert best_heads(world, net)[0].min() >= 0.92
    assert len(mixture_report(net, world.data, TRAIN, budget=BUDGET)["tastes"]) == 2


def test_groups_that_do_not_follow_from_the_prompt_are_not_claimed(tmp_path) -> None:
    world = make_world(8000, degrees=180, steepness=0)
    net = train_mixture(tmp_path, world, TRAIN, n_steps=300)
    report = mixture_report(net, world.data, TRAIN, budget=BUDGET)
    assert report["nll"] == pytest.approx(math.log(2), abs=0.02)
    assert report["tastes"] == []
    assert report["raters"] == []
    assert "Not identifiable" in report["warnings"][0]
    read = read_pairs(net, world.data, TEST, budget=BUDGET)
    assert np.abs((read.margins > 0).mean(axis=0) - 0.5).max() < 0.05


@pytest.mark.slow
def test_the_entropy_term_keeps_both_heads(tmp_path) -> None:
    """Without it the router can fall to one head, whose accuracy is then that of one reward (seen with this seed)."""
    world = make_world(8000, degrees=110, steepness=0)
    with_term = train_mixture(tmp_path / "with", world, TRAIN, n_steps=2000)
    without = train_mixture(tmp_path / "without", world, TRAIN, n_steps=2000, alpha=0.0)
    spread, fallen = best_heads(world, with_term)[0], best_heads(world, without)[0]
    assert spread.min() >= 0.90
    assert (spread - fallen).max() >= 0.10


def context_pairs(world: World, n: int, *, seed: int) -> tuple[World, np.ndarray]:
    """n pairs a context; context 1 is the first group's criterion, context 2 the second's. One-hots."""
    rng = np.random.default_rng(seed)
    context = np.arange(2 * n) % 2
    plain = np.zeros((2 * n, WIDTH + 2))
    plain[:, :WIDTH] = rng.normal(size=(2 * n, WIDTH))
    routed = plain.copy()
    routed[np.arange(2 * n), WIDTH + context] = 1.0
    a, b = rng.normal(size=(2, 2 * n, WIDTH))
    margins = ((a - b) * world.tastes[context]).sum(axis=1)
    is_a = rng.random(2 * n) < 1 / (1 + np.exp(-margins))
    data = pair_data(a, b, is_a, prompt=np.concatenate([plain, routed, 1.0 + context[:, None]], axis=1))
    return World(data, world.tastes, context, context.astype(float), plain, a - b), context


def routed_accuracy(net: FeatureNet, world: World, context: np.ndarray, rows: np.ndarray) -> float:
    """Mean over both contexts of the share of pairs the routed reward orders as the context's group does."""
    with torch.inference_mode():
        a, b = BatchView(net, world.data, rows, budget=BUDGET).rewards
    margins = (a - b).numpy()
    shares = [world.right_share(margins[context[rows] == c], c, rows[context[rows] == c]) for c in (0, 1)]
    return float(np.mean(shares))


def test_fifty_pairs_a_context_route_the_heads(opposed, tmp_path) -> None:
    world, stage_one = opposed
    entry = OBJECTIVES.get("mixture_router")
    routed, uniform = [], []
    for seed in range(3):
        both, context = context_pairs(world, 550, seed=seed)
        head = MixtureHead(WIDTH, n_heads=2, prompt_width=WIDTH + 2)
        head.load_state_dict(stage_one.head.state_dict())
        head.end_stage_one()
        before = {name: value.clone() for name, value in head.heads.state_dict().items()}
        rows, test = np.arange(100), np.arange(100, 1100)
        objective = entry(entry.Config())
        net = train_head(tmp_path / str(seed), head, objective, both.data, rows, n_steps=40, batch=32, seed=seed)
        routed.append(routed_accuracy(net, both, context, test))
        assert all(torch.equal(before[name], value) for name, value in head.heads.state_dict().items())
        assert objective.finish(net, both.data, rows, budget=BUDGET) == {
            "n_contexts": 2,
            "n_pairs_of_unknown_contexts": 0,
        }
        with torch.no_grad():
            head.context_router[2].weight.zero_()
            head.context_router[2].bias.zero_()
        uniform.append(routed_accuracy(net, both, context, test))
    assert np.mean(routed) >= 0.80
    assert np.mean(uniform) == pytest.approx(0.5, abs=0.05)


def asked_by(world: World, group: int, n: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors of the chosen and of the rejected responses of n pairs that one person of this group has labelled."""
    a, b = rng.normal(size=(2, n, WIDTH))
    is_a = rng.random(n) < 1 / (1 + np.exp(-(a - b) @ world.tastes[group]))
    texts = np.where(is_a[:, None], a, b), np.where(is_a[:, None], b, a)
    chosen, rejected = (torch.from_numpy(x.astype(np.float32)) for x in texts)
    return chosen, rejected


def person_accuracy(net: FeatureNet, world: World, n: int, *, n_people: int = 40) -> float:
    """Mean accuracy, over people of both groups, of the reward whose heads n pairs of theirs weigh; test pairs of 500.

    No pairs: the reward of the first stage, which knows the prompt alone.
    """
    rng = np.random.default_rng(n)
    head: MixtureHead = net.head  # type: ignore[assignment]
    x, y = (torch.from_numpy(rng.normal(size=(500, WIDTH)).astype(np.float32)) for _ in "ab")
    plain = torch.from_numpy(rng.normal(size=(500, head.prompt_width)).astype(np.float32))
    shares = []
    for person in range(n_people):
        with torch.inference_mode():
            prompt = plain
            if n:
                own = head.log_weights_by_pairs(*asked_by(world, person % 2, n, rng)).expand(500, -1)
                prompt = torch.cat([plain, plain, own, torch.full((500, 1), BY_PAIRS)], dim=1)
            margins = head.reward(head(x, prompt)) - head.reward(head(y, prompt))
        truth = (x - y).numpy() @ world.tastes[person % 2]
        shares.append(float((np.sign(margins.numpy()) == np.sign(truth)).mean()))
    return float(np.mean(shares))


def test_a_persons_pairs_weigh_the_heads(opposed) -> None:
    """HyRe, the baseline of the card: from the router's coin to the best head within twenty pairs, without training."""
    world, net = opposed
    found = {n: person_accuracy(net, world, n) for n in (0, 1, 5, 20)}
    best = float(best_heads(world, net)[0].mean())
    assert found[0] == pytest.approx(0.5, abs=0.05)
    assert found[0] < found[1] < found[5]
    assert found[5] >= best - 0.05
    assert found[20] >= best - 0.01


def test_weights_by_pairs_are_the_closed_form() -> None:
    head = MixtureHead(4, n_heads=3)
    chosen, rejected = torch.randn(2, 6, 4)
    losses = torch.log1p(torch.exp(-(head.heads(chosen) - head.heads(rejected)))).sum(dim=0)
    expected = torch.exp(-losses) / torch.exp(-losses).sum()
    assert torch.allclose(head.log_weights_by_pairs(chosen, rejected).exp(), expected, atol=1e-6)
    assert head.log_weights_by_pairs(1e4 * chosen, rejected).isfinite().all()


def test_targets_are_the_closed_form(opposed) -> None:
    rng = np.random.default_rng(0)
    log_f = torch.log_softmax(torch.from_numpy(rng.normal(size=(50, 5))), dim=1)
    losses = torch.from_numpy(rng.exponential(size=(50, 5)))
    for tau in (0.5, 2.0):
        plain = log_f.exp() * torch.exp(-losses / tau)
        expected = plain / plain.sum(dim=1, keepdim=True)
        assert (hedge_targets(log_f, losses, tau) - expected).abs().max() < 1e-6
    assert (hedge_targets(log_f, losses, 1e9) - log_f.exp()).abs().max() < 1e-6
    sharp = hedge_targets(log_f, 100 + losses, 1e-4)  # every exp(-L / tau) is 0 in floating point here
    assert sharp.isfinite().all()
    assert (sharp.argmax(dim=1) == losses.argmin(dim=1)).float().mean() > 0.99


def test_targets_minimise_loss_and_divergence() -> None:
    log_f = torch.log(torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64))
    losses, tau = torch.tensor([[1.0, 0.2, 0.7]], dtype=torch.float64), 0.4

    def objective(w: torch.Tensor) -> float:
        return float((w * losses).sum() + tau * (w * (w.log() - log_f)).sum())

    best = hedge_targets(log_f, losses, tau)
    for other in torch.distributions.Dirichlet(torch.ones(3, dtype=torch.float64)).sample((200,)):
        assert objective(best) <= objective(other[None]) + 1e-9


def test_targets_are_those_of_the_epochs_start(tmp_path) -> None:
    head = MixtureHead(4, n_heads=2)
    contextual = torch.randn(6, 4)
    head.anchor_at(0)
    first = head.anchored_log_weights(contextual)
    with torch.no_grad():
        head.context_router[0].weight.add_(1.0)
    head.anchor_at(0)
    assert torch.equal(head.anchored_log_weights(contextual), first)
    head.anchor_at(1)
    assert not torch.allclose(head.anchored_log_weights(contextual), first)


def test_unknown_contexts_are_not_personalised() -> None:
    head = MixtureHead(4, n_heads=2)
    with torch.no_grad():
        head.context_router[2].bias.add_(torch.tensor([5.0, -5.0]))
        head.known_contexts[0] = 7.0
    x, plain, contextual = torch.randn(3, 4), torch.randn(1, 4).expand(3, -1), torch.randn(1, 4).expand(3, -1)
    outputs = head(x, torch.cat([plain, contextual, torch.tensor([[0.0], [9.0], [7.0]])], dim=1))
    assert outputs[:, -1].tolist() == [NO_CONTEXT, UNKNOWN, KNOWN]
    assert [part["label"] for part in head.parts(outputs)] == ["no context", "not personalised", "personalised"]
    weights = head.log_weights_of(outputs)
    assert torch.allclose(weights[0], weights[1])
    assert not torch.allclose(weights[1], weights[2])
    part = head.parts(outputs)[2]
    reward = sum(part["heads"][k] * part["router"][k] for k in part["heads"])
    assert head.reward(outputs)[2].item() == pytest.approx(reward, abs=1e-5)


def test_the_likelihood_is_of_probabilities_not_of_rewards() -> None:
    f, margins = torch.tensor([[0.3, 0.7]]), torch.tensor([[2.0, -1.0]])
    expected = 0.3 / (1 + math.exp(-2)) + 0.7 / (1 + math.exp(1))
    assert mixture_log_likelihood(f.log(), margins).exp().item() == pytest.approx(expected, rel=1e-6)
    assert mixture_log_likelihood(f.log(), margins * 1e4).isfinite().all()


def test_heads_merge_where_their_margins_agree() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=(500, 2))
    margins = np.stack([base[:, 0], 3 * base[:, 0] + 0.1, base[:, 1], -base[:, 0], np.zeros(500)], axis=1)
    assert merge_heads(head_correlations(margins)) == [[0, 1], [2], [3], [4]]


def test_membership_says_how_sure_it_is() -> None:
    rng = np.random.default_rng(1)
    sides = np.array([1] * 40 + [-1] * 3)
    margins = np.stack([sides, -sides], axis=1) * rng.exponential(size=(43, 1)) * 1.5
    raters = ["many"] * 40 + ["few"] * 3
    many, few = memberships(margins, np.log([0.5, 0.5]), raters, [[0], [1]], rng=rng)
    assert (many.rater, many.n, few.n) == ("many", 40, 3)
    assert many.shares[0] > 0.99
    assert few.shares[1] > 0.5
    assert few.high[1] - few.low[1] > many.high[0] - many.low[0]
    assert sum(few.shares) == pytest.approx(1.0)
    named = memberships(margins, np.log([0.5, 0.5]), ["", *raters[1:]], [[0, 1]], rng=rng)
    assert [m.n for m in named] == [39, 3]
    assert named[0].shares == [pytest.approx(1.0)]


def fit_discrete(preferences: np.ndarray, pairs: np.ndarray, n_responses: int) -> np.ndarray:
    """P(a preferred) of the best single Bradley-Terry reward a prompt; preferences (m, p), pairs (p, 2)."""
    design = np.zeros((len(pairs), n_responses))
    design[np.arange(len(pairs)), pairs[:, 0]], design[np.arange(len(pairs)), pairs[:, 1]] = 1, -1
    fitted = []
    for aim in preferences:
        r = np.zeros(n_responses)
        for _ in range(50):
            p = 1 / (1 + np.exp(-design @ r))
            hessian = design.T * (p * (1 - p)) @ design + np.full((n_responses, n_responses), 1.0)
            r += np.linalg.solve(hessian, design.T @ (aim - p))
        fitted.append(1 / (1 + np.exp(-design @ r)))
    return np.array(fitted)


def test_one_reward_pays_at_least_the_bound() -> None:
    rng = np.random.default_rng(0)
    pairs = np.array([(i, j) for i in range(4) for j in range(i)])
    for _ in range(100):
        n_groups, n_prompts = int(rng.integers(2, 5)), 5
        shares = rng.dirichlet(np.full(n_groups, 3.0), size=n_prompts)
        rewards = rng.normal(scale=2, size=(n_prompts, 4, n_groups))
        s = 1 / (1 + np.exp(rewards[:, pairs[:, 1]] - rewards[:, pairs[:, 0]]))
        weights = rng.dirichlet(np.ones(n_prompts))
        mixed = np.einsum("mk,mpk->mp", shares, s)
        single = fit_discrete(mixed, pairs, 4)
        cost = (-mixed * np.log(single) - (1 - mixed) * np.log(1 - single)).mean(axis=1) @ weights
        bound = single_reward_bound(shares, s, prompt_weights=weights)
        assert cost >= bound.pairwise >= bound.published >= bound.oracle
        assert cost >= (entropy(mixed).mean(axis=1) @ weights) - 1e-9


def test_a_router_without_trained_heads_is_refused(tmp_path) -> None:
    world = make_world(100, degrees=180, steepness=4)
    both, _ = context_pairs(world, 20, seed=0)
    entry = OBJECTIVES.get("mixture_router")
    rows = np.arange(20)
    with pytest.raises(JobError, match="have not been trained"):
        train_head(
            tmp_path / "a",
            MixtureHead(WIDTH, n_heads=2, prompt_width=WIDTH + 2),
            entry(entry.Config()),
            both.data,
            rows,
            n_steps=1,
        )
    head = MixtureHead(WIDTH, n_heads=2, prompt_width=WIDTH + 2, max_contexts=1)
    head.end_stage_one()
    with pytest.raises(JobError, match="room for 1"):
        train_head(tmp_path / "b", head, entry(entry.Config()), both.data, rows, n_steps=1)
    with pytest.raises(JobError, match="two training pairs"):
        train_head(tmp_path / "c", head, entry(entry.Config()), both.data, rows[:2], n_steps=1)


def test_a_report_without_held_out_pairs_says_so(opposed) -> None:
    world, net = opposed
    everything = np.arange(len(world.data))
    report = mixture_report(net, world.data, everything, budget=BUDGET)
    assert report["measured_on"] == "training pairs"
    assert "No pairs are held out" in report["warnings"][-1]
    assert report["gain_over_one_reward"] is None


def test_raters_are_told_apart_afterwards(opposed) -> None:
    """Raters are not used in training; of raters of one group each, the view finds that group."""
    world, net = opposed
    rng = np.random.default_rng(0)
    world.data.raters = [f"{'first' if g == 0 else 'second'} {rng.integers(5)}" for g in world.group]
    report = mixture_report(net, world.data, TRAIN, budget=BUDGET)
    world.data.raters = [""] * len(world.data)
    best = best_heads(world, net)[1]
    assert len(report["raters"]) == 10
    for rater in report["raters"]:
        own = report["tastes"].index([int(best[0 if rater["rater"].startswith("first") else 1]) + 1])
        assert rater["shares"][own] > 0.95
        assert rater["low"][own] > 0.5
