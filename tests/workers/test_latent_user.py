"""Latent users: people never seen are known from a few of their pairs, and a latent that says nothing is reported."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.workers.feature_training import FeatureNet, pair_data, seeded
from tests.workers.latent_world import (
    WIDTH,
    World,
    bandit,
    mostly_agreeing_users,
    opposite_users,
    right_share,
    train_latent,
)
from workers.errors import JobError
from workers.nn.active_queries import answer_information, answer_margins, choose_queries, posterior_information
from workers.nn.latent_report import active_units, latent_report, shared_prompts, user_map, validate_users
from workers.nn.latent_user import LatentUserHead, PairEncoder, Posterior
from workers.nn.mixture_report import fit_linear
from workers.nn.user_pairs import UserPairs
from workers.objectives import OBJECTIVES
from workers.objectives.latent_user_elbo import beta_share

SEEN, UNSEEN = np.arange(320), np.arange(320, 400)


def objective(**config):
    entry = OBJECTIVES.get("latent_user_elbo")
    return entry(entry.Config(**config))


def two_means_agreement(mu: np.ndarray, kind: np.ndarray) -> float:
    """Share of users whose 2-means cluster (from the two users farthest apart) is that of their type."""
    far = np.square(mu - mu.mean(axis=0)).sum(axis=1).argmax()
    centres = mu[[far, np.square(mu - mu[far]).sum(axis=1).argmax()]]
    for _ in range(20):
        side = np.square(mu[:, None] - centres[None]).sum(axis=2).argmin(axis=1)
        centres = np.stack([mu[side == k].mean(axis=0) for k in (0, 1)])
    share = float((side == kind).mean())
    return max(share, 1 - share)


@pytest.fixture(scope="module")
def opposed(tmp_path_factory) -> tuple[World, FeatureNet]:
    world = opposite_users(400, 32)
    return world, train_latent(
        tmp_path_factory.mktemp("opposed"), world.data, world.rows_of(SEEN), n_steps=400, batch=64
    )


def test_unseen_users_are_known_from_a_few_pairs(opposed) -> None:
    world, net = opposed
    rows = world.rows_of(UNSEEN)
    train = world.rows_of(SEEN)
    a, b = (part.response for part in world.data.features)
    sign = np.sign(world.data.targets.target[train] - 0.5)[:, None].astype(np.float32)
    single = fit_linear(torch.from_numpy((a[train] - b[train]) * sign), 1e-4).numpy()
    plain = float((np.sign((a[rows] - b[rows]) @ single) == world.sign[rows]).mean())
    assert plain == pytest.approx(0.5, abs=0.05)
    assert right_share(net, world, rows, n_context=2) >= 0.88
    assert right_share(net, world, rows, n_context=8) >= 0.92
    users = UserPairs(world.data)
    _, index, mask = users.of_users(most=8, rng=np.random.default_rng(0))
    with torch.inference_mode():
        mu = users.posterior(net, index, mask).mu.numpy()
    assert two_means_agreement(mu[UNSEEN], world.kind[UNSEEN]) >= 0.95


def test_the_context_is_the_cause(opposed) -> None:
    world, net = opposed
    rows = world.rows_of(UNSEEN)
    assert right_share(net, world, rows, n_context=8, flip=1.0) <= 0.15
    users = UserPairs(world.data)
    index, mask = users.contexts(rows[:200], least=8, most=8, rng=np.random.default_rng(0))
    turned = np.random.default_rng(1).permuted(index, axis=1)
    with torch.inference_mode():
        there, back = (users.posterior(net, found, mask) for found in (index, turned))
        empty = users.posterior(net, index, np.zeros_like(mask))
    assert (there.mu - back.mu).abs().max() < 1e-5
    assert not empty.mu.any()
    assert empty.kl().abs().max() < 1e-6


def test_padding_of_a_context_changes_nothing() -> None:
    encoder = seeded(0, lambda: PairEncoder(4, latent=3, hidden=8))
    chosen, rejected = torch.randn(2, 1, 5, 4)
    mask = torch.tensor([[True, True, True, False, False]])
    short = encoder(chosen[:, :3], rejected[:, :3], mask[:, :3])
    assert torch.allclose(encoder(chosen, rejected, mask).mu, short.mu, atol=1e-6)


def test_a_longer_context_makes_up_for_wrong_labels(opposed) -> None:
    world, net = opposed
    found = [right_share(net, world, world.rows_of(UNSEEN), n_context=n, flip=0.25) for n in (2, 8)]
    assert found[1] - found[0] >= 0.08


def test_collapse_is_reported(opposed, tmp_path) -> None:
    world, net = opposed
    users = UserPairs(world.data)
    healthy = latent_report(net, users, n_context=8, with_map=False)
    assert healthy["n_active_units"] >= 1
    assert healthy["warnings"] == []
    assert "user_map" not in healthy
    fallen = train_latent(tmp_path, world.data, world.rows_of(SEEN), beta=1.0, n_steps=200, batch=64)
    told = latent_report(fallen, users, n_context=8, with_map=True)
    assert told["n_active_units"] == 0
    assert told["kl"] < 0.01
    assert "Posterior collapse" in told["warnings"][0]
    assert len(told["user_map"]) == 400
    assert right_share(fallen, world, world.rows_of(UNSEEN), n_context=8) == pytest.approx(0.5, abs=0.05)


def test_validation_is_on_other_pairs_of_unseen_users(opposed) -> None:
    world, net = opposed
    found = validate_users(net, UserPairs(world.data), world.rows_of(UNSEEN), n_context=8)
    assert found.as_metrics()["validation_accuracy"] > 0.8  # of labels, of which a tenth are wrong
    assert found.without_context == pytest.approx(0.5, abs=0.07)
    assert found.as_json(3)["accuracy"]["n"] == len(world.rows_of(UNSEEN))


def test_the_comparable_scale_in_a_bandit(tmp_path) -> None:
    """Two types whose Bradley-Terry scales differ tenfold: one conditional policy loses less with r~ than with r."""
    best, raw_regret, comparable_regret = np.array([bandit(tmp_path / str(seed), seed) for seed in range(3)]).T
    assert best.min() >= 0.9
    assert comparable_regret.mean() < raw_regret.mean()


@pytest.mark.slow
def test_two_chosen_queries_tell_more_than_four_random_ones(tmp_path) -> None:
    train, _ = mostly_agreeing_users(300, 40, controversial=0.5)
    world, is_controversial = mostly_agreeing_users(100, 40, seed=1)
    net = train_latent(tmp_path, train.data, np.arange(len(train.data)), n_steps=700, batch=64)
    users, rng = UserPairs(world.data), np.random.default_rng(5)
    known = UserPairs(train.data)
    _, index, mask = known.of_users(most=8, rng=rng)
    with torch.inference_mode():
        z = known.posterior(net, index, mask).mu[:64]
    a, b = (torch.from_numpy(part.response) for part in world.data.features)
    own = np.stack([np.flatnonzero(world.user == user) for user in range(100)])
    pool, targets = own[:, :30], own[:, 30:]
    asked = np.stack([p[choose_queries(net.head, a[p], b[p], 2, rng=rng, users=z, n_sets=500).pairs] for p in pool])

    def accuracy(context: np.ndarray) -> float:
        with torch.inference_mode():
            mu = users.posterior(net, context, np.ones_like(context, dtype=np.bool_)).mu
            r_a, r_b = users.rewards(net, targets.ravel(), mu.repeat_interleave(targets.shape[1], dim=0))
        return float((np.sign((r_a - r_b).numpy()) == world.sign[targets.ravel()]).mean())

    assert accuracy(asked) >= accuracy(pool[:, :4])
    assert is_controversial[asked].mean() >= 0.9


def test_information_by_hand() -> None:
    """Two users who answer one pair surely and differently, another alike: log 2 nats, and none."""
    margins = torch.tensor([[30.0, 30.0], [-30.0, 30.0]])
    found = answer_information(np.array([[0], [1]]), margins, rng=np.random.default_rng(0))
    assert found == pytest.approx([np.log(2), 0.0], abs=1e-6)
    many = torch.cat([margins[:, :1].expand(-1, 6), margins[:, 1:]], dim=1)
    drawn = answer_information(np.array([list(range(6)), [1, 2, 3, 4, 5, 6]]), many, rng=np.random.default_rng(0))
    assert drawn == pytest.approx([np.log(2)] * 2, abs=0.15)  # 50 drawn answers


def test_an_encoder_that_learned_nothing_gives_the_posterior_no_information() -> None:
    head = seeded(0, lambda: LatentUserHead(4, latent=2, hidden=8))
    with torch.no_grad():
        head.encoder.log_var.weight.zero_()
        head.encoder.log_var.bias.zero_()
    a, b = torch.randn(2, 5, 4)
    sets = np.array([[0, 1], [2, 3]])
    with torch.inference_mode():
        margins = answer_margins(head, a, b, torch.randn(7, 2))
        found = posterior_information(head, a, b, sets, margins, rng=np.random.default_rng(0))
    assert found == pytest.approx([0.0, 0.0], abs=1e-6)
    assert choose_queries(head, a, b, 2, rng=np.random.default_rng(0), how="posterior").n_sets == 10
    with pytest.raises(ValueError, match="pool of 5"):
        choose_queries(head, a, b, 6, rng=np.random.default_rng(0))


def test_kl_and_entropy_by_hand() -> None:
    found = Posterior(torch.tensor([[1.0, 0.0]]), torch.log(torch.tensor([[4.0, 1.0]])))
    assert found.kl().item() == pytest.approx(0.5 * (1 + 4 - np.log(4) - 1))
    assert found.entropy().item() == pytest.approx(np.log(2 * np.pi * np.e) + 0.5 * np.log(4), rel=1e-6)


def test_beta_rises() -> None:
    assert [beta_share(s, how="cosine", n_steps=4) for s in (2, 4, 100)] == pytest.approx([0.5, 1, 1])
    assert beta_share(1, how="none", n_steps=4) == 1
    assert [beta_share(s, how="cyclic", n_steps=4) for s in (4, 7, 10)] == pytest.approx([1, 1, 0.5])


def test_contexts_never_hold_what_they_predict() -> None:
    keys = ["p0", "p0", "p1", "p2", "p3", "p4"] * 2
    data = pair_data(
        *np.random.default_rng(0).normal(size=(2, 12, WIDTH)),
        np.ones(12, bool),
        keys=keys,
        raters=["x"] * 6 + ["y"] * 6,
    )
    users = UserPairs(data)
    index, mask = users.contexts(np.arange(12), least=1, most=8, rng=np.random.default_rng(0))
    for row, (found, real) in enumerate(zip(index, mask, strict=True)):
        for other in found[real]:
            assert data.raters[other] == data.raters[row]
            assert data.prompt_keys[other] != data.prompt_keys[row]
        assert len(set(found[real])) == real.sum() >= 1


def few(n: int, raters: list[str], keys: list[str] | None = None):
    return pair_data(*np.zeros((2, n, 2)), np.ones(n, bool), raters=raters, keys=keys)


def test_one_rater_is_refused_saying_why() -> None:
    with pytest.raises(JobError, match=r"One rater has pairs .* not identifiable") as caught:
        objective().choose(few(8, ["me"] * 8))
    assert "rater_key" in caught.value.hint
    with pytest.raises(JobError, match=r"No rater has .* 8 pairs without a rater"):
        objective().choose(few(8, [""] * 8))


def test_raters_with_too_few_pairs_are_left_out_and_counted() -> None:
    raters = ["x"] * 4 + ["y"] * 4 + ["z"] * 2 + [""]
    kept = objective().choose(few(11, raters))
    assert set(kept.raters) == {"x", "y"}
    assert kept.left_out == {"rater with too few prompts": 2, "no rater": 1}
    assert len(kept) == len(kept.targets.target) == 8
    assert kept.fingerprint != few(11, raters).fingerprint


def test_raters_without_overlap_are_warned_of(opposed) -> None:
    data = few(6, ["x"] * 3 + ["y"] * 3)
    assert shared_prompts(data) == 0
    assert shared_prompts(few(4, ["x", "x", "y", "y"], ["p", "q", "q", "r"])) == 0.5
    world, net = opposed
    shared, world.data.prompt_keys = world.data.prompt_keys, [str(i) for i in range(len(world.data))]
    told = latent_report(net, UserPairs(world.data), n_context=8, with_map=False)
    world.data.prompt_keys = shared
    assert "hardly overlap" in told["warnings"][0]


def test_maps_and_active_units() -> None:
    mu = np.random.default_rng(0).normal(size=(50, 5)) * [1, 0.5, 0.01, 0, 0]
    assert active_units(mu) == 2
    assert user_map(mu).shape == (50, 2)
    assert user_map(mu[:, :1]).shape == (50, 2)
    assert np.var(user_map(mu), axis=0)[0] == pytest.approx(mu[:, 0].var(), rel=0.05)


def test_contexts_of_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValidationError, match="min_context is larger"):
        objective(min_context=5, max_context=3)
