"""Goal states: the loss in closed form, where states are sampled, the goal that is kept, and voting by values."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.workers.making import LocalRun, make_pairs, turn
from tests.workers.progression_world import make_backbone, make_progressions, train_and_measure
from workers.errors import JobError, SpecError
from workers.families import FAMILIES
from workers.nn.checkpoints import load_weights
from workers.nn.goal_file import load_goal, save_goal
from workers.nn.goal_states import (
    GoalHead,
    contrastive_loss,
    goal_values,
    mean_last_state,
    sample_positive,
    sampled_cosines,
)
from workers.objectives import OBJECTIVES
from workers.specs import parse_spec
from workers.stats.partial_auroc import partial_auroc, reading_place
from workers.stats.pruned_voting import Sample, choose_tau, cut_at, pruned_voting, vote_is_right

GOAL = FAMILIES.get("goal_conditioned")
MODEL = {"backbone": "tiny-causal", "max_length": 128}


def trained(folder, pairs, *, family="goal_conditioned", model=MODEL, **spec):
    """The run, its result and its folder."""
    run = LocalRun(folder, pairs, model, family, spec.pop("checkpoints", {}))
    ctx = run.context()
    told = run.train(ctx, **{"objective": "goal_contrastive", "dtype": "float32", "keep": "last", **spec})
    return ctx, told, ctx.work_dir / "checkpoint"


def opened(path, model=MODEL, **options):
    return GOAL.open(parse_spec(GOAL.Config, model), path, **options)


# --- the loss


@pytest.mark.parametrize(
    ("preferred", "rejected", "expected"),
    [
        ([[1, 0, 0]], [[0, 1, 0]], None),
        ([[1, 0], [1, 0], [2, 0]], [[-1, 0], [-3, 0]], 0.626523),
    ],
)
def test_the_loss_of_hand_built_states(preferred, rejected, expected) -> None:
    states = [torch.tensor(rows, dtype=torch.float32) for rows in (preferred, rejected)]
    near, far = sampled_cosines(*states, m=16, rng=np.random.default_rng(0), variant="random", share_skipped=0)
    assert near.shape == far.shape == (16, 16)
    found = float(contrastive_loss(near, far))
    if expected is None:  # cosines 1 and 0
        expected = -math.log(1 / (1 + math.exp(-1))) + math.log(2)
    assert found == pytest.approx(expected, abs=1e-5)


def test_the_ends_of_the_loss() -> None:
    one, zero = torch.ones(2, 4, 4), torch.zeros(2, 4, 4)
    assert float(contrastive_loss(zero, zero)) == pytest.approx(1.386294, abs=1e-5)
    assert float(contrastive_loss(one, -one)) == pytest.approx(0.626523, abs=1e-5)
    assert float(contrastive_loss(-one, one)) == pytest.approx(2.626523, abs=1e-5)
    mixed = torch.cat([one, -one])  # the mean comes before the logarithm
    assert float(contrastive_loss(mixed, zero)) == pytest.approx(2 * math.log(2), abs=1e-5)
    assert float(-mixed.sigmoid().log().mean()) > math.log(2) + 0.1


@pytest.mark.parametrize(("variant", "shape"), [("random", (8, 8)), ("single", (8, 1)), ("average", (8, 1))])
def test_variants(variant, shape) -> None:
    rng = np.random.default_rng(0)
    preferred, rejected = (torch.randn(n, 6, generator=torch.Generator().manual_seed(n)) for n in (9, 4))
    near, far = sampled_cosines(preferred, rejected, m=8, rng=rng, variant=variant, share_skipped=0)
    assert near.shape == far.shape == shape
    if variant == "single":
        last = torch.cosine_similarity(preferred, preferred[-1:], dim=1)
        assert all(bool((last - value).abs().min() < 1e-6) for value in near.flatten())
        ends = torch.cosine_similarity(preferred, rejected[-1:], dim=1)
        assert all(bool((ends - value).abs().min() < 1e-6) for value in far.flatten())


# --- sampling


@pytest.mark.parametrize("n", [1, 2, 7, 12])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_sources_come_before_goals_and_lie_within_the_response(n, share) -> None:
    source, goal = sample_positive(n, 10_000, np.random.default_rng(n), share_skipped=share)
    assert (source <= goal).all()
    assert source.min() >= (n // 2 if share else 0)
    assert goal.max() == n - 1
    assert set(source) | set(goal) == set(range(n // 2 if share else 0, n))


def test_padding_is_never_sampled(tmp_path) -> None:
    _, _, path = trained(tmp_path, make_pairs(16), max_steps=1)
    scorer = opened(path)
    items = [([turn("user", "q")], [turn("assistant", "x" * n)]) for n in (3, 30, 11)]
    batch = scorer.encode(items)
    net = scorer.net.train()  # in training, a batch is padded
    with torch.no_grad():
        states = net.states(batch)
        left, mask = net._hidden(batch, "left")
        for own, padded, real, item in zip(states, left, mask, batch, strict=True):
            assert own.shape == (len(item), 32)
            torch.testing.assert_close(own, net.states([item])[0], atol=1e-5, rtol=0)
            torch.testing.assert_close(own, padded[real.bool()], atol=1e-5, rtol=0)
            assert len(own[len(item) - item.n_response :]) == item.n_response


# --- the real job


def test_the_goal_is_the_mean_last_state_of_preferred_training_responses(tmp_path) -> None:
    pairs = make_pairs(20)
    _, told, path = trained(tmp_path, pairs, validation_share=0)
    scorer = opened(path)
    by_hand = torch.zeros(32, dtype=torch.float64)
    with torch.inference_mode():
        for pair in pairs:
            [item] = scorer.encode([(pair.prompt, pair.chosen)])
            by_hand += scorer.net.states([item])[0][-1].double() / 20
    torch.testing.assert_close(scorer.net.head.goal.double(), by_hand, atol=1e-5, rtol=0)
    assert told["finished"]["goal"]["n_responses"] == told["n_train"] == 20


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_reload_gives_the_same_rewards_goal_and_values(tmp_path, head) -> None:
    pairs, model = make_pairs(24), {**MODEL, "head": head}
    ctx, told, path = trained(tmp_path, pairs, model=model, objective="auto")
    assert told["objective"] == "goal_contrastive"
    assert "contrastive_loss" in str(ctx.metrics)
    assert any("depends on the others in its batch" in str(line) for line in ctx.logs)
    first, again = (opened(path, model, per_token=True) for _ in range(2))
    assert (first.net.head.goal == load_weights(path / "weights.safetensors").tensors["head.goal"]).all()
    items = [(p.prompt, p.response_a) for p in pairs[:7]]
    one, two, plain = first.score(items), again.score(items), opened(path, model).score(items)
    np.testing.assert_allclose(one.values, two.values, atol=1e-6)
    np.testing.assert_allclose(one.values, plain.values, atol=1e-5)
    assert plain.parts is None
    for mine, other, (_, response) in zip(one.parts, two.parts, items, strict=True):
        assert mine == other
        tokens = mine["tokens"]
        assert "".join(t["text"] for t in tokens).removesuffix("[SEP]") == response[0]["content"]
        assert all(-1.000001 <= t["value"] <= 1.000001 for t in tokens)
    assert one.parts[0]["tokens"][-1]["reward"] == pytest.approx(one.values[0], abs=1e-5)
    [item] = first.encode(items[:1])
    with torch.inference_mode():
        states = first.net.states([item])[0][len(item) - item.n_response :]
    expected = goal_values(states, first.net.head.goal)
    np.testing.assert_allclose([t["value"] for t in one.parts[0]["tokens"]], expected.numpy(), atol=1e-5)


def test_the_term_moves_states_of_preferred_and_rejected_responses_apart(tmp_path) -> None:
    pairs = make_pairs(64)
    apart = {}
    for beta in (0.0, 2.0):
        _, _, path = trained(tmp_path / str(beta), pairs, objective_config={"beta": beta}, epochs=4)
        parts = opened(path, per_token=True).score([(p.prompt, r) for p in pairs for r in (p.chosen, p.rejected)]).parts
        means = np.array([np.mean([t["value"] for t in part["tokens"]]) for part in parts]).reshape(-1, 2)
        apart[beta] = float((means[:, 0] - means[:, 1]).mean())
    assert apart[2.0] > apart[0.0] + 0.5


def test_empty_responses_are_left_out_by_name(tmp_path) -> None:
    pairs = make_pairs(20)
    pairs[3] = replace(pairs[3], response_b=[turn("assistant", " ")])
    ctx, told, _ = trained(tmp_path, pairs, max_steps=1)
    assert told["left_out"] == {"empty response": 1}
    assert any("pair-3" in str(line) for line in ctx.logs)
    ties = [replace(pair, verdict="tie") for pair in pairs]
    with pytest.raises(JobError, match="19 tie"):
        trained(tmp_path / "ties", ties)


def test_what_cannot_have_a_goal_says_so(tmp_path) -> None:
    pairs = make_pairs(16)
    _, told, _ = trained(tmp_path / "plain", pairs, family="scalar_head", max_steps=1)
    assert any("goal_conditioned" in line for line in told["finished"]["warnings"])
    with pytest.raises(JobError, match="leaves frozen"):
        trained(tmp_path / "frozen", pairs, family="scalar_head", freeze_backbone=True)
    with pytest.raises(SpecError, match=r"hidden states|stored features|head that can be trained"):
        trained(tmp_path / "own", pairs, freeze_backbone=True)
    with pytest.raises(SpecError, match="hidden states"):
        trained(tmp_path / "implicit", pairs, family="autoregressive")
    with pytest.raises(JobError, match="causal"):
        trained(tmp_path / "encoder", pairs, model={"backbone": "tiny-encoder"})
    _, _, path = trained(tmp_path / "bt", pairs, objective="bradley_terry", max_steps=1)
    scorer = opened(path, per_token=True)
    assert not scorer.net.head.has_goal
    assert scorer.score([(pairs[0].prompt, pairs[0].response_a)]).parts[0]["tokens"][0]["value"] is None


def test_a_goal_does_not_outlive_its_weights(tmp_path) -> None:
    pairs = make_pairs(16)
    ctx, told, path = trained(tmp_path / "1", pairs, max_steps=2)
    more = {"start_from": told["checkpoint"], "checkpoints": ctx.checkpoints, "max_steps": 2}
    _, _, after = trained(tmp_path / "2", pairs, objective="bradley_terry", **more)
    assert not opened(after).net.head.has_goal
    scorer = opened(path)
    goal = mean_last_state(scorer.net, scorer.encode([(p.prompt, p.chosen) for p in pairs[:4]]), budget=2048)
    file = tmp_path / "helpful.safetensors"
    save_goal(file, goal, path)
    assert (load_goal(file, path, width=32) == goal).all()
    assert (opened(path, per_token=True, goal=file).net.head.goal == goal).all()
    with pytest.raises(JobError, match="other weights"):
        opened(after, goal=file)
    save_goal(file, goal[:8], path)
    with pytest.raises(JobError, match="has 8 numbers, the model's states 32"):
        opened(path, goal=file)
    file.write_bytes(b"no")
    with pytest.raises(JobError, match="not a goal state"):
        opened(path, goal=file)
    with pytest.raises(ValueError, match="there are none"):
        mean_last_state(scorer.net, [], budget=64)


def test_a_head_begins_as_the_method_says() -> None:
    torch.manual_seed(0)
    head, deep = GoalHead(400), GoalHead(400, shape="mlp")
    assert [name for name, _ in head.named_parameters()] == ["layers.0.weight"]
    assert float(head.layers[0].weight.detach().std()) == pytest.approx(1 / 401, rel=0.15)
    shapes = [tuple(p.shape) for name, p in deep.named_parameters() if name.endswith("weight")]
    assert shapes == [(200, 400), (200, 200), (400, 200), (1, 400)]
    assert deep.layers[-1].bias is None
    assert "head.goal" not in dict(head.named_parameters())
    assert OBJECTIVES.get("goal_contrastive").is_batch_coupled


# --- reading early


def test_partial_auroc_reads_the_token_after_each_share() -> None:
    assert [reading_place(10, share) for share in (0, 0.1, 0.25, 1)] == [0, 0, 1, 9]
    assert reading_place(1, 0.5) == 0
    rewards = [np.array([0.0, 0, 5, 5]), np.array([0.0, 0, 1]), np.array([0.0, 1, 2, 3, 4])]
    found = partial_auroc(rewards, np.array([True, False, False]), shares=(0, 0.75, 1))
    assert found == [0.5, 1.0, 1.0]
    assert len(partial_auroc(rewards, np.array([True, True, False]))) == 11
    assert math.isnan(partial_auroc(rewards, np.array([True] * 3), shares=[1])[0])
    with pytest.raises(ValueError, match="one token"):
        partial_auroc([np.array([])], np.array([True]))
    with pytest.raises(ValueError, match="shares"):
        partial_auroc(rewards, np.array([True, True, False]), shares=[1.5])


# --- voting


def made_samples(n: int, *, seed: int, right: float = 0.55, k: int = 15):
    """Samples of 40 tokens; values of a wrong one fall at a random token, those of a right one scarcely ever."""
    rng = np.random.default_rng(seed)
    questions, truths = [], []
    for _ in range(n):
        samples = []
        for _ in range(k):
            is_right = rng.random() < right
            values = rng.normal(0.5, 0.1, 40)
            if not is_right:
                values[int(rng.integers(0, 40)) :] -= 0.7
            samples.append(Sample("7" if is_right else str(rng.integers(1, 7)), values.clip(-1, 1)))
        questions.append(samples)
        truths.append("7")
    return questions, truths


def test_pruning_saves_tokens_at_little_loss() -> None:
    tau = choose_tau(*made_samples(60, seed=0), taus=np.linspace(-0.5, 0.5, 21).tolist())
    told = pruned_voting(*made_samples(200, seed=1), tau=tau)
    print(told, tau)
    assert told.tokens_saved >= 0.20
    assert told.accuracy >= told.plain_accuracy - 0.01
    assert told.survivors_correct > told.all_correct + 0.1
    assert told.p_value < 1e-6
    nothing = pruned_voting(*made_samples(200, seed=1), tau=-1)
    assert (nothing.cut, nothing.tokens_saved, nothing.n_all_cut) == (0, 0, 0)
    assert nothing.accuracy == nothing.plain_accuracy
    assert nothing.as_json()["p_value"] is None


def test_voting_by_hand() -> None:
    high, low = np.full(10, 0.5), np.array([-1.0] * 5 + [0.5, 0.5, -0.1, -1, -1])
    assert cut_at(high, 0.0) is None
    assert cut_at(low, 0.0) == 7  # the first five tokens do not count
    assert cut_at(low, 0.0, skipped=0) == 0
    told = pruned_voting([[Sample("x", high), Sample("y", low), Sample("y", low)]], ["x"])
    assert (told.accuracy, told.plain_accuracy) == (1.0, 0.0)
    assert (told.cut, told.tokens_saved) == (pytest.approx(2 / 3), pytest.approx(6 / 30))
    all_cut = pruned_voting([[Sample("x", low), Sample("x", low)]], ["x"])
    assert (all_cut.accuracy, all_cut.cut, all_cut.tokens_saved, all_cut.n_all_cut) == (1.0, 1.0, 0.0, 1)
    assert not vote_is_right(["x", "y"], "x")
    assert vote_is_right(["x", "y"], "x", ties="right")
    assert not vote_is_right([None, None, None], "x", ties="right")
    assert vote_is_right([None, None, "x"], "x")
    for questions, truths, why in (([], [], "one truth each"), ([[]], ["x"], "with samples")):
        with pytest.raises(ValueError, match=why):
            pruned_voting(questions, truths)
    with pytest.raises(ValueError, match="not finite"):
        pruned_voting([[Sample("x", np.array([math.nan]))]], ["x"])


# --- what it learns


@pytest.mark.slow
def test_values_fall_where_a_progression_goes_wrong(tmp_path) -> None:
    pairs, _ = make_progressions(4000, seed=0)
    test = make_progressions(200, seed=1)
    backbone = make_backbone(tmp_path / "lm", pairs)
    found = {beta: train_and_measure(tmp_path / str(beta), backbone, pairs, test, beta=beta) for beta in (2.0, 0.0)}
    print(found)
    assert min(one["whole"] for one in found.values()) >= 0.9
    assert found[2.0]["whole"] >= found[0.0]["whole"] - 0.02
    assert found[2.0]["tokens"] >= 0.8 > found[0.0]["tokens"]
